"""
Cancel keys: what a client must show to stop its own statement, and nobody else's.

Keys are proxyd's own; a server's never reach a client (protocol chapter,
"Canceling Requests in Progress").
"""

from __future__ import annotations

import hmac
import os
from typing import Generic, Protocol, TypeVar

SHORT_KEY = 4
"""Bytes of a key in protocol 3.0, which knows no other length."""

LONG_KEY = 32
"""Bytes of a key from protocol 3.2 on, as many as PostgreSQL 18 makes of it."""


_NODE_SHIFT = 21
_NODES = 1023


class Cancellable(Protocol):
    """Whoever has a key: keeps its secret half, and shows it nowhere."""

    cancel_key: bytes


S = TypeVar("S", bound=Cancellable)


class CancelKeys(Generic[S]):
    """
    The keys of all live sessions.

    A key is found by its process number, and its secret is compared in
    constant time, also where there is no such number.

    @ivar node: this node's number among those that share a store, which new
        keys carry in their highest bits; 0: it is alone
    """

    def __init__(self) -> None:
        self.node = 0
        self._sessions: dict[int, S] = {}
        self._nobody = os.urandom(LONG_KEY)

    def __len__(self) -> int:
        return len(self._sessions)

    def issue(self, session: S, length: int = SHORT_KEY) -> tuple[int, bytes]:
        """
        A key for a session, valid until L{forget}.

        @param length: bytes of the secret, by the protocol that the client speaks
        @return: a process number (31 bits, never 0) and the secret; both are
            random, and neither may be logged
        """
        pid = 0
        while not pid or pid in self._sessions:
            random = os.urandom(4 + length)
            pid = int.from_bytes(random[:4], "big") & 0x7FFFFFFF
            if self.node:
                pid = self.node << _NODE_SHIFT | pid & (1 << _NODE_SHIFT) - 1
        session.cancel_key = random[4:]
        self._sessions[pid] = session
        return pid, session.cancel_key

    def find(self, pid: int, key: bytes) -> S | None:
        """Whose key this is; None: nobody's."""
        session = self._sessions.get(pid)
        expected = self._nobody if session is None else session.cancel_key
        return session if hmac.compare_digest(expected, key) else None

    def node_of(self, pid: int) -> int:
        """The node that a key's number names."""
        return pid >> _NODE_SHIFT & _NODES

    def elsewhere(self, pid: int) -> bool:
        """Whether a key that is not known here may be another node's."""
        return self.node not in (0, self.node_of(pid)) and pid not in self._sessions

    def forget(self, pid: int) -> None:
        """End a key's life."""
        self._sessions.pop(pid, None)
