"""Tests for L{proxyd.app.ssm}."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from proxyd.config.secrets import Secret
from proxyd.config.ways import Aws, Ssh, Upstream
from proxyd.errors import StartError
from proxyd.ssh.upstream import SshUpstream
from proxyd.ssm.upstream import SsmUpstream
from tests.app.built import DaemonTestCase, configuration
from tests.net.authority import made

AWS = Aws(
    region="eu-central-1",
    access_key=Secret("AKID", literal=True),
    secret_key=Secret("hush", literal=True),
    endpoint_url="http://127.0.0.1:1",
)


class SsmUpstreamTests(DaemonTestCase):
    """Upstreams of instances in the daemon."""

    def test_made(self) -> None:
        """With C{ssh} it is SSH over sessions, without it the agent forwards."""
        inside = Upstream("dev", Ssh("ops"), AWS, instances=("i-1", "i-2"))
        forwarding = Upstream("prod", None, AWS, instances=("i-3",), resolve="local")
        upstreams = {"dev": inside, "prod": forwarding}
        ways = self.serving(configuration(upstreams=upstreams)).ways.router.upstreams
        self.assertIsInstance(ways["dev"], SshUpstream)
        self.assertEqual([one.name for one in ways["dev"].status().instances], ["i-1", "i-2"])
        self.assertIsInstance(ways["prod"], SsmUpstream)
        self.assertEqual((ways["dev"].resolves, ways["prod"].resolves), ("far", "local"))

    def test_ca_bundle(self) -> None:
        """The CAs that AWS's own tools are told of; a file that is none is told."""
        pair = made("ca", ca=True)
        path, _ = pair.write(self.mktemp(), "ca")
        self.environment["AWS_CA_BUNDLE"] = path
        config = configuration(upstreams={"dev": Upstream("dev", None, AWS, instances=("i-1",))})
        daemon = self.serving(config)
        self.assertTrue(daemon.ways.router.upstreams["dev"])
        Path(path).write_text("none")
        other = replace(config.upstreams["dev"], sessions=2)
        self.assertRaises(StartError, daemon.ways.prepare, configuration(upstreams={"dev": other}))
