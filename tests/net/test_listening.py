"""Tests for L{proxyd.net.listening}: real ports."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IListeningPort
from twisted.internet.protocol import Factory
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from proxyd.config.model import Listener
from proxyd.errors import StartError
from proxyd.net.listening import Acceptor, open_listener, open_port, set_options, spoken_address
from tests.net.peers import PATIENCE, readable, until

CHECKOUT = Path(__file__).resolve().parents[2]


def tcp(host: str = "127.0.0.1", port: int = 0) -> Listener:
    """A TCP listener of the configuration."""
    return Listener(f"{host}:{port}", "tcp", host=host, port=port)


class AcceptingCase(TestCase):
    """Keeps what was accepted, and closes it all."""

    def setUp(self) -> None:
        self.accepted: list[tuple[socket.socket, object]] = []
        self.on_accept: Callable[[socket.socket], None] = lambda sock: None
        self.addCleanup(lambda: [sock.close() for sock, _ in self.accepted])

    def accept(self, sock: socket.socket, address: object) -> None:
        """Take a new socket."""
        self.accepted.append((sock, address))
        self.on_accept(sock)

    def open(self, listener: Listener) -> Acceptor:
        """Listen until the test ends."""
        acceptor = open_listener(reactor, listener, self.accept)
        self.addCleanup(lambda: acceptor.fileno() < 0 or acceptor.stop())
        return acceptor

    def connect(self, acceptor: Acceptor) -> socket.socket:
        """A new client; the kernel lets it in before anybody accepts."""
        address = acceptor.address
        family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
        client = socket.socket(family)
        client.settimeout(PATIENCE)
        self.addCleanup(client.close)
        client.connect(address)  # type: ignore[arg-type]
        return client

    def refusal(self, listener: Listener) -> str:
        """The line with which it can't be opened."""
        return str(self.assertRaises(StartError, open_listener, reactor, listener, self.accept))


class TcpTests(AcceptingCase):
    """A port on loopback."""

    async def test_accept(self) -> None:
        """A client's socket comes in non-blocking, with its address and the options of ours."""
        acceptor = self.open(tcp())
        client = self.connect(acceptor)
        await until(lambda: self.accepted, "the client")
        sock, address = self.accepted[0]
        self.assertEqual(address, client.getsockname())
        self.assertFalse(sock.getblocking())
        self.assertFalse(os.get_inheritable(sock.fileno()))
        self.assertTrue(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        self.assertTrue(sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE))
        self.assertEqual(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE), 60)
        client.sendall(b"hello")
        await until(lambda: readable(sock), "its bytes")

    async def test_many(self) -> None:
        """More clients than are accepted in one turn all come in."""
        acceptor = self.open(tcp())
        clients = [self.connect(acceptor) for _ in range(300)]
        await until(lambda: len(self.accepted) == 300, "all clients")
        names = sorted(client.getsockname() for client in clients)
        self.assertEqual(sorted(address for _, address in self.accepted), names)

    async def test_left_before(self) -> None:
        """A client that is gone before it is accepted harms nobody."""
        acceptor = self.open(tcp())
        gone = self.connect(acceptor)
        gone.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        gone.close()
        client = self.connect(acceptor)
        await until(
            lambda: client.getsockname() in [address for _, address in self.accepted],
            "the other client",
        )

    async def test_exception(self) -> None:
        """Whoever can't take a socket loses that one and no other."""
        acceptor = self.open(tcp())

        def refuse(sock: socket.socket) -> None:
            if len(self.accepted) == 1:
                raise ZeroDivisionError

        self.on_accept = refuse
        first, second = self.connect(acceptor), self.connect(acceptor)
        await until(lambda: len(self.accepted) == 2, "both clients")
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEqual(await deferToThread(first.recv, 1), b"")
        self.accepted[1][0].sendall(b"x")
        self.assertEqual(await deferToThread(second.recv, 1), b"x")

    async def test_stop(self) -> None:
        """After a stop nobody gets in, and the port is free."""
        acceptor = self.open(tcp())
        address = acceptor.address
        assert isinstance(address, tuple)
        await acceptor.stop()
        with self.assertRaises(ConnectionRefusedError):
            socket.create_connection(address)
        again = self.open(tcp(port=address[1]))
        self.assertEqual(again.address, address)

    async def test_stop_from_within(self) -> None:
        """To stop while a client comes in ends the accepting there and then."""
        acceptor = self.open(tcp())
        stopped: list[object] = []
        self.on_accept = lambda sock: acceptor.stop().addBoth(stopped.append)
        for _ in range(3):
            self.connect(acceptor)
        await until(lambda: stopped, "the stop")
        self.assertEqual((len(self.accepted), stopped), (1, [None]))

    def test_taken(self) -> None:
        """A port that is taken is one line with its name and the reason."""
        acceptor = self.open(tcp())
        address = acceptor.address
        assert isinstance(address, tuple)
        self.assertEqual(
            self.refusal(tcp(port=address[1])),
            f"can't listen at 127.0.0.1:{address[1]}: Address already in use",
        )

    def test_no_such_address(self) -> None:
        """An address that is not ours is one too."""
        self.assertEqual(
            self.refusal(tcp("192.0.2.1")),
            "can't listen at 192.0.2.1:0: Cannot assign requested address",
        )

    def test_ipv6(self) -> None:
        """An IPv6 address is listened at as such."""
        if not socket.has_ipv6 or not os.path.exists("/proc/net/if_inet6"):
            self.skipTest("this host has no IPv6")
        acceptor = self.open(tcp("::1"))
        address = acceptor.address
        assert isinstance(address, tuple)
        self.assertEqual(address[0], "::1")

    def test_names(self) -> None:
        """The reactor's log is told a name; being let go by it is nothing."""
        acceptor = self.open(tcp())
        acceptor.connectionLost(None)
        self.assertEqual(acceptor.logPrefix(), "listener")


