"""
Damaged streams cut at every single border: the scanner and the flow see the same.

How many there are is said by L{tests.fuzz.dice}; a stream that was cut at one
place is one.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

from twisted.trial.unittest import SynchronousTestCase

from proxyd.wire.pg.flow import Flow
from tests.fuzz.dice import CASES, CLIENT_TALK, SERVER_TALK, Dice
from tests.support.seeds import printed_seed
from tests.wire.cuts import one_by_one
from tests.wire.pg.test_scanner import TABLE, Watched

INPUTS = max(10_000, CASES)
OWN_TALK = (
    b"p\0\0\0\x09hello" + b"h\0\0\0\4" + b"b\0\0\0\x20" + bytes(28) + b"z\0\0\0\5I",
    b"d\0\0\0\x06xx" * 2 + b"m\0\0\0\4" + b"x\0\0\0\4" + b"b\0\0\0\5y",
)
"""Messages of L{TABLE}'s kinds."""


def cuts(data: bytes) -> Iterator[list[bytes]]:
    """The stream cut at each place, and at all of them."""
    for at in range(1, len(data)):
        yield [data[:at], data[at:]]
    yield one_by_one(data)


class BorderTests(SynchronousTestCase):
    """However TCP cuts a stream, good or bad, what comes of it is the same."""

    def test_scanner(self) -> None:
        """The same is told, and the same is sent on."""
        left, seed = INPUTS, printed_seed(self.id())
        while left > 0:
            dice = Dice(random.Random(seed))
            data = dice.damaged(OWN_TALK) + dice.damaged(OWN_TALK)
            whole = scanned([data])
            for chunks in cuts(data):
                self.assertEqual(scanned(chunks), whole, f"PROXYD_SEED={seed} {chunks}")
                left -= 1
            seed += 1

    def test_flow(self) -> None:
        """The same is owed, and doubted."""
        left, seed = INPUTS, printed_seed(self.id())
        while left > 0:
            dice = Dice(random.Random(seed))
            asked, said = dice.damaged(CLIENT_TALK), dice.damaged(SERVER_TALK)
            whole = flowed([asked], [said])
            for chunks in cuts(said):
                self.assertEqual(flowed([asked], chunks), whole, f"PROXYD_SEED={seed} {chunks}")
                left -= 1
            for chunks in cuts(asked):
                self.assertEqual(flowed(chunks, [said]), whole, f"PROXYD_SEED={seed} {chunks}")
                left -= 1
            seed += 1


def scanned(chunks: list[bytes]) -> tuple[object, ...]:
    """What a scanner makes of these chunks."""
    watched = Watched(TABLE)
    watched.feed(chunks)
    scanner = watched.scanner
    # The rest of a message that is not whole may be told of, or not yet.
    return watched.events, scanner.last, scanner.stopped, str(scanner.error), watched.sent


def flowed(asked: list[bytes], said: list[bytes]) -> tuple[object, ...]:
    """What a flow makes of what was asked, and then said."""
    told: list[bytes] = []
    flow = Flow(told.append, told.append)
    for scanner, chunks in ((flow.client, asked), (flow.server, said)):
        held = b""
        for chunk in chunks:
            data = held + chunk
            allowed = scanner.scan(data, len(data))
            held = b"" if scanner.stopped else data[allowed:]
    return (
        repr(flow), flow.copying, flow.batch_open, flow.answered, flow.at_rest, flow.ready_count,
        flow.alert, told, str(flow.client.error), str(flow.server.error),
    )  # fmt: skip
