"""
A SOCKS listener on the real reactor, with targets that do what they are told.
"""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from OpenSSL import SSL
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from proxyd.config.model import Listener
from proxyd.config.secrets import Secret
from proxyd.config.ways import Account, Socks5
from proxyd.dial.direct import DirectDialer
from proxyd.dial.router import Router
from proxyd.net.link import Link
from proxyd.net.resolver import Resolver
from proxyd.rules.patterns import pattern
from proxyd.rules.routes import DIRECT, Limits, Rule, Rules
from proxyd.socks.accounts import Accounts
from proxyd.socks.listener import SocksListener
from tests.net.peers import PATIENCE, until

LOOPBACK = Rule((pattern("127.0.0.0/8"), pattern("::1"), pattern("localhost")), DIRECT, number=1)
"""The route that lets tests reach this machine."""

ANYWHERE = (Listener("127.0.0.1:0", "tcp", "127.0.0.1", 0),)

_NO_LINGER = struct.pack("ii", 1, 0)


class Targets:
    """
    Servers on loopback, in threads, which do what the first byte of a client says.

    C{E} echoes; C{R} resets; C{H} reads to the end and says how much came;
    C{F} says "bye", sends FIN, and writes down what still comes; C{S} stands
    still and reads nothing; C{D} sends the many bytes that were asked for.

    @ivar after: what came after our FIN
    @ivar endings: how each connection ended: C{FIN} or C{RST}
    """

    def __init__(self, host: str = "127.0.0.1") -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._listening = socket.create_server((host, 0), family=family, backlog=1024)
        self.host, self.port = self._listening.getsockname()[:2]
        self.after: list[bytes] = []
        self.endings: list[str] = []
        self.peers: list[tuple[str, int]] = []
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Close all."""
        try:
            self._listening.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self._listening.close()
        for sock in self._open:
            sock.close()

    def _accept(self) -> None:
        while True:
            try:
                sock, peer = self._listening.accept()
            except OSError:
                return
            self.peers.append(peer[:2])
            self._open.append(sock)
            threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        try:
            self._act(sock)
        except ConnectionResetError:
            self.endings.append("RST")
        except OSError:
            return
        finally:
            sock.close()

    def _act(self, sock: socket.socket) -> None:
        sock.settimeout(PATIENCE)
        first = sock.recv(1)
        if first == b"E":
            while data := sock.recv(65536):
                sock.sendall(data)
        elif first == b"R":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
            return
        elif first == b"H":
            count = 0
            while data := sock.recv(65536):
                count += len(data)
            sock.sendall(b"%d" % count)
        elif first == b"F":
            sock.sendall(b"bye")
            sock.shutdown(socket.SHUT_WR)
            data = b""
            while more := sock.recv(65536):
                data += more
            self.after.append(data)
        elif first == b"S":
            threading.Event().wait(PATIENCE)
        elif first == b"D":
            size = int.from_bytes(sock.recv(4), "big")
            sock.sendall(bytes(size))
        if first:
            self.endings.append("FIN")


def free_port() -> int:
    """A port on loopback where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


class SocksCase(TestCase):
    """A link, a resolver and listeners; each test ends when no End is left."""

    timeout = 120

    def setUp(self) -> None:
        self.clock = IReactorTime(reactor)
        self.link = Link(reactor, self.clock, 20.0)  # type: ignore[arg-type]
        self.link.start()
        self.resolver = Resolver(reactor)  # type: ignore[arg-type]
        self.resolver.startService()
        self.direct = DirectDialer(reactor, self.resolver, PATIENCE)  # type: ignore[arg-type]
        self.listeners: list[SocksListener] = []
        self.targets = Targets()
        self.closing: list[Callable[[], object]] = [self.targets.close]

    async def tearDown(self) -> None:
        for close in self.closing:
            close()
        try:
            await until(
                lambda: not any(list(one.sessions) for one in self.listeners), "the last session"
            )
            for listener in self.listeners:
                await listener.stopService()
            await until(lambda: not self.link.ends, "the last End to be gone")
        finally:
            self.link.stop()
            self.resolver.stopService()

    def router(
        self, *rules: Rule, upstreams: Mapping[str, Any] | None = None, default: str | None = DIRECT
    ) -> Router:
        """A router with these routes, or with one that lets loopback be reached."""
        table = Rules(rules or (LOOPBACK,), default)
        return Router(table, upstreams or {}, self.direct, self.resolver, self.clock)

    def listen(
        self,
        *rules: Rule,
        accounts: Sequence[tuple[str, str]] = (),
        limits: Limits | None = None,
        tls: SSL.Context | None = None,
        upstreams: Mapping[str, Any] | None = None,
        default: str | None = DIRECT,
        **settings: Any,
    ) -> int:
        """A listener; its port."""
        known = [
            Account(user, Secret(word, {}), *([limits] if limits else ()))
            for user, word in accounts
        ]
        listener = SocksListener(
            reactor,
            self.link,
            Socks5(ANYWHERE, **settings),
            Accounts(known),
            tls,
            self.router(*rules, upstreams=upstreams, default=default),
        )
        listener.open()
        listener.startService()
        self.listeners.append(listener)
        address: Any = listener.addresses[0]
        return int(address[1])


def connect(port: int) -> socket.socket:
    """A client's socket."""
    return socket.create_connection(("127.0.0.1", port), PATIENCE)


def take(sock: socket.socket, size: int) -> bytes:
    """So many bytes, or fewer where it ends before."""
    data = b""
    while len(data) < size and (more := sock.recv(size - len(data))):
        data += more
    return data


def request(host: str, port: int, command: int = 1) -> bytes:
    """A request of RFC 1928."""
    try:
        where = b"\1" + socket.inet_aton(host)
    except OSError:
        try:
            where = b"\4" + socket.inet_pton(socket.AF_INET6, host)
        except OSError:
            name = host.encode()
            where = bytes((3, len(name))) + name
    return bytes((5, command, 0)) + where + port.to_bytes(2, "big")


def reply(sock: socket.socket) -> tuple[int, str, int]:
    """The code, host and port of a reply; -1 where it ends without one."""
    head = take(sock, 4)
    if len(head) < 4:
        return -1, "", 0
    size = 4 if head[3] == 1 else 16
    rest = take(sock, size + 2)
    family = socket.AF_INET if size == 4 else socket.AF_INET6
    return head[1], socket.inet_ntop(family, rest[:size]), int.from_bytes(rest[size:], "big")


def through(port: int, host: str, target: int) -> tuple[socket.socket, int]:
    """A connection to a target through a listener, and the code of its reply."""
    sock = connect(port)
    sock.sendall(b"\5\1\0")
    assert take(sock, 2) == b"\5\0"
    sock.sendall(request(host, target))
    return sock, reply(sock)[0]


def threaded(function: Callable[..., Any], *arguments: Any) -> Deferred[Any]:
    """Run what blocks beside the reactor."""
    return deferToThread(function, *arguments)
