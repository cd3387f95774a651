"""Tests for L{proxyd.dial.sockets}: connecting in the link, on real sockets."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from functools import partial

from twisted.internet.defer import CancelledError, Deferred

from proxyd.dial.race import Race
from proxyd.dial.sockets import connect
from proxyd.errors import DialError, DialFailure
from proxyd.net.resolver import Address
from tests.net.peers import LinkCase, until
from tests.socks.scene import free_port

FOUR = socket.AF_INET


class ConnectTests(LinkCase):
    """Sockets that race: the first address that answers is taken."""

    def race(self, *places: tuple[str, int], stagger: float = 20.0) -> Deferred[socket.socket]:
        """Dial these addresses."""
        addresses: Sequence[Address] = [
            Address(socket.AF_INET6 if ":" in host else FOUR, host, port) for host, port in places
        ]
        return Race(self.link.clock, addresses, partial(connect, self.link), stagger).run()

    def listening(self) -> socket.socket:
        """Somebody who is there."""
        sock = socket.create_server(("127.0.0.1", 0))
        self.fars.append(sock)
        return sock

    def deaf(self) -> tuple[str, int]:
        """Somebody whose queue is full, so that a connect to it hangs."""
        sock = socket.socket()
        sock.bind(("127.0.0.1", 0))
        sock.listen(0)
        place = sock.getsockname()
        self.fars.append(sock)
        for _ in range(2):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(place)
            self.fars.append(filler)
        return place  # type: ignore[no-any-return]

    async def test_connected(self) -> None:
        """A non-blocking socket, with our options, which the link has forgotten."""
        sock = await self.race(self.listening().getsockname())
        self.assertFalse(sock.getblocking())
        self.assertTrue(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        self.assertEqual(self.link.ends, 0)
        sock.close()

    async def test_refused(self) -> None:
        """All refused: so it is told, with every address."""
        one, other = free_port(), free_port()
        error = await self.failing(self.race(("127.0.0.1", one), ("127.0.0.1", other)))
        self.assertEqual(error.failure, DialFailure.REFUSED)
        self.assertIn(f"127.0.0.1:{one}; 127.0.0.1:{other}", error.detail)

    async def failing(self, dialling: Deferred[socket.socket]) -> DialError:
        """Why it failed."""
        try:
            (await dialling).close()
        except DialError as error:
            return error
        raise AssertionError("it did not fail")

    async def test_next(self) -> None:
        """One that refuses is followed by the next at once, long before the stagger."""
        sock = await self.race(("127.0.0.1", free_port()), self.listening().getsockname())
        sock.close()

    async def test_stagger(self) -> None:
        """One that does not answer is not waited for; it is given up when another has won."""
        sock = await self.race(self.deaf(), self.listening().getsockname(), stagger=0.05)
        sock.close()
        self.assertEqual(self.link.ends, 0)

    async def test_cancel(self) -> None:
        """Cancelled, nothing is left."""
        dialling = self.race(self.deaf(), self.deaf())
        dialling.cancel()
        with self.assertRaises(CancelledError):
            await dialling

    async def test_family(self) -> None:
        """An address that this machine can't speak to at all is an error like any other."""
        error = await self.failing(self.race(("fe80::1%nonesuch", 1)))
        self.assertIsInstance(error, DialError)
        await until(lambda: not self.link.ends, "nothing left")
