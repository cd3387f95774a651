"""Tests for L{proxyd.config.upstreams}."""

from __future__ import annotations

import textwrap

from proxyd.config.secrets import Secret
from proxyd.config.ways import Aws, Ssh, Upstream
from proxyd.target import Target
from tests.config.reading import ReadingCase

SEVERAL = """\
listen: "127.0.0.1:28881"

auth:  # Optional SOCKS5 authentication
  user: admin
  pass: secret

upstreams:
  dev:
    ssh:
      user: ec2-user
    aws:
      profile: default  # Region auto-detected
    instances: [i-dev-1, i-dev-2]

  prod:
    ssh:
      user: admin
      key: ~/.ssh/prod.pem
    aws:
      profile: prod
    instances: [i-prod-1]

routes:
  - match: "10.0.0.0/8"
    upstream: dev
  - match: "*.prod.internal"
    upstream: prod

default: dev
"""
"""The first proxies' own example."""

ONE = "listen: 127.0.0.1:1080\nssh: {user: u}\naws: {profile: p}\ninstances: [i-1]\n"
"""The same for one upstream."""


class FirstFormsTests(ReadingCase):
    """The configurations of the first proxies load unmodified."""

    def test_several(self) -> None:
        """Two upstreams and their routes; all must be up at the start."""
        config = self.load(SEVERAL, {"HOME": "/home/ann"})
        self.assertEqual(
            config.upstreams,
            {
                "dev": Upstream(
                    "dev",
                    Ssh("ec2-user"),
                    Aws("default"),
                    instances=("i-dev-1", "i-dev-2"),
                    start="required",
                ),
                "prod": Upstream(
                    "prod",
                    Ssh("admin", "/home/ann/.ssh/prod.pem"),
                    Aws("prod"),
                    instances=("i-prod-1",),
                    start="required",
                ),
            },
        )
        self.assertEqual([rule.way for rule in config.routes], ["dev", "prod"])
        self.assertEqual(config.default, "dev")
        assert config.socks5 is not None
        self.assertEqual(config.socks5.listen[0].port, 28881)
        self.assertEqual(config.socks5.accounts[0].password, Secret("secret"))
        self.assertIsNone(config.postgres)

    def test_one(self) -> None:
        """A file that is one upstream: everything goes there."""
        config = self.load(ONE)
        self.assertEqual(
            config.upstreams["default"],
            Upstream("default", Ssh("u"), Aws("p"), instances=("i-1",), start="required"),
        )
        self.assertEqual(config.default, "default")
        assert config.socks5 is not None
        self.assertEqual(config.socks5.listen[0].port, 1080)

    def test_mixed(self) -> None:
        """A file is either flat or has the sections, never both."""
        self.assertEqual(
            [line.split(": ")[1] for line in self.wrong("socks5: {}\nlisten: x\nauth: {}\n")],
            ["listen", "auth"],
        )
        problems = self.wrong("upstreams: {}\nssh: {user: u}\naws: {profile: p}\n")
        self.assertEqual([line.split(": ")[1] for line in problems], ["ssh", "aws"])


