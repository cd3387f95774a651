"""Tests for L{proxyd.socks.listener}."""

from __future__ import annotations

import ssl

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import Clock
from twisted.internet.threads import deferToThread

from proxyd.config.times import PasswordTimes
from proxyd.net.certificates import own_certificate
from proxyd.net.failures import FREE_FAILURES, Failures
from proxyd.net.tls import server_context
from proxyd.socks import listener as module
from tests.net.peers import reset, until
from tests.socks.scene import LOOPBACK, SocksCase, connect, reply, request, take, threaded, through


class ListenerTests(SocksCase):
    """Who is let in, and how all are sent home."""

    async def test_many(self) -> None:
        """Many connections one after the other, and none is left."""
        port = self.listen()

        def run() -> None:
            for _ in range(100):
                sock, code = through(port, "127.0.0.1", self.targets.port)
                self.assertEqual(code, 0)
                sock.close()

        await threaded(run)
        (listener,) = self.listeners
        await until(lambda: not list(listener.sessions), "none left")
        self.assertEqual((listener.opened, listener.failed, listener.waiting), (100, 0, 0))
        await until(lambda: not self.link.ends, "no End left")

    async def test_full(self) -> None:
        """One client too many is closed at once."""
        port = self.listen(max_clients=1)
        sock, code = await threaded(through, port, "127.0.0.1", self.targets.port)
        self.assertEqual(code, 0)
        with connect(port) as other:
            self.assertEqual(await threaded(take, other, 1), b"")
        self.assertEqual(self.listeners[0].turned_away, 1)
        sock.close()

    async def test_silent(self) -> None:
        """Of too many that say nothing, the oldest goes."""
        self.patch(module, "SILENT", 2)
        port = self.listen()
        socks = [connect(port) for _ in range(3)]
        self.assertEqual(await threaded(take, socks[0], 1), b"")
        (listener,) = self.listeners
        self.assertEqual(listener.waiting, 2)
        for sock in socks:
            sock.close()

    async def test_tls(self) -> None:
        """Inside TLS it is the same, and nothing of it can be read outside."""
        folder = self.mktemp()
        certificate, key = own_certificate(folder, names=(), clock=IReactorTime(self.clock))
        port = self.listen(tls=server_context(certificate, key))
        trusting = ssl.create_default_context(cafile=f"{folder}/ca.pem")

        def talk() -> tuple[bytes, bytes]:
            with trusting.wrap_socket(connect(port), server_hostname="localhost") as sock:
                sock.sendall(b"\5\1\0" + request("127.0.0.1", self.targets.port) + b"Ehello")
                take(sock, 2)
                self.assertEqual(reply(sock)[0], 0)
                echoed = take(sock, 5)
                sock.sendall(b"!")
                return echoed, take(sock, 1)

        self.assertEqual(await deferToThread(talk), (b"hello", b"!"))

        def in_clear() -> bytes:
            with connect(port) as sock:
                # As long as the head of a TLS record, so that it is known for none at once.
                sock.sendall(b"\5\1\0" * 2)
                try:
                    return take(sock, 2)
                except ConnectionResetError:
                    return b""

        self.assertNotEqual((await threaded(in_clear))[:1], b"\5")

    async def test_pac(self) -> None:
        """The PAC file, where it is asked for in the configuration; else there is none."""
        for pac, status in ((True, b"200"), (False, b"404")):
            port = self.listen(LOOPBACK, pac=pac)

            def fetch(port: int = port) -> bytes:
                with connect(port) as sock:
                    sock.sendall(b"GET /proxy.pac HTTP/1.1\r\nHost: x\r\n\r\n")
                    return take(sock, 10_000)

            answer = await threaded(fetch)
            self.assertEqual(answer.split()[1], status)
            self.assertEqual(f"SOCKS5 127.0.0.1:{port}".encode() in answer, pac)

    async def test_drain(self) -> None:
        """Nobody new, those that are here may finish, and then it is said."""
        port = self.listen()
        sock, _ = await threaded(through, port, "127.0.0.1", self.targets.port)
        waiting = connect(port)
        (listener,) = self.listeners
        await until(lambda: listener.waiting, "the silent one")
        drained: list[object] = []
        listener.drain().addCallback(drained.append)
        await until(lambda: _closed(port), "the port to be closed")
        sock.sendall(b"Eon")
        self.assertEqual(await threaded(take, sock, 2), b"on")
        self.assertEqual(drained, [])
        sock.close()
        await until(lambda: drained, "the last to go")
        waiting.close()

    async def test_stop(self) -> None:
        """A stop ends what is left, by a reset."""
        port = self.listen()
        sock, _ = await threaded(through, port, "127.0.0.1", self.targets.port)
        await self.listeners[0].stopService()
        with self.assertRaises(ConnectionResetError):
            await threaded(take, sock, 1)

    async def test_wrong_password_is_not_logged(self) -> None:
        """Neither is what was tried."""
        port = self.listen(accounts=[("ann", "x")])

        def wrong() -> bytes:
            with connect(port) as sock:
                sock.sendall(b"\5\1\2\1\3ann\7hunter2")
                return take(sock, 4)

        self.assertEqual(await threaded(wrong), b"\5\2\1\1")
        self.assertEqual(self.listeners[0].turned_away, 1)

    async def test_wrong_passwords_wait(self) -> None:
        """Who gives one wrong password after the other waits, with a right one too."""
        port = self.listen(accounts=[("ann", "x")])
        clock = Clock()
        failures = self.listeners[0].failures = Failures(clock, PasswordTimes())
        wrong, right = b"\5\1\2\1\3ann\1y", b"\5\1\2\1\3ann\1x"

        def told(said: bytes) -> bytes:
            with connect(port) as sock:
                sock.sendall(said)
                return take(sock, 4)

        for _ in range(FREE_FAILURES):
            self.assertEqual(await threaded(told, wrong), b"\5\2\1\1")
        for said, answer, seconds in ((wrong, b"\5\2\1\1", 0.25), (right, b"\5\2\1\0", 0.5)):
            waiting = threaded(told, said)
            await until(clock.getDelayedCalls, "the pause")
            self.assertAlmostEqual(clock.getDelayedCalls()[0].getTime() - clock.seconds(), seconds)
            clock.advance(seconds)
            self.assertEqual(await waiting, answer)
        self.assertEqual(len(failures), 0)

    async def test_gone_while_it_waits(self) -> None:
        """A client that resets in its pause, or has no more time, leaves nothing behind."""
        port = self.listen(accounts=[("ann", "x")])
        clock = Clock()
        listener = self.listeners[0]
        listener.failures = Failures(clock, PasswordTimes())
        for _ in range(FREE_FAILURES):
            listener.failures.failed(("127.0.0.1", "ann"))
        for leave in (reset, None):
            sock = connect(port)
            sock.sendall(b"\5\1\2\1\3ann\1x")
            await until(clock.getDelayedCalls, "the pause")
            if leave is not None:
                leave(sock)
            else:
                (client,) = listener._deadlines
                client.leave("too late")
            await until(lambda: not self.link.ends, "the End to be gone")
            self.assertEqual(clock.getDelayedCalls(), [])
            sock.close()
        self.assertEqual(listener.waiting, 0)


def _closed(port: int) -> bool:
    """Whether nobody listens at a port."""
    try:
        connect(port).close()
    except ConnectionRefusedError:
        return True
    return False
