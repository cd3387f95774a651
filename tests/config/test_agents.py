"""Tests for L{proxyd.config.agents}."""

from __future__ import annotations

from ipaddress import ip_network

from proxyd.config.agents_model import Agents, AgentTls, ReversePort
from tests.config.reading import ReadingCase


class AgentsTests(ReadingCase):
    """The section C{agents}."""

    def agents(self, text: str) -> Agents:
        """What it says."""
        found = self.load(text).agents
        assert found is not None
        return found

    def test_absent(self) -> None:
        """Then no agent can come."""
        self.assertIsNone(self.load("").agents)

    def test_usual(self) -> None:
        """Nothing said: loopback, any port, half a minute."""
        found = self.agents("agents:\n")
        self.assertEqual([place.text for place in found.listen], ["127.0.0.1:8443"])
        self.assertEqual((found.ports, found.grace, found.tls.mode), ((1024, 65535), 30.0, "auto"))

    def test_whole(self) -> None:
        """Every key, as the example has it."""
        found = self.agents(
            "agents:\n"
            '  listen: ["0.0.0.0:8443"]\n'
            "  tls: {certificate: C, key: K}\n"
            "  ports: 10000-20000\n"
            "  grace: 10s\n"
            "  proxies:\n"
            "    - {client_id: pc1, remote_host: 192.168.1.100, remote_port: 3389,\n"
            '       local_port: 13389, allow: ["10.0.0.0/8"], bandwidth: 10MB, bind: 127.0.0.1}\n'
            "    - {client_id: [pc1, pc2], remote_host: db, remote_port: 5432, local_port: 15432,\n"
            "       max_connections: 5, idle_timeout: 1m, proxy_protocol: v2, pool: 3,\n"
            "       compress: true}\n"
        )
        self.assertEqual(found.tls, AgentTls("require", "C", "K"))
        self.assertEqual((found.ports, found.grace), ((10000, 20000), 10.0))
        self.assertEqual(
            found.proxies,
            (
                ReversePort(
                    ("pc1",), "192.168.1.100", 3389, 13389,
                    allow=(ip_network("10.0.0.0/8"),), bandwidth=10_000_000,
                ),
                ReversePort(
                    ("pc1", "pc2"), "db", 5432, 15432, max_connections=5, idle_timeout=60.0,
                    proxy_protocol="v2", pool=3, compress=True,
                ),
            ),
        )  # fmt: skip

    def test_wrong(self) -> None:
        """What can't be, by its key."""
        for text, said in (
            ("ports: 20000-10000", "ends before it begins"),
            ("ports: a", "agents.ports"),
            ("tls: {mode: disable, certificate: C, key: K}", "contradicts"),
            ("tls: {certificate: C}", "go together"),
            ("listen: ssl:1", "agents.tls"),
            ("proxies: [{client_id: 'a b', remote_host: h, remote_port: 1, local_port: 1}]", "id"),
            ("proxies: [{remote_host: h}]", "is missing"),
            (
                "proxies: [{client_id: a, remote_host: h, remote_port: 70000, local_port: 1}]",
                "65535",
            ),
            ("other: 1", "is not a known key"),
        ):
            problems = self.wrong(f"agents:\n  {text}\n")
            self.assertTrue(any(said in problem for problem in problems), (text, problems))

    def test_twice(self) -> None:
        """A port that stands there twice."""
        one = "{client_id: a, remote_host: h, remote_port: 1, local_port: 5000}"
        (problem,) = self.wrong(f"agents:\n  proxies: [{one}, {one}]\n")
        self.assertIn("127.0.0.1:5000 stands there twice", problem)

    def test_plain_from_afar(self) -> None:
        """Without TLS, for other machines: a warning."""
        config = self.load('agents:\n  listen: "0.0.0.0:8443"\n  tls: {mode: disable}\n')
        (warning,) = config.warnings
        self.assertIn("gets the agents' tokens", str(warning))
