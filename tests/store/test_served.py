"""
Tests of L{proxyd.store.served}, beyond what the contract of all stores says.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from proxyd.records import Change, Kind
from proxyd.store.served import ServedStore


class TellTests(SynchronousTestCase):
    """Who hears of changes."""

    def test_tell(self) -> None:
        """Everybody who watches, of each change, in its order."""
        store = ServedStore()
        first: list[Change] = []
        second: list[Change] = []
        store.watch(first.append)
        store.watch(second.append)
        changes = [Change(Kind.AGENT, "a", None), Change(Kind.AGENT, "b", None)]
        store.tell(changes)
        self.assertEqual((first, second), (changes, changes))
        self.assertEqual(store.silent_for(), 0.0)
