"""Throwing away a request that was refused."""

from __future__ import annotations

import sys

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from proxyd.wire.pg.errors import PgProtocolError
from proxyd.wire.pg.skip import BatchSkip
from tests.wire.cuts import cut, one_by_one, places
from tests.wire.pg.model_server import message

SYNC, TERMINATE = message("S"), message("X")
EXTENDED = message("P", b"\0select 1\0\0\0") + message("B", bytes(8)) + message("E", bytes(5))
QUERY = message("Q", b"select 1\0")

rest = st.binary(max_size=40)


def skipped(chunks: list[bytes]) -> tuple[bool, bool, bytes]:
    """Hand in chunks up to the end of the request: done, terminated, and what came behind it."""
    skip = BatchSkip()
    for number, chunk in enumerate(chunks):
        skip.receive_data(chunk)
        if skip.done:
            return True, skip.terminated, skip.trailing_data + b"".join(chunks[number + 1 :])
    return False, skip.terminated, skip.trailing_data


class BatchSkipTests(SynchronousTestCase):
    """As PostgreSQL itself does when it has said no."""

    def all_cuts(self, data: bytes, where: list[int]) -> tuple[bool, bool, bytes]:
        """The one outcome of all cuts."""
        whole = skipped([data])
        for chunks in (cut(data, where), one_by_one(data)):
            self.assertEqual(skipped(chunks), whole)
        return whole

    @given(st.sampled_from("QF"), st.binary(max_size=40), rest, places)
    def test_simple(self, kind: str, body: bytes, behind: bytes, where: list[int]) -> None:
        """A Query or FunctionCall is one message; what comes behind it is kept."""
        data = message(kind, body) + behind
        self.assertEqual(self.all_cuts(data, where), (True, False, behind))

    @given(st.lists(st.sampled_from("PBDECHQFdcf"), max_size=6), rest, places)
    def test_extended(self, kinds: list[str], behind: bytes, where: list[int]) -> None:
        """An extended batch goes on to its Sync, whatever stands in it: a Query too."""
        batch = EXTENDED + b"".join(message(kind, b"body") for kind in kinds)
        outcome = self.all_cuts(batch + SYNC + behind, where)
        self.assertEqual(outcome, (True, False, behind))
        self.assertEqual(self.all_cuts(batch, where), (False, False, b""))

    @given(st.sampled_from((b"", EXTENDED, QUERY[:0])), rest, places)
    def test_terminated(self, begun: bytes, behind: bytes, where: list[int]) -> None:
        """A client that says goodbye instead is done; what it says after it is not looked at."""
        done, terminated, _ = self.all_cuts(begun + TERMINATE, where)
        self.assertEqual((done, terminated), (True, True))
        skip = BatchSkip()
        skip.receive_data(begun + TERMINATE + behind)
        self.assertEqual((skip.done, skip.terminated), (True, True))

    @given(st.lists(st.sampled_from("dcf"), min_size=1, max_size=4), places)
    def test_late_copy_data(self, kinds: list[str], where: list[int]) -> None:
        """What a client still sends of a COPY that failed makes no batch of a Query."""
        late = b"".join(message(kind, b"data") for kind in kinds)
        self.assertEqual(self.all_cuts(late + QUERY + SYNC, where), (True, False, SYNC))

    def test_sync_alone(self) -> None:
        """A Sync is a whole request."""
        self.assertEqual(skipped([SYNC + QUERY]), (True, False, QUERY))

    def test_impossible_length(self) -> None:
        """A length that can't be breaks the protocol."""
        for length in (0, 3, -1):
            data = b"Q" + length.to_bytes(4, "big", signed=True)
            self.assertRaises(PgProtocolError, BatchSkip().receive_data, data)

    def test_no_growth(self) -> None:
        """Of a long message nothing is kept."""
        skip = BatchSkip()
        skip.receive_data(b"Q" + (2**30).to_bytes(4, "big"))
        for _ in range(100):
            skip.receive_data(bytes(65536))
        kept = sum(sys.getsizeof(value) for value in vars(skip).values())
        self.assertLess(kept, 2000)
        self.assertFalse(skip.done)

    @given(st.lists(st.binary(max_size=20), max_size=20))
    def test_noise(self, chunks: list[bytes]) -> None:
        """Noise breaks the protocol, or is skipped; it raises nothing else."""
        try:
            skipped(chunks)
        except PgProtocolError as error:
            self.assertEqual(error.sqlstate, "08P01")
