"""
Tests of L{proxyd.app.state}.
"""

from __future__ import annotations

import os
from pathlib import Path

from twisted.logger import LogLevel

from proxyd.config.model import State as StateSection
from proxyd.config.secrets import Secret
from proxyd.config.token_settings import TokenSettings
from proxyd.errors import StartError
from proxyd.rules.patterns import pattern
from proxyd.rules.routes import DIRECT, Rule
from tests.app.built import DaemonTestCase, configuration, shop

DSN = "postgresql://svc:hush@db.example/shop"


class StateTests(DaemonTestCase):
    """What the daemon remembers."""

    def test_made(self) -> None:
        """At the first start the file and its keys are made in the state directory."""
        self.serving(configuration(shop()))
        for name in ("state.sqlite", "jwt.key", "state.key"):
            self.assertIn(name, os.listdir(self.state))

    def test_registered(self) -> None:
        """A database that is registered is served at once, and no more when it is removed."""
        daemon = self.serving(configuration(shop()))
        registered = daemon.state.registered
        found = self.successResultOf(registered.register("crm", DSN, None))
        listener = daemon.databases.listener
        assert listener is not None
        self.assertIsNotNone(listener.directory.find(found.client_name))
        self.assertEqual(len(list(daemon.databases.pools)), 2)
        self.reload(daemon, configuration(shop()))
        self.assertIsNotNone(listener.directory.find(found.client_name))
        self.successResultOf(registered.remove(found.database_id))
        self.assertIsNone(listener.directory.find(found.client_name))
        self.assertEqual(len(list(daemon.databases.pools)), 1)

    def test_pool_size(self) -> None:
        """A registered database has as many server connections as is said, after a reload too."""
        daemon = self.serving(configuration(shop(), pool_size=3))
        registered = daemon.state.registered
        name = self.successResultOf(registered.register("crm", DSN, None)).client_name
        self.assertEqual(registered.connections[name].max_open_connections, 3)
        self.reload(daemon, configuration(shop(), pool_size=1))
        listener = daemon.databases.listener
        assert listener is not None
        place = listener.directory.find(name)
        assert place is not None
        self.assertEqual(
            (place.connection.max_open_connections, place.connection.min_idle_connections), (1, 1)
        )

    def test_servers_are_kept(self) -> None:
        """Of all servers only a new one is made: a thousand may be registered."""
        daemon = self.serving(configuration(shop()))
        listener, registered = daemon.databases.listener, daemon.state.registered
        assert listener is not None
        self.successResultOf(registered.register("crm", DSN, None))
        before = dict(listener.directory.servers)
        self.assertEqual(set(before), {"shop", "db_1"})
        second = self.successResultOf(registered.register("erp", DSN, None))
        for name, server in before.items():
            self.assertIs(listener.directory.servers[name], server)
        self.successResultOf(registered.remove(second.database_id))
        self.assertEqual(dict(listener.directory.servers), before)
        # A reload makes all anew: certificates may have changed.
        self.reload(daemon, configuration(shop()))
        self.assertIsNot(listener.directory.servers["db_1"], before["db_1"])

    def test_denied(self) -> None:
        """A database on this machine is not registered, unless a route names its host."""
        local = "postgresql://svc:hush@127.0.0.1/shop"
        daemon = self.serving(configuration(shop()))
        failure = self.failureResultOf(daemon.state.registered.register("crm", local, None))
        self.assertIn(
            "127.0.0.1:5432 is not dialled: 127.0.0.1 is ",
            str(failure.value),
        )
        rule = Rule((pattern("127.0.0.1"),), DIRECT, number=1)
        self.reload(daemon, configuration(shop(), routes=(rule,)))
        self.successResultOf(daemon.state.registered.register("crm", local, None))

    def test_token_connections(self) -> None:
        """A token is issued for a connection that takes tokens, and names where to connect."""
        daemon = self.serving(
            configuration(shop(auth=("backend", "token")), shop(name="orders", auth=("backend",)))
        )
        issued = self.successResultOf(daemon.state.tokens.issue("shop"))
        self.assertTrue(issued.connection_string.endswith("@127.0.0.1:6432/shop"))
        failure = self.failureResultOf(daemon.state.tokens.issue("orders"))
        self.assertIn("takes tokens", str(failure.value))

    def test_secret_again(self) -> None:
        """At a reload the secrets are read again: so they are rotated."""
        old, new = Secret("o" * 32, literal=True), Secret("n" * 32, literal=True)
        take = shop(auth=("token",))
        daemon = self.serving(configuration(take, tokens=TokenSettings(old)))
        tokens = daemon.state.tokens
        issued = self.successResultOf(tokens.issue("shop"))
        self.reload(daemon, configuration(take, tokens=TokenSettings(new, (old,))))
        self.successResultOf(tokens.check(issued.token.encode()))
        self.reload(daemon, configuration(take, tokens=TokenSettings(new)))
        self.failureResultOf(tokens.check(issued.token.encode()))

    def test_secret_missing(self) -> None:
        """A secret that can't be read ends the start, and changes nothing at a reload."""
        gone = TokenSettings(Secret("file:/no/such/file"))
        daemon = self.built(configuration(shop(), tokens=gone))
        self.assertRaises(StartError, daemon.startService)
        daemon = self.serving(configuration(shop(auth=("token",))))
        issued = self.successResultOf(daemon.state.tokens.issue("shop"))
        self.reload(daemon, configuration(shop(), tokens=gone))
        self.assertIn("/no/such/file", "".join(self.logged(LogLevel.error)))
        self.successResultOf(daemon.state.tokens.check(issued.token.encode()))

    def test_empty_secret(self) -> None:
        """What everybody knows is no secret: nothing is signed or encrypted with it."""
        good = Secret("g" * 32, literal=True)
        empty = Secret("env:EMPTY", {"EMPTY": ""})
        blank = Secret("env:BLANK", {"BLANK": " \n"})
        for bad in (empty, blank):
            for key, more in (
                ("tokens.secret", {"tokens": TokenSettings(bad)}),
                ("tokens.previous_secrets", {"tokens": TokenSettings(good, (bad,))}),
                ("state_key", {"state": StateSection(None, bad)}),
            ):
                daemon = self.built(configuration(shop(), **more))
                error = self.assertRaises(StartError, daemon.startService)
                self.assertEqual(str(error), f"{key}: {bad.place} is empty")

    def test_short_secret(self) -> None:
        """One that could be guessed is warned of, wherever it was read."""
        short, long = Secret("env:S", {"S": "hush"}), Secret("env:L", {"L": "l" * 32})
        for config, told in (
            (configuration(shop(), tokens=TokenSettings(short)), ["tokens.secret"]),
            (
                configuration(shop(), tokens=TokenSettings(long, (short,))),
                ["tokens.previous_secrets"],
            ),
            (configuration(shop(), state=StateSection(None, short)), ["state_key"]),
            (configuration(shop(), tokens=TokenSettings(long)), []),
        ):
            self.state = self.mktemp()
            self.environment = {"STATE_DIRECTORY": self.state}
            self.events.clear()
            self.reload(self.built(config), config)
            lines = [line for line in self.logged(LogLevel.warn) if "guessed" in line]
            self.assertEqual([line.split(":")[0] for line in lines], told)
            self.assertNotIn("hush", "".join(lines))

    def test_broken_file(self) -> None:
        """A state file that is none ends the start with one line, and is left alone."""
        path = Path(self.mktemp()) / "mine.sqlite"
        path.parent.mkdir()
        path.write_bytes(b"precious" * 100)
        state = StateSection(f"sqlite:///{str(path.absolute()).lstrip('/')}")
        daemon = self.built(configuration(shop(), state=state))
        error = self.assertRaises(StartError, daemon.startService)
        self.assertIn(str(path), str(error))
        self.assertEqual(path.read_bytes(), b"precious" * 100)

    def test_figures(self) -> None:
        """A store that nodes share tells for how long it has said nothing; another has none."""
        daemon = self.serving(configuration(shop()))
        self.assertEqual(list(daemon.state.figures()), [])
        shared = StateSection("postgresql://u@192.0.2.1/db", Secret("k" * 32))
        (figure,) = self.built(configuration(shop(), state=shared)).state.figures()
        self.assertEqual((figure.name, figure.value), ("state_silent_seconds", float("inf")))
