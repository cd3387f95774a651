"""Tests for L{proxyd.socks.session_source}."""

from __future__ import annotations

from proxyd.socks.session_source import SocksSessions, listener_figures
from tests.net.peers import until
from tests.socks.scene import SocksCase, take, threaded, through


class SourceTests(SocksCase):
    """The sessions, as the registry sees them."""

    async def test_live(self) -> None:
        """Who, where, by which way, how much; and each can be ended."""
        port = self.listen()
        (listener,) = self.listeners
        source = SocksSessions(listener)
        self.assertEqual((source.count(), list(source.live())), (0, []))
        sock, _ = await threaded(through, port, "127.0.0.1", self.targets.port)
        sock.sendall(b"Ehello")
        await threaded(take, sock, 5)
        (session,) = source.live()
        self.assertEqual(
            (session.kind, session.target, session.state, session.principal.source),
            ("socks5", f"127.0.0.1:{self.targets.port} by direct", "open", "127.0.0.1"),
        )
        self.assertEqual((session.received, session.sent, session.number), (6, 5, 1))
        figures = {
            (one.name, *one.labels.values()): one.value for one in listener_figures(listener)
        }
        self.assertEqual(figures["socks_sessions",], 1)
        self.assertEqual(figures["socks_bytes", "up"], 6)
        self.assertEqual([v for (name, *_), v in figures.items() if name.endswith("opened")], [1])
        session.kill("said so")
        with self.assertRaises(ConnectionResetError):
            await threaded(take, sock, 1)
        await until(lambda: not source.count(), "the end")
        figures = {
            (one.name, *one.labels.values()): one.value for one in listener_figures(listener)
        }
        self.assertEqual(figures["socks_bytes", "down"], 5)
