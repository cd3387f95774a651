"""
Tests of L{proxyd.store.memory}.
"""

from __future__ import annotations

from proxyd.interfaces import IStore
from proxyd.store.memory import MemoryStore
from tests.store.contract import StoreContract


class MemoryStoreTests(StoreContract):
    """The store in memory keeps the contract."""

    def make(self) -> IStore:
        """A fresh one."""
        return MemoryStore()


# trial would run the contract by itself, without a store.
del StoreContract
