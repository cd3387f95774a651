"""
Damaged streams cut at every single border: the machines see the same.

How many there are is said by L{tests.fuzz.dice}; a stream that was cut at one
place is one.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

from twisted.trial.unittest import SynchronousTestCase

from proxyd.errors import ProtocolError
from proxyd.wire.pg.flow import Flow
from proxyd.wire.pg.framing import MessageReader
from proxyd.wire.pg.skip import BatchSkip
from proxyd.wire.pg.startup import ClientStartup, StartupState
from proxyd.wire.proxy_protocol import ProxyHeader
from tests.fuzz.dice import CASES, CLIENT_TALK, SERVER_TALK, Dice
from tests.fuzz.test_wire_fuzz import FIRST_PACKETS, PROXY_HEADERS
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

    def every_border(
        self, corpus: tuple[bytes, ...], heard: Callable[[list[bytes]], object]
    ) -> None:
        """What is heard of a damaged stream is the same, wherever it is cut."""
        left, seed = INPUTS, printed_seed(self.id())
        while left > 0:
            data = Dice(random.Random(seed)).damaged(corpus)
            whole = heard([data])
            for chunks in cuts(data):
                self.assertEqual(heard(chunks), whole, f"PROXYD_SEED={seed} {chunks}")
                left -= 1
            # A stream of one byte has no border.
            left -= 1
            seed += 1

    def test_message_reader(self) -> None:
        """The same messages are read, and the same is wrong with the next one."""

        def heard(chunks: list[bytes]) -> object:
            reader = MessageReader(100)
            found: list[object] = []
            try:
                for chunk in chunks:
                    reader.feed(chunk)
                    while (message := reader.next_message()) is not None:
                        found.append(message)
            except ProtocolError as error:
                return found, str(error)
            return found, reader.trailing_data

        self.every_border(CLIENT_TALK, heard)

    def test_batch_skip(self) -> None:
        """The same is thrown away."""

        def heard(chunks: list[bytes]) -> object:
            skip = BatchSkip()
            for number, chunk in enumerate(chunks):
                try:
                    skip.receive_data(chunk)
                except ProtocolError as error:
                    return str(error)
                if skip.done:
                    rest = b"".join((skip.trailing_data, *chunks[number + 1 :]))
                    return skip.terminated or rest
            return None

        self.every_border(CLIENT_TALK, heard)

    def test_client_startup(self) -> None:
        """The same is asked for, or refused, up to the first answer of ours."""

        def heard(chunks: list[bytes]) -> object:
            startup = ClientStartup()
            for number, chunk in enumerate(chunks):
                try:
                    events = startup.receive_data(chunk)
                except ProtocolError as error:
                    # What comes before our answer may come together with the request.
                    early = str(error).startswith("received unencrypted data")
                    return "asked" if early else str(error)
                if startup.state is StartupState.ASKED:
                    return "asked"
                if events:
                    return events, b"".join((startup.trailing_data, *chunks[number + 1 :]))
            return None

        self.every_border(FIRST_PACKETS, heard)

    def test_proxy_header(self) -> None:
        """The same address is announced."""

        def heard(chunks: list[bytes]) -> object:
            header = ProxyHeader()
            for number, chunk in enumerate(chunks):
                try:
                    address = header.receive_data(chunk)
                except ProtocolError as error:
                    return type(error)
                if address is not None:
                    return address, b"".join((header.trailing_data, *chunks[number + 1 :]))
            return None

        self.every_border(PROXY_HEADERS, heard)


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
