"""Tests for L{proxyd.config.routes}."""

from __future__ import annotations

from proxyd.config.model import Config
from proxyd.rules.routes import Limits
from tests.config.reading import ReadingCase

UPSTREAMS = "socks5:\nupstreams: {dev: {agent: x}, prod: {agent: y}}\nroutes:\n"
"""The routes begin in line 4."""


class RouteTests(ReadingCase):
    """The sections C{routes} and C{default}."""

    def routes(self, *lines: str) -> Config:
        """Routes beside two upstreams."""
        return self.load(UPSTREAMS + "".join(f"  - {line}\n" for line in lines))

    def routes_wrong(self, *lines: str) -> list[str]:
        """What is wrong with such routes."""
        return self.wrong(UPSTREAMS + "".join(f"  - {line}\n" for line in lines))

    def warnings(self, *lines: str) -> list[str]:
        """What is warned of."""
        found = self.routes(*lines).warnings
        return [str(one).replace(f"{self.place}/", "") for one in found]

    def test_whole(self) -> None:
        """Every key."""
        one, other = self.routes(
            "{match: ['10.0.0.0/8', '*.x'], upstream: dev, ports: [80, 8000-8100],"
            " users: [ann, 'ops-*'], max_connections: 5, bandwidth: 10MB}",
            "{match: 169.254.0.0/16, deny: true}",
        ).routes
        self.assertEqual([found.text for found in one.patterns], ["10.0.0.0/8", "*.x"])
        self.assertEqual((one.way, one.number), ("dev", 1))
        self.assertEqual(one.ports, ((80, 80), (8000, 8100)))
        self.assertEqual(one.users, ("ann", "ops-*"))
        self.assertEqual(one.limits, Limits(5, 10_000_000))
        self.assertEqual((other.way, other.number), (None, 2))

    def test_one_port(self) -> None:
        """A port needs no list and no quotes."""
        (one,) = self.routes("{match: x, upstream: direct, ports: 443}").routes
        self.assertEqual((one.ports, one.way), (((443, 443),), "direct"))

    def test_unknown_upstream(self) -> None:
        """An upstream that is not there is named, with the line."""
        self.assertEqual(
            self.routes_wrong("{match: x, upstream: dv}", "{match: x, upstream: other}"),
            [
                (
                    "proxyd.yaml:4: routes[0].upstream: dv is not one of the upstreams; "
                    "did you mean dev?"
                ),
                (
                    "proxyd.yaml:5: routes[1].upstream: other is not one of the upstreams "
                    "(there are: dev, direct, prod)"
                ),
            ],
        )

    def test_wrong(self) -> None:
        """Everything at once, each in its line."""
        self.assertEqual(
            self.routes_wrong(
                "{match: '10.0.*', deny: true}",
                "{match: x}",
                "{match: x, deny: true, upstream: dev}",
                "{match: x, deny: false}",
                "{upstream: dev}",
                "x",
                "{match: x, upstream: dev, ports: 0}",
                "{match: [], upstream: dev}",
                "{match: x, deny: true, bandwidth: 1MB}",
                "{match: x, upstream: dev, colour: red}",
            ),
            [
                (
                    "proxyd.yaml:4: routes[0].match: 10.0.* is no address; a range of addresses is "
                    "a CIDR block (10.0.0.0/8)"
                ),
                "proxyd.yaml:5: routes[1]: says either upstream: NAME or deny: true",
                "proxyd.yaml:6: routes[2]: says either upstream: NAME or deny: true",
                "proxyd.yaml:7: routes[3].deny: is true or absent",
                (
                    "proxyd.yaml:8: routes[4]: has no match: match: 10.0.0.0/8, *.internal, HOST "
                    "or '*'"
                ),
                "proxyd.yaml:9: routes[5]: must be a mapping of keys to values, not text",
                (
                    "proxyd.yaml:10: routes[6].ports: 0 is not a port from 1 to 65535, or a range "
                    "of them"
                ),
                (
                    "proxyd.yaml:11: routes[7].match: an empty list matches nothing: leave it out, "
                    "or the route"
                ),
                "proxyd.yaml:12: routes[8]: a route that denies needs no limits",
                "proxyd.yaml:13: routes[9].colour: is not a known key",
            ],
        )

    def test_host_bits(self) -> None:
        """They are masked, with a warning."""
        self.assertEqual(
            self.warnings("{match: 10.1.2.3/8, upstream: dev}"),
            ["proxyd.yaml:4: routes[0].match: 10.1.2.3/8 has host bits: it means 10.0.0.0/8"],
        )

    def test_never(self) -> None:
        """A rule that can never match is warned of; one for other ports or users is not."""
        self.assertEqual(
            self.warnings(
                "{match: 10.0.0.0/8, upstream: dev}",
                "{match: 10.1.0.0/16, upstream: prod}",
                "{match: '*', upstream: dev, users: ann}",
                "{match: x, upstream: prod}",
            ),
            [
                (
                    "proxyd.yaml:5: routes[1].match: can never match: route 1 (10.0.0.0/8) takes "
                    "all of it"
                )
            ],
        )

    def test_default(self) -> None:
        """Direct, an upstream, or deny."""
        for text, way in (("", "direct"), ("default: prod", "prod"), ("default: deny", None)):
            self.assertEqual(self.load(UPSTREAMS.replace("routes:\n", text)).default, way)
        self.assertEqual(
            self.wrong(UPSTREAMS + "default: pod\n"),
            ["proxyd.yaml:4: default: pod is not one of the upstreams; did you mean prod?"],
        )
