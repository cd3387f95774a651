"""Tests for L{proxyd.postgres.cancel}."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from proxyd.postgres.cancel import LONG_KEY, SHORT_KEY, CancelKeys


class Session:
    """Whoever has a key."""

    cancel_key = b""


class CancelKeysTests(SynchronousTestCase):
    """A key stops its own session's statement, and nobody else's."""

    def setUp(self) -> None:
        self.keys: CancelKeys[Session] = CancelKeys()

    def test_found(self) -> None:
        """A session is found by its own number and secret."""
        ann = Session()
        pid, key = self.keys.issue(ann)
        self.keys.issue(Session())
        self.assertIs(self.keys.find(pid, key), ann)

    def test_shape(self) -> None:
        """The number is positive in 31 bits and never 0; the secret has protocol 3.0's length."""
        for _ in range(200):
            pid, key = self.keys.issue(Session())
            self.assertTrue(0 < pid < 2**31)
            self.assertEqual(len(key), SHORT_KEY)

    def test_node(self) -> None:
        """A node's number is in its keys; a key of another node's is known for that."""
        alone, _ = self.keys.issue(Session())
        self.assertFalse(self.keys.elsewhere(alone ^ 1 << 25))
        for number in (1, 512, 1023):
            self.keys.node = number
            pid, key = self.keys.issue(Session())
            self.assertTrue(0 < pid < 2**31)
            self.assertEqual(self.keys.node_of(pid), number)
            self.assertIsNotNone(self.keys.find(pid, key))
            self.assertFalse(self.keys.elsewhere(pid))
            self.assertTrue(self.keys.elsewhere((number ^ 3) << 21 | 5))
        self.assertFalse(self.keys.elsewhere(alone), "it was issued before the number was known")

    def test_long(self) -> None:
        """A client of protocol 3.2 has a long secret, and must show all of it."""
        ann = Session()
        pid, key = self.keys.issue(ann, LONG_KEY)
        self.assertEqual(len(key), 32)
        self.assertIs(self.keys.find(pid, key), ann)
        for guess in (key[:4], key[:-1], key + b"\0", bytes(32)):
            self.assertIsNone(self.keys.find(pid, guess))

    def test_unique(self) -> None:
        """No two living sessions have the same number, and secrets don't repeat."""
        issued = [self.keys.issue(Session()) for number in range(2000)]
        self.assertEqual(len({pid for pid, _ in issued}), 2000)
        self.assertEqual(len(self.keys), 2000)
        # Of 2,000 random 32-bit numbers more than a handful of equal ones means a bad source.
        self.assertGreater(len({key for _, key in issued}), 1990)

    def test_no_pattern(self) -> None:
        """Neither part follows from the one before: each bit is set about as often as not."""
        issued = [self.keys.issue(Session()) for number in range(2000)]
        for bits in (
            [pid for pid, _ in issued],
            [int.from_bytes(key, "big") for _, key in issued],
        ):
            for bit in range(31):
                share = sum(number >> bit & 1 for number in bits)
                # Nine standard deviations: chance does not fail this.
                self.assertTrue(800 < share < 1200, (bit, share))

    def test_wrong_secret(self) -> None:
        """A right number with another secret finds nobody, of whatever length it is."""
        pid, key = self.keys.issue(Session())
        wrong = bytes((key[0] ^ 1,)) + key[1:]
        for guess in (wrong, b"", key[:3], key + b"\0", key * 64):
            self.assertIsNone(self.keys.find(pid, guess))

    def test_secret_of_another(self) -> None:
        """One session's secret with another's number finds nobody."""
        one, _ = self.keys.issue(Session())
        _, other = self.keys.issue(Session())
        self.assertIsNone(self.keys.find(one, other))

    def test_forgotten(self) -> None:
        """A session that is over can't be cancelled; forgetting twice is no fault."""
        pid, key = self.keys.issue(Session())
        self.keys.forget(pid)
        self.keys.forget(pid)
        self.assertIsNone(self.keys.find(pid, key))
        self.assertEqual(len(self.keys), 0)

    @given(st.integers(-(2**31), 2**31 - 1), st.binary(max_size=256))
    def test_noise(self, pid: int, key: bytes) -> None:
        """Whatever is guessed, nobody is found where there is nobody."""
        self.assertIsNone(self.keys.find(pid, key))
