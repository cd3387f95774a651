"""
AWS's relay on loopback, for measurements: whole binary messages pass autobahn by.

The tests' own relay leaves every frame to autobahn, so that a second pair of
eyes sees what proxyd sends. That costs 40 microseconds a kilobyte, several
times what proxyd itself takes, and so hides it.

C{python -m tests.support.ssm_quick [--paced] PORT INSTANCE...}
"""

from __future__ import annotations

import sys
from typing import Any

from twisted.internet import reactor
from twisted.internet.interfaces import IReactorTime

from tests.support.ssm_peer import RelaySocket, main

_MASKED = 0x80


def take_whole(data: bytes) -> tuple[list[bytes], int]:
    """The masked binary messages that bytes begin with, and how many bytes they took."""
    found = []
    at = 0
    while len(data) - at >= 6 and data[at] == 0x82:
        size, begin = data[at + 1] - _MASKED, at + 6
        if not 0 <= size < 127:
            break
        if size == 126:
            size, begin = int.from_bytes(data[at + 2 : at + 4], "big"), at + 8
        if begin + size > len(data):
            break
        key = int.from_bytes((data[begin - 4 : begin] * (size // 4 + 1))[:size], "little")
        masked = int.from_bytes(data[begin : begin + size], "little")
        found.append((masked ^ key).to_bytes(size, "little"))
        at = begin + size
    return found, at


class QuickRelaySocket(RelaySocket):
    """A client's WebSocket; what is sent in one turn of the reactor goes in one write."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._out: list[bytes] = []

    def processData(self) -> bool:
        """Whole messages are taken here, all else by autobahn."""
        if self.session is not None and self.current_frame is None:
            found, size = take_whole(self.data)
            self.data = self.data[size:]
            if found:
                self.factory.peer.from_client(self.session, *found)
            if not self.data or (self.data[0] == 0x82 and len(self.data) < 1 << 17):
                return False
        return bool(super().processData())  # type: ignore[no-untyped-call]

    def say(self, data: bytes) -> None:
        """Send a frame, if it is still open."""
        if not self._out:
            IReactorTime(reactor).callLater(0, self._flush)
        size = len(data)
        head = b"\x82" + (bytes((size,)) if size < 126 else b"\x7e" + size.to_bytes(2, "big"))
        self._out += (head, data)

    def _flush(self) -> None:
        out, self._out = self._out, []
        if self.state == self.STATE_OPEN:
            transport: Any = self.transport
            transport.write(b"".join(out))


if __name__ == "__main__":
    main(sys.argv[1:], QuickRelaySocket)
