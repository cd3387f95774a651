"""
What C{ssm.up} and C{ssm.down} stand beside: bytes over a WebSocket, as autobahn alone carries them.

C{server PORT} leads to a port of this machine, C{client PORT SERVER} is a SOCKS5
door to it. Each message has 1024 bytes, as a session's frames have; there are no
numbers, acknowledgements or repeats.
"""

from __future__ import annotations

import sys
from typing import Any

from autobahn.twisted.websocket import (
    WebSocketClientFactory,
    WebSocketClientProtocol,
    WebSocketServerFactory,
    WebSocketServerProtocol,
)
from twisted.internet import reactor as _reactor  # noqa: TID253 (a program of its own)
from twisted.internet.protocol import Factory, Protocol

PIECE = 1024
reactor: Any = _reactor


class _Tcp(Protocol):
    """The TCP side."""

    socket: Any = None
    greeted: int = 2
    early = b""

    def dataReceived(self, data: bytes) -> None:
        """Bytes go on, in messages of 1024."""
        if self.socket is None:
            self.early += data
            return
        for start in range(0, len(data), PIECE):
            self.socket.sendMessage(data[start : start + PIECE], True)

    def connectionLost(self, reason: object = None) -> None:
        """The end."""
        if self.socket is not None:
            self.socket.transport.loseConnection()


class _Joined:
    """The WebSocket side."""

    tcp: Any = None
    waiting = b""

    def join(self: Any, tcp: Any) -> None:
        """Each side is paused while the other has not taken what it was given."""
        self.tcp = tcp
        tcp.socket = self
        self.transport.registerProducer(tcp.transport, True)
        tcp.transport.registerProducer(self.transport, True)
        early, tcp.early = tcp.early, b""
        tcp.dataReceived(early)
        tcp.transport.write(self.waiting)

    def onMessage(self: Any, payload: bytes, isBinary: bool) -> None:
        """Bytes go on."""
        if isBinary and self.tcp is None:
            self.waiting += payload  # the target is being dialled
        elif isBinary:
            self.tcp.transport.write(payload)
        else:
            self.dial(int(payload))

    def onClose(self: Any, wasClean: bool, code: int | None, reason: str | None) -> None:
        """The end."""
        if self.tcp is not None:
            self.tcp.transport.loseConnection()


class _Server(_Joined, WebSocketServerProtocol):  # type: ignore[misc]
    """The far end."""

    def dial(self, port: int) -> None:
        """Connect the target."""
        from twisted.internet.endpoints import clientFromString

        endpoint = clientFromString(reactor, f"tcp:127.0.0.1:{port}")  # type: ignore[no-untyped-call]
        endpoint.connect(Factory.forProtocol(_Tcp)).addCallback(self.join)


class _Client(_Joined, WebSocketClientProtocol):  # type: ignore[misc]
    """The near end."""

    def onOpen(self) -> None:
        """It is open."""
        door = self.factory.door
        self.sendMessage(str(door.target).encode(), False)  # type: ignore[no-untyped-call]
        door.transport.write(b"\5\0\0\1" + bytes(6))
        self.join(door)


class _Door(_Tcp):
    """SOCKS5, the least of it: no login, CONNECT to an IPv4 address."""

    target = 0
    server = 0

    def dataReceived(self, data: bytes) -> None:
        """Greeting, request, and then bytes."""
        transport: Any = self.transport
        if self.target:
            super().dataReceived(data)
        elif data[:2] == b"\5\1" and len(data) == 3:
            transport.write(b"\5\0")
        else:
            self.target = int.from_bytes(data[-2:], "big")
            factory: Any = WebSocketClientFactory(f"ws://127.0.0.1:{self.server}", reactor=reactor)  # type: ignore[no-untyped-call]
            factory.protocol = _Client
            factory.door = self
            reactor.connectTCP("127.0.0.1", self.server, factory)


def main(role: str, port: str, server: str = "0") -> None:
    """Run one of the two until it is killed."""
    if role == "server":
        factory: Any = WebSocketServerFactory(reactor=reactor)  # type: ignore[no-untyped-call]
        factory.protocol = _Server
    else:
        _Door.server = int(server)
        factory = Factory.forProtocol(_Door)
    reactor.listenTCP(int(port), factory, interface="127.0.0.1")
    reactor.run()


if __name__ == "__main__":
    main(*sys.argv[1:])
