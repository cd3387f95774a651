"""
What the handshakes have in common: bytes that came, bytes that are to go, and how far it has come.
"""

from __future__ import annotations

from proxyd.wire.socks.words import Command, State


class Buffers:
    """
    Both directions of one client's handshake.

    @ivar command: what the client wants; None: it has not said it yet
    """

    __slots__ = ("_buffer", "_login", "_out", "_state", "command")

    def __init__(self, login: bool) -> None:
        """@param login: whether a client must log in"""
        self._login = login
        self._buffer = bytearray()
        self._out = bytearray()
        self._state = State.READING
        self.command: Command | None = None

    @property
    def state(self) -> State:
        """How far it has come."""
        return self._state

    @property
    def trailing_data(self) -> bytes:
        """The bytes behind the request."""
        return bytes(self._buffer)

    def data_to_send(self) -> bytes:
        """Take what is to be sent now."""
        data = bytes(self._out)
        self._out.clear()
        return data
