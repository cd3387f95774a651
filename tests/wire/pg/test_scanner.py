"""Message borders, in chunks cut anywhere."""

from __future__ import annotations

import sys

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from proxyd.wire.pg.scanner import (
    BODY,
    DATA,
    HEADER,
    MARK,
    PASS,
    READY,
    REFUSE,
    STOP,
    Scanner,
    mask,
)
from tests.wire.cuts import cut, one_by_one, places

LIMIT = 20
TABLE = mask({"p": PASS, "d": DATA, "m": MARK, "h": HEADER, "b": BODY, "z": READY, "x": STOP})
KINDS = "pdmhbz"

Event = tuple[object, ...]
messages = st.lists(st.tuples(st.sampled_from(KINDS), st.binary(max_size=LIMIT + 10)), max_size=12)


def encode(kind: str, body: bytes = b"") -> bytes:
    """One message as it stands on the wire."""
    return kind.encode() + (len(body) + 4).to_bytes(4, "big") + body


class Watched:
    """A scanner that is fed as the link feeds it, with all that it told."""

    def __init__(self, table: bytes = TABLE) -> None:
        self.events: list[Event] = []
        self.sent = b""
        self.held = b""
        self.scanner = Scanner("frontend", table, self.message, self.stop, LIMIT, self.ready)

    def message(self, kind: int, body: bytes, length: int) -> None:
        """A message that was asked for."""
        self.events.append((chr(kind), bytes(body), length, self.scanner.last))

    def ready(self, status: int) -> None:
        """A READY message: told the same, whichever way it came."""
        self.events.append(("z", bytes((status,)), 1, self.scanner.last))

    def stop(self) -> None:
        """The scan stopped."""
        self.events.append(("stopped",))

    def feed(self, chunks: list[bytes], buffer: bool = False) -> None:
        """Hand in chunks; what may not be sent on yet goes in front of the next one."""
        for chunk in chunks:
            data = self.held + chunk
            # The link hands in its whole buffer, whatever stands behind the bytes that count.
            given = memoryview(data + b"xxxxxxxxxx") if buffer else data
            allowed = self.scanner.scan(given, len(data))
            self.sent += data[:allowed]
            self.held = data[allowed:]


class CutTests(SynchronousTestCase):
    """However TCP cuts the stream, the events are the same."""

    @given(messages, st.binary(max_size=4), places, st.booleans())
    def test_cuts(
        self, sent: list[tuple[str, bytes]], rest: bytes, where: list[int], buffer: bool
    ) -> None:
        """The same events with the same C{last}, and the same bytes sent on, at every cut."""
        wanted: list[Event] = []
        last = 0
        for kind, body in sent:
            if kind in "mhz" or kind == "b":
                start = b"" if kind in "mh" else body[:LIMIT]
                wanted.append((kind, start, len(body), last))
            if kind not in "dm":
                last = ord(kind)
        data = b"".join(encode(*message) for message in sent)
        rest = rest.replace(b"x", b"p")
        for chunks in ([data + rest], cut(data + rest, where), one_by_one(data + rest)):
            watched = Watched()
            watched.feed(chunks, buffer)
            self.assertEqual(watched.events, wanted)
            self.assertEqual((watched.sent, watched.held), (data, rest))
            self.assertEqual(watched.scanner.last, last)
            self.assertTrue(watched.scanner.at_border)
            self.assertIsNone(watched.scanner.error)

    @given(messages, st.sampled_from("xq"), st.binary(max_size=10), places)
    def test_stop(
        self, sent: list[tuple[str, bytes]], kind: str, body: bytes, where: list[int]
    ) -> None:
        """At a STOP or REFUSE kind all before it is sent on, and nothing from it on."""
        data = b"".join(encode(*message) for message in sent)
        rest = encode(kind, body) + encode("h") + encode("q")
        before = Watched()
        before.feed([data])
        for chunks in ([data + rest], cut(data + rest, where), one_by_one(data + rest)):
            watched = Watched()
            watched.feed(chunks)
            self.assertEqual(watched.events, [*before.events, ("stopped",)])
            self.assertEqual((watched.sent, watched.held), (data, rest))
            self.assertTrue(watched.scanner.stopped)
            self.assertEqual(watched.scanner.error is None, kind == "x")

    @given(st.lists(st.binary(max_size=30), max_size=30))
    def test_noise(self, chunks: list[bytes]) -> None:
        """Noise raises nothing; once stopped, nothing more is sent on or told."""
        watched = Watched()
        watched.feed(chunks)
        if watched.scanner.stopped:
            sent, count = watched.sent, len(watched.events)
            watched.feed([encode("h"), b"", encode("b", b"body")])
            self.assertEqual((watched.sent, len(watched.events)), (sent, count))
            self.assertEqual(watched.events.count(("stopped",)), 1)


class ErrorTests(SynchronousTestCase):
    """What may not come is never sent on."""

    def test_refused(self) -> None:
        """An unknown kind is named in PostgreSQL's words."""
        watched = Watched()
        watched.feed([encode("p") + encode("q")])
        self.assertEqual(str(watched.scanner.error), "invalid frontend message type 113")
        assert watched.scanner.error is not None
        self.assertEqual(watched.scanner.error.sqlstate, "08P01")

    def test_impossible_length(self) -> None:
        """A length below four, or below nought, is refused, of a STOP kind too."""
        for length in (0, 3, -1, -(2**31)):
            for kind in "phbzdx":
                watched = Watched()
                watched.feed([kind.encode() + length.to_bytes(4, "big", signed=True)])
                self.assertEqual(str(watched.scanner.error), "invalid message length")
                self.assertEqual(watched.sent, b"")

    def test_longest(self) -> None:
        """A message of 2 GB is passed, with nothing of it kept but what was asked for."""
        for kind in "pb":
            watched = Watched()
            watched.feed([kind.encode() + (2**31 - 1).to_bytes(4, "big")])
            for _ in range(50):
                watched.feed([bytes(65536)])
            self.assertFalse(watched.scanner.at_border)
            self.assertEqual(watched.events, [("b", bytes(LIMIT), 2**31 - 5, 0)] * (kind == "b"))
            kept = watched.scanner._body
            self.assertLess(sys.getsizeof(kept), 1000)


class MaskTests(SynchronousTestCase):
    """What a mask says."""

    def test_default(self) -> None:
        """Every kind that is not named gets the default."""
        table = mask({"ab": PASS}, STOP)
        self.assertEqual(len(table), 256)
        self.assertEqual((table[ord("a")], table[ord("b")], table[0]), (PASS, PASS, STOP))
        self.assertEqual(mask({})[7], REFUSE)

    def test_exchanged_by_the_receiver(self) -> None:
        """A mask set by the receiver of a message counts from the next one on, in one chunk too."""
        other = mask({"p": HEADER, "h": PASS})
        for chunks in (1, 2):
            watched = Watched()

            def exchange(kind: int, body: bytes, length: int, watched: Watched = watched) -> None:
                watched.message(kind, body, length)
                watched.scanner.mask = other

            watched.scanner._on_message = exchange
            data = encode("p") + encode("b", b"body") + encode("p") + encode("h")
            watched.feed([data] if chunks == 1 else one_by_one(data))
            self.assertEqual([event[0] for event in watched.events], ["b", "p"])
            self.assertFalse(watched.scanner.stopped)
