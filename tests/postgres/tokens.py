"""
Tokens for the tests of the PostgreSQL room: real ones, of a store in memory.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock

from proxyd.auth.issued import OwnSecret
from proxyd.auth.tokens import Tokens
from proxyd.config.token_settings import TokenSettings
from proxyd.store.memory import MemoryStore

SECRET = b"a secret of thirty-two bytes or more"


def known_tokens(clock: Any = None, store: MemoryStore | None = None) -> Tokens:
    """A service of tokens for the connections C{shop} and C{orders}, loaded, not started."""
    clock = Clock() if clock is None else clock
    store = MemoryStore() if store is None else store
    store.open()
    tokens = Tokens(clock, store, OwnSecret(SECRET), TokenSettings(), lambda: ["shop", "orders"])
    tokens.load()
    return tokens
