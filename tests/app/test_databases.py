"""Tests for L{proxyd.app.databases}: its TLS, and what it tells of itself."""

from __future__ import annotations

import os
import socket
from dataclasses import replace

from twisted.internet import reactor
from twisted.trial.unittest import TestCase

from proxyd.app.daemon import build
from proxyd.app.databases import Databases
from proxyd.config.model import Config, PostgresTls
from proxyd.errors import StartError
from proxyd.net.pem import load_certificates, load_key
from proxyd.net.tls import certificate_names
from tests.app.built import PLAIN, DaemonTestCase, configuration, shop


class TlsTests(DaemonTestCase):
    """Where the certificate comes from."""

    def test_own_certificate(self) -> None:
        """Without one proxyd makes its own, in the state directory, for this machine's name."""
        daemon = self.built(configuration(postgres=replace(PLAIN, tls=PostgresTls())))
        assert daemon.databases.listener is not None
        self.assertIsNotNone(daemon.databases.listener.tls)
        made = os.path.join(self.state, "proxyd.pem")
        (certificate, *_) = load_certificates(made)
        load_key(os.path.join(self.state, "proxyd.key"))
        self.assertLessEqual(
            {"localhost", socket.gethostname()}, set(certificate_names(certificate))
        )
        self.assertTrue(os.path.exists(os.path.join(self.state, "ca.pem")))

    def test_kept(self) -> None:
        """The next start uses the certificate that is there."""
        config = configuration(postgres=replace(PLAIN, tls=PostgresTls()))
        self.built(config)
        made = os.path.join(self.state, "proxyd.pem")
        before = load_certificates(made)
        self.built(config)
        self.assertEqual(load_certificates(made), before)

    def test_disabled(self) -> None:
        """Where TLS is off there is none, and no certificate is made."""
        daemon = self.built(configuration())
        assert daemon.databases.listener is not None
        self.assertIsNone(daemon.databases.listener.tls)
        self.assertFalse(os.path.exists(self.state))

    def test_missing(self) -> None:
        """A certificate that is named and not there: one line that names it, and none is made."""
        tls = PostgresTls("prefer", "/none/c.pem", "/none/k.pem")
        error = self.assertRaises(
            StartError,
            build,
            configuration(postgres=replace(PLAIN, tls=tls)),
            self.reactor,
            found="",
            reload=configuration,
            environment=self.environment,
        )
        self.assertEqual(str(error), "certificate /none/c.pem: No such file or directory")
        self.assertFalse(os.path.exists(self.state))


class AccountTests(DaemonTestCase):
    """What the daemon learns of it."""

    def test_places(self) -> None:
        """Where it listens, for people; nothing where it does not."""
        there = self.built(configuration()).databases
        self.assertEqual(there.places(), ("PostgreSQL at 127.0.0.1:0",))
        self.assertEqual(self.built(Config()).databases.places(), ())

    def test_descriptors(self) -> None:
        """All clients and all pools together; nobody without a listener."""
        config = configuration(
            shop(max_open_connections=4),
            shop(name="other", max_open_connections=5),
            postgres=replace(PLAIN, max_clients=70),
        )
        there = self.built(config).databases
        self.assertEqual(there.descriptors(config), (70, 9))
        self.assertEqual(there.descriptors(Config()), (0, 0))

    def test_statistics(self) -> None:
        """A line for each pool, by its name."""
        daemon = self.serving(configuration(shop()))
        (line,) = daemon.databases.statistics()
        self.assertIn("shop", str(line[1]["pool"]))
        self.assertIn("max_lifetime_closed={max_lifetime_closed}", line[0])


class OnDemandTests(TestCase):
    """A configuration that asks for no PostgreSQL, but has an API that may."""

    def setUp(self) -> None:
        self.environment = {"STATE_DIRECTORY": self.mktemp()}

    def began(self) -> Databases:
        """Its room, opened as at a start."""
        config = configuration(postgres=replace(PLAIN, on_demand=True))
        daemon = build(
            config, reactor, found="", reload=lambda: config, environment=self.environment
        )
        self.addCleanup(daemon.link.stop)
        daemon._adopt(config)
        room = daemon.databases
        listener = room.listener
        assert listener is not None
        room.open()
        listener.ready = True
        self.addCleanup(daemon.state.store.close)
        self.addCleanup(listener.stopService)
        self.state = daemon.state
        return room

    async def test_opened_by_the_first_database(self) -> None:
        """Nothing is opened before there is a database; then it is, and at the next start."""
        room = self.began()
        self.assertEqual((room.addresses(), room.places()), ([], ()))
        dsn = "postgresql://svc@192.0.2.1/shop"
        await self.state.registered.register("one", dsn, "hush")
        ((kind, address),) = room.addresses()
        self.assertEqual(kind, "postgres")
        await self.state.registered.register("two", dsn, "hush")
        self.assertEqual(room.addresses(), [(kind, address)])
        await self.state.store.close()
        self.assertEqual(len(self.began().addresses()), 1)
