"""
Tests of L{proxyd.store.seal}.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from proxyd.store.seal import Seal, Unsealed


class SealTests(SynchronousTestCase):
    """Secrets at rest."""

    def test_there_and_back(self) -> None:
        """A secret comes back under the same key and context; it is never sealed twice alike."""
        seal = Seal(b"a key")
        first, second = seal.close(b"hunter2", "dsn"), seal.close(b"hunter2", "dsn")
        self.assertNotEqual(first, second)
        self.assertNotIn(b"hunter2", first)
        self.assertEqual(Seal(b"a key").open(first, "dsn"), b"hunter2")

    def test_refused(self) -> None:
        """Another key, another context, a changed byte, or too few: not opened."""
        sealed = Seal(b"a key").close(b"hunter2", "dsn")
        changed = sealed[:-1] + bytes([sealed[-1] ^ 1])
        for key, data, context in (
            (b"another", sealed, "dsn"),
            (b"a key", sealed, "other dsn"),
            (b"a key", changed, "dsn"),
            (b"a key", sealed[:9], "dsn"),
            (b"a key", b"\x02" + sealed[1:], "dsn"),
            (b"a key", b"", "dsn"),
        ):
            with self.assertRaises(Unsealed):
                Seal(key).open(data, context)