class UpstreamTests(ReadingCase):
    """The section C{upstreams}."""

    def upstream(self, keys: str) -> Upstream:
        """One upstream beside a SOCKS5 section."""
        text = "socks5:\nupstreams:\n  b:\n    ssh: {}\n    hosts: h\n  a:\n"
        return self.load(text + textwrap.indent(keys, "    ")).upstreams["a"]

    def upstream_wrong(self, *lines: str) -> list[str]:
        """What is wrong with such keys; the first of them stands in line 4."""
        keys = textwrap.indent("\n".join(lines), "    ")
        return [
            line.partition("upstreams.a")[2] if "upstreams.a" in line else line
            for line in self.wrong("socks5:\nupstreams:\n  a:\n" + keys + "\n")
        ]

    def test_hosts(self) -> None:
        """Plain SSH, over another upstream."""
        found = self.upstream(
            "ssh: {user: ops, key: /k, passphrase: env:P, port: 2222, known_hosts: /n}\n"
            "hosts: [bastion.example, 'x:22', '::1', '[::1]:23']\n"
            "sessions: 3\nresolve: local\nstart: required\nvia: b\n"
        )
        self.assertEqual(
            found,
            Upstream(
                "a",
                Ssh("ops", "/k", Secret("env:P"), 2222, "/n"),
                hosts=(
                    Target("bastion.example", 2222),
                    Target("x", 22),
                    Target("::1", 2222),
                    Target("::1", 23),
                ),
                sessions=3,
                start="required",
                resolve="local",
                via="b",
            ),
        )

    def test_defaults(self) -> None:
        """Beside other sections an upstream is lazy; C{via: direct} is no way between."""
        found = self.upstream("ssh: {user: u}\nhosts: h\nvia: direct\n")
        self.assertEqual(found, Upstream("a", Ssh("u"), hosts=(Target("h", 22),)))

    def test_instances(self) -> None:
        """SSM, with SSH or without."""
        found = self.upstream(
            "aws: {region: r, access_key: k, secret_key: env:S, session_token: t,\n"
            "      endpoint_url: 'http://127.0.0.1:4566'}\n"
            "instances: i-1\n"
        )
        aws = Aws(None, "r", Secret("k"), Secret("env:S"), Secret("t"), "http://127.0.0.1:4566")
        self.assertEqual(found, Upstream("a", None, aws, instances=("i-1",)))
        self.assertEqual(self.upstream("aws: {region: r}\ninstances: i-1\n").aws, Aws(region="r"))

    def test_agents(self) -> None:
        """A reverse agent, or several."""
        self.assertEqual(self.upstream("agent: [pc1, pc2]\n").agents, ("pc1", "pc2"))

    def test_credentials(self) -> None:
        """A profile and inline keys contradict each other; keys need all their parts."""
        for aws, problems in (
            (
                "{profile: p, access_key: k}",
                [".aws.access_key: and profile: credentials come from one of them, not both"],
            ),
            (
                "{access_key: k, secret_key: s}",
                [".aws.access_key: region is missing: keys, unlike a profile, name none"],
            ),
            (
                "{access_key: k, region: r}",
                [".aws.access_key: goes together with secret_key, which is missing"],
            ),
            (
                "{}",
                [".aws: names neither a profile, nor a region with access_key and secret_key"],
            ),
            (
                "{profile: p, endpoint_url: 'ftp://x'}",
                [".aws.endpoint_url: ftp://x is not a URL such as https://HOST"],
            ),
        ):
            self.assertEqual(self.upstream_wrong(f"aws: {aws}", "instances: i-1"), problems)

    def test_contradictions(self) -> None:
        """Keys that don't make one way out."""
        for lines, problems in (
            (["ssh: {}"], [": names neither instances nor hosts nor an agent"]),
            (["hosts: h"], [".hosts: are SSH servers: ssh: {user: …} is missing"]),
            (["instances: i-1"], [".instances: are reached by AWS: aws: {profile: …} is missing"]),
            (["ssh: {}", "hosts: []"], [".hosts: names no host"]),
            (["aws: {profile: p}", "instances: []"], [".instances: names no instance"]),
            (
                ["aws: {profile: p}", "instances: i-1", "hosts: h"],
                [".hosts: instances are reached by SSM, hosts by SSH: two upstreams"],
            ),
            (
                ["aws: {profile: p}", "instances: i-1", "via: a"],
                [
                    ".via: is for hosts: AWS is always reached directly",
                    ".via: goes round in a circle: a → a",
                ],
            ),
            (
                ["agent: x", "ssh: {}"],
                [".ssh: an upstream with `agent` has no other way: leave one out"],
            ),
            (["agent: []"], [".agent: names no agent"]),
            (["agent: 'a b'"], [".agent: a b is not the id of an agent"]),
            (["ssh: {passphrase: x}", "hosts: h"],
             [".ssh.passphrase: is of a key file: key is missing"]),
            (["ssh: {}", "hosts: 'h:0'"], [".hosts: 0 is not a port (1 to 65535)"]),
            (["ssh: {}", "hosts: h", "colour: red"], [".colour: is not a known key"]),
        ):  # fmt: skip
            self.assertEqual(self.upstream_wrong(*lines), problems, lines)

    def test_via(self) -> None:
        """It must be there, and lead out."""
        text = "socks5:\nupstreams:\n"
        for name, via in (("a", "b"), ("b", "c"), ("c", "a"), ("d", "a"), ("e", "other")):
            text += f"  {name}: {{ssh: {{}}, hosts: h, via: {via}}}\n"
        self.assertEqual(
            self.wrong(text),
            [
                "proxyd.yaml:3: upstreams.a.via: goes round in a circle: a → b → c → a",
                "proxyd.yaml:4: upstreams.b.via: goes round in a circle: b → c → a → b",
                "proxyd.yaml:5: upstreams.c.via: goes round in a circle: c → a → b → c",
                (
                    "proxyd.yaml:7: upstreams.e.via: other is not one of the upstreams "
                    "(there are: a, b, c, d, e)"
                ),
            ],
        )

    def test_names(self) -> None:
        """Some names mean something already."""
        problems = self.wrong("upstreams:\n  direct: {agent: x}\n  'a b': {agent: x}\n")
        self.assertEqual(
            problems,
            [
                (
                    "proxyd.yaml:2: upstreams.direct: direct has a meaning of its own: "
                    "call this upstream something else"
                ),
                (
                    "proxyd.yaml:3: upstreams.a b: the name of an upstream has no spaces "
                    "and is not empty"
                ),
            ],
        )

    def test_secrets(self) -> None:
        """Credentials are in no repr."""
        text = (
            "upstreams:\n  a: {aws: {region: r, access_key: k1, secret_key: hunter2}, instances: i}"
        )
        self.assertNotIn("hunter2", repr(self.load(text)))