class ReopenTests(AcceptingCase):
    """The same place, opened anew."""

    async def test_same_place(self) -> None:
        """Whoever waits is let in first, and the next one finds the port where it was."""
        acceptor = self.open(tcp())
        place = acceptor.address
        waiting = self.connect(acceptor)
        await acceptor.reopen()
        self.assertEqual(len(self.accepted), 1)
        self.assertEqual((acceptor.address, acceptor.is_open), (place, True))
        self.connect(acceptor)
        await until(lambda: len(self.accepted) == 2, "the client that came later")
        self.accepted[0][0].setblocking(True)
        waiting.sendall(b"hello")
        self.assertEqual(self.accepted[0][0].recv(5), b"hello")

    async def test_unix(self) -> None:
        """A UNIX socket is where it was, too."""
        with TemporaryDirectory(prefix="pxd") as folder:
            acceptor = self.open(Listener("", "unix", path=f"{folder}/s"))
            await acceptor.reopen()
            self.connect(acceptor)
            await until(lambda: self.accepted, "the client")
            await acceptor.stop()

    def test_options(self) -> None:
        """A port of Twisted's hands on what every socket of ours has."""
        port: Any = open_port(reactor, tcp(), Factory())
        self.addCleanup(port.stopListening)
        self.assertEqual(port.socket.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE), 1)
        self.assertEqual(port.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE), 60)

    async def test_taken_meanwhile(self) -> None:
        """Where it can't be opened again that is told, and it may be tried again."""
        thief = socket.socket()
        self.addCleanup(thief.close)
        thief.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)

        def again(address: object) -> IListeningPort:
            assert isinstance(address, tuple)
            if thief.getsockname()[1] == 0:
                thief.bind(address)
                thief.listen()
            return open_port(reactor, tcp(port=address[1]), Factory())

        port = open_port(reactor, tcp(), Factory())
        acceptor = Acceptor(reactor, reactor, port, self.accept, again)
        self.addCleanup(acceptor.stop)
        error = await self.assertFailure(Deferred.fromCoroutine(acceptor.reopen()), StartError)
        self.assertIn("Address already in use", str(error))
        self.assertFalse(acceptor.is_open)
        address = thief.getsockname()
        thief.close()
        thief = socket.socket()
        thief.bind(("127.0.0.1", 0))
        await acceptor.reopen()
        self.assertEqual(acceptor.address, address)
        self.connect(acceptor)
        await until(lambda: self.accepted, "the client")
        thief.close()

    async def test_stopped_meanwhile(self) -> None:
        """A stop wins: nothing is opened behind its back."""
        acceptor = self.open(tcp())
        reopening = Deferred.fromCoroutine(acceptor.reopen())
        await acceptor.stop()
        await reopening
        self.assertFalse(acceptor.is_open)


