"""Tests for L{proxyd.app.ssh}."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.internet import reactor
from zope.interface.verify import verifyObject

from proxyd.app.room import Ground
from proxyd.app.ssh import KNOWN_HOSTS, ssh_upstream
from proxyd.config.model import State
from proxyd.config.secrets import Secret
from proxyd.config.ways import Ssh, Upstream
from proxyd.errors import StartError
from proxyd.interfaces import IUpstream
from proxyd.ssh.upstream import SshUpstream
from proxyd.target import Target
from tests.ssh.scene import SshCase
from tests.support.sshd import Sshd, make_key


class SshUpstreamTests(SshCase):
    """What the configuration says comes to be."""

    def setUp(self) -> None:
        self.folder = Path(self.mktemp())

    def made(self, server: Sshd, **words: Any) -> SshUpstream:
        """An upstream to one server; words are of its C{ssh} section."""
        fields: dict[str, Any] = {"user": server.user, "key": str(server.client_key)} | words
        upstream = Upstream(
            "office", Ssh(**fields), hosts=(Target(server.host, server.port),), resolve="local"
        )
        environment = {"STATE_DIRECTORY": str(self.folder)}
        direct = self.dialer()
        ground = Ground(reactor, environment, None, None, direct)  # type: ignore[arg-type]
        return ssh_upstream(upstream, ground, State(), direct)

    def started(self, upstream: SshUpstream) -> SshUpstream:
        """The same, running."""
        upstream.startService()
        self.addCleanup(upstream.stopService)
        return upstream

    async def test_first_sight(self) -> None:
        """Without known_hosts the host key is kept in the state directory."""
        server = self.sshd()
        upstream = self.started(self.made(server))
        self.assertTrue(verifyObject(IUpstream, upstream))
        self.assertEqual((upstream.name, upstream.resolves), ("office", "local"))
        await upstream.ready()
        kept = (self.folder / KNOWN_HOSTS).read_text()
        self.assertEqual(kept, f"[{server.host}]:{server.port} {server.host_key()}\n")

    async def test_known_hosts(self) -> None:
        """With known_hosts an unknown key is refused, and nothing is written."""
        server = self.sshd()
        known = Path(self.mktemp())
        known.write_text("")
        upstream = self.started(self.made(server, known_hosts=str(known)))
        try:
            await upstream.ready()
        except StartError as problem:
            self.assertIn(f"is not in {known}", str(problem))
        else:
            self.fail("ready")
        self.assertEqual((known.read_text(), self.folder.exists()), ("", False))

    async def test_passphrase(self) -> None:
        """A passphrase comes from where the configuration says; one that is missing is told."""
        key = make_key(Path(self.mktemp()), passphrase="open sesame")
        server = self.sshd(keys=[key.with_name(f"{key.name}.pub")])
        secret = Secret("env:SESAME", {"SESAME": "open sesame"})
        await self.started(self.made(server, key=str(key), passphrase=secret)).ready()
        with self.assertRaises(StartError):
            self.made(server, passphrase=Secret("env:SESAME", {}))
