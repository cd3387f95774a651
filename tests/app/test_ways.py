"""Tests for L{proxyd.app.ways}."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from proxyd.config.secrets import Secret
from proxyd.config.ways import Ssh, Upstream
from proxyd.errors import StartError
from proxyd.rules.patterns import pattern
from proxyd.rules.routes import Rule
from proxyd.target import Principal, Target
from tests.app.built import DaemonTestCase, configuration

ANN = Principal("ann", "192.0.2.1")
JUMP = Upstream("jump", Ssh("ops"), hosts=(Target("192.0.2.7", 22),))
OVER = Upstream("over", Ssh("ops"), hosts=(Target("inner", 22),), via="jump")


class WaysTests(DaemonTestCase):
    """The upstreams, and the routes that lead to them."""

    def test_made(self) -> None:
        """Each upstream by its name, in whatever order one runs over another."""
        ways = self.serving(configuration(upstreams={"over": OVER, "jump": JUMP})).ways
        self.assertEqual(sorted(ways.router.upstreams), ["jump", "over"])
        self.assertEqual(ways.router.upstreams["jump"].name, "jump")
        figures = {(one.name, one.labels["upstream"]) for one in ways.figures()}
        self.assertIn(("upstream_up", "over"), figures)

    def test_routes_follow(self) -> None:
        """A reload puts other routes in force."""
        daemon = self.serving(configuration())
        self.assertEqual(daemon.ways.router.rules.default, "direct")
        rule = Rule((pattern("10.0.0.0/8"),), None, number=1)
        self.reload(daemon, configuration(routes=(rule,), default=None))
        self.assertEqual(daemon.ways.router.rules.rules, (rule,))
        self.assertIsNone(daemon.ways.router.rules.default)

    def test_only_what_changed(self) -> None:
        """An upstream that is the same stays; what runs over one that changed is made anew."""
        both = {"jump": JUMP, "over": OVER, "own": replace(JUMP, name="own")}
        daemon = self.serving(configuration(upstreams=both))
        before = dict(daemon.ways.router.upstreams)
        self.reload(daemon, configuration(upstreams={**both, "jump": replace(JUMP, sessions=2)}))
        after = daemon.ways.router.upstreams
        self.assertIs(after["own"], before["own"])
        self.assertIsNot(after["jump"], before["jump"])
        self.assertIsNot(after["over"], before["over"])
        self.reload(daemon, configuration(upstreams={"own": both["own"]}))
        self.assertEqual(list(daemon.ways.router.upstreams), ["own"])

    def test_passphrase(self) -> None:
        """One that can't be read is said at the start; nothing changes at a reload."""
        daemon = self.serving(configuration(upstreams={"jump": JUMP}))
        ssh = Ssh("ops", "/k", Secret("env:NO", {}))
        config = configuration(upstreams={"jump": replace(JUMP, ssh=ssh)})
        self.assertRaises(StartError, daemon.ways.prepare, config)
        self.reload(daemon, config)
        self.assertEqual(list(daemon.ways.router.upstreams), ["jump"])

    def test_listener_waits(self) -> None:
        """A reload that adds or drops the SOCKS5 section says that it waits for the next start."""
        ways = self.serving(configuration()).ways
        self.assertEqual(ways.fixed(configuration()), {"socks5": False})

    def test_dialer(self) -> None:
        """A connection's servers are reached by its C{via}, or as the routes say."""
        ways = self.serving(configuration(upstreams={"jump": JUMP})).ways
        jump = ways.router.upstreams["jump"]
        by_jump = ways.dialer_for("jump").endpoint_for(Target("db", 5432), ANN)
        self.assertIs(type(by_jump), type(jump.endpoint_for(Target("db", 5432), ANN)))
        direct = ways.dialer_for(None).endpoint_for(Target("db", 5432), ANN)
        self.assertIsNot(type(direct), type(by_jump))

    def test_host_keys(self) -> None:
        """Without a file of host keys, they are learnt into the state directory."""
        self.serving(configuration(upstreams={"jump": JUMP}))
        self.assertFalse((Path(self.state) / "known_hosts").exists())