class AddressTests(TestCase):
    """How addresses are told."""

    def test_spoken(self) -> None:
        """As they are written in a configuration."""
        for address, spoken in (
            (("127.0.0.1", 5), "127.0.0.1:5"),
            (("::1", 5, 0, 0), "[::1]:5"),
            ("/run/x", "unix:/run/x"),
            (b"/run/\xff", "unix:/run/\\xff"),
        ):
            self.assertEqual(spoken_address(address), spoken)


class UnixTests(AcceptingCase):
    """A socket in the file system."""

    async def test_accept(self) -> None:
        """A local client comes in; TCP's options are left alone; a stop takes the file away."""
        path = self.mktemp()
        acceptor = self.open(Listener(f"unix:{path}", "unix", path=path))
        self.assertEqual(acceptor.address, path)
        client = self.connect(acceptor)
        await until(lambda: self.accepted, "the client")
        sock = self.accepted[0][0]
        self.assertFalse(sock.getblocking())
        set_options(sock)
        client.sendall(b"hello")
        await until(lambda: readable(sock), "its bytes")
        await acceptor.stop()
        self.assertFalse(os.path.exists(path))

    def test_no_folder(self) -> None:
        """A folder that is not there is one line."""
        path = f"{self.mktemp()}/nowhere/socket"
        text = self.refusal(Listener(f"unix:{path}", "unix", path=path))
        self.assertEqual(text, f"can't listen at unix:{path}: No such file or directory")


class EndpointTests(AcceptingCase):
    """Any endpoint of Twisted's, where it is of use."""

    async def test_tcp(self) -> None:
        """One that gives plain sockets works as the others do."""
        text = "tcp:0:interface=127.0.0.1"
        acceptor = self.open(Listener(text, "endpoint", text))
        self.connect(acceptor)
        await until(lambda: self.accepted, "the client")

    def test_refused(self) -> None:
        """Those that speak TLS or PROXY themselves are refused with the keys to use instead."""
        for text in ("ssl:0", "tls:0", "haproxy:tcp:0"):
            line = self.refusal(Listener(text, "endpoint", text))
            self.assertIn("postgres.tls and postgres.proxy_protocol", line)

    def test_unknown(self) -> None:
        """What is no endpoint is one line."""
        for text in ("nonsense:1", "tcp:port", "tcp:0:interfac=x"):
            line = self.refusal(Listener(text, "endpoint", text))
            self.assertTrue(line.startswith(f"can't listen at {text}: "), line)

    def test_systemd(self) -> None:
        """A systemd socket that was not handed over is one line with its name."""
        line = self.refusal(Listener("systemd:pg", "systemd", name="pg"))
        self.assertTrue(line.startswith("can't listen at systemd:pg: "), line)


FULL = """
import resource, select, socket, sys
from twisted.internet import reactor
from twisted.logger import globalLogBeginner
from proxyd.config.model import Listener
from proxyd.net.listening import open_listener

lines = []
globalLogBeginner.beginLoggingTo([lambda event: lines.append(event["log_format"])], False, False)
accepted, room_made = [], []
listener = Listener("x", "tcp", host="127.0.0.1")
acceptor = open_listener(reactor, listener, lambda sock, _: accepted.append(sock))
clients = [socket.create_connection(acceptor.address) for _ in range(8)]
with socket.socket() as free:
    limit = free.fileno() + 3
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))

def look():
    away = len(select.select(clients, [], [], 0)[0])
    if away and not room_made:
        room_made.append((len(accepted), away))
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if len(accepted) + away < len(clients):
        reactor.callLater(0.01, look)
        return
    print(0 < room_made[0][0] < 8, room_made[0][1] > 0, len(accepted) > room_made[0][0])
    print(sum("LimitNOFILE" in line for line in lines) == away)
    reactor.stop()

reactor.callLater(0, look)
reactor.run()
"""


class FullTests(AcceptingCase):
    """No descriptor is left."""

    async def test_full(self) -> None:
        """Clients are turned away, not left waiting; the log says why; it goes on accepting."""
        done = await deferToThread(
            subprocess.run,
            [sys.executable, "-c", FULL],
            cwd=CHECKOUT,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        self.assertEqual((done.stdout, done.stderr), ("True True True\nTrue\n", ""))
