"""Tests for L{proxyd.app.socks}."""

from __future__ import annotations

from dataclasses import replace

from proxyd.app.socks import Socks
from proxyd.config.model import Listener
from proxyd.config.secrets import Secret
from proxyd.config.ways import Account, Socks5, SocksTls
from proxyd.errors import StartError
from tests.app.built import DaemonTestCase, configuration

SETTINGS = Socks5((Listener("127.0.0.1:0", "tcp", "127.0.0.1", 0),), max_clients=7)


class SocksRoomTests(DaemonTestCase):
    """The listener, as a part of the daemon."""

    def room(self, settings: Socks5 = SETTINGS) -> Socks:
        """The room of a daemon that serves this."""
        daemon = self.serving(configuration(postgres=None, socks5=settings))
        (room,) = (one for one in daemon.rooms if isinstance(one, Socks))
        return room

    def test_only_if_asked_for(self) -> None:
        """Without the section there is none."""
        daemon = self.built(configuration())
        self.assertEqual([one for one in daemon.rooms if isinstance(one, Socks)], [])

    def test_told(self) -> None:
        """Where it listens, and what it may need."""
        room = self.room()
        self.assertEqual(room.places(), ("SOCKS5 at 127.0.0.1:0",))
        config = configuration(socks5=SETTINGS)
        self.assertEqual(room.descriptors(config), (7, 7))
        self.assertEqual(room.fixed(config)["socks5.listen"], SETTINGS.listen)
        self.assertEqual((room.left(), list(room.addresses())), (0, []))
        self.assertIn("socks_requests", [one.name for one in room.figures()])

    def test_reload(self) -> None:
        """Accounts follow; a password that can't be read changes nothing."""
        room = self.room()
        self.assertFalse(room.listener.login_needed)
        ann = replace(SETTINGS, accounts=(Account("ann", Secret("x", {})),))
        room.prepare(configuration(socks5=ann))()
        self.assertTrue(room.listener.login_needed)
        lost = replace(SETTINGS, accounts=(Account("ann", Secret("env:NO", {})),))
        self.assertRaises(StartError, room.prepare, configuration(socks5=lost))
        room.prepare(configuration(socks5=None))()
        self.assertTrue(room.listener.login_needed)

    def test_tls(self) -> None:
        """A certificate that is not there is said at the start."""
        tls = replace(SETTINGS, tls=SocksTls("/none/c.pem", "/none/k.pem"))
        self.assertRaises(StartError, self.room, tls)
