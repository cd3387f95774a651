"""Tests for L{proxyd.config.socks}."""

from __future__ import annotations

from proxyd.config.load import Flags
from proxyd.config.model import Listener
from proxyd.config.secrets import Secret
from proxyd.config.ways import Account, Socks5, SocksTls
from proxyd.rules.routes import Limits
from tests.config.reading import ReadingCase

USUAL = Socks5((Listener("127.0.0.1:1080", "tcp", "127.0.0.1", 1080),))


class SocksTests(ReadingCase):
    """The section C{socks5}."""

    def test_default(self) -> None:
        """Absent, nothing is opened; empty, loopback's port 1080."""
        self.assertIsNone(self.load("").socks5)
        self.assertIsNone(self.load("routes: []\ndefault: direct\n").socks5)
        self.assertEqual(self.load("socks5:").socks5, USUAL)

    def test_whole(self) -> None:
        """Every key."""
        found = self.load(
            """\
            socks5:
              listen: 0.0.0.0:1080
              auth:
                - {user: admin, pass: "env:P"}
                - {user: ann, pass: x, max_connections: 5, bandwidth: 1MB}
              tls: {certificate: /c, key: /k}
              bind: true
              pac: true
              auth_timeout: 5s
              connect_timeout: 6s
              max_clients: 7
            """
        )
        self.assertEqual(
            found.socks5,
            Socks5(
                (Listener("0.0.0.0:1080", "tcp", "0.0.0.0", 1080),),
                (
                    Account("admin", Secret("env:P")),
                    Account("ann", Secret("x"), Limits(5, 1_000_000)),
                ),
                SocksTls("/c", "/k"),
                True,
                True,
                5.0,
                6.0,
                7,
            ),
        )
        self.assertEqual(found.warnings, ())

    def test_flag(self) -> None:
        """--socks5-listen wins over the file, opens it by itself, and is checked."""
        listen = (Listener("127.0.0.1:99", "tcp", "127.0.0.1", 99),)
        flags = Flags(socks5_listen="127.0.0.1:99")
        for text in ("", "socks5: {listen: '127.0.0.1:1'}"):
            self.assertEqual(self.load(text, flags=flags).socks5, Socks5(listen))
        self.assertEqual(
            self.wrong("", flags=Flags(socks5_listen="tls:1")),
            ["--socks5-listen: tls:1: name the port; for TLS, socks5.tls"],
        )
        far = self.wrong("", flags=Flags(socks5_listen="0.0.0.0:99"))
        self.assertIn("may be reached from elsewhere", far[0])

    def test_open(self) -> None:
        """A listener for other machines needs a login, and is warned of without TLS."""
        self.assertEqual(
            self.wrong("socks5:\n  listen: ['127.0.0.1:1', '10.0.0.1:1']\n"),
            [
                (
                    "proxyd.yaml:2: socks5.listen: 10.0.0.1:1 may be reached from elsewhere, and "
                    "anybody could go anywhere by it: say auth: {user: NAME, pass: SECRET}, or "
                    "listen on 127.0.0.1"
                )
            ],
        )
        config = self.load("socks5:\n  listen: 10.0.0.1:1\n  auth: {user: a, pass: b}\n")
        self.assertEqual(
            [str(one).replace(f"{self.place}/", "") for one in config.warnings],
            [
                (
                    "proxyd.yaml:2: socks5.listen: 10.0.0.1:1 may be reached from elsewhere, and "
                    "without tls passwords go there in clear"
                )
            ],
        )

    def test_wrong(self) -> None:
        """Everything at once."""
        self.assertEqual(
            self.wrong(
                """\
                socks5:
                  listen: "ssl:1"
                  auth:
                    - {user: a}
                    - {user: b, pass: x}
                    - {user: b, pass: y}
                    - {user: %s, pass: y}
                  tls: {certificate: /c}
                  bind: maybe
                """
                % ("x" * 256)
            ),
            [
                "proxyd.yaml:2: socks5.listen: ssl:1: name the port; for TLS, socks5.tls",
                "proxyd.yaml:4: socks5.auth[0]: has no pass: auth: {user: NAME, pass: SECRET}",
                "proxyd.yaml:6: socks5.auth[2].user: b is named twice",
                "proxyd.yaml:7: socks5.auth[3].user: has at most 255 bytes (RFC 1929)",
                "proxyd.yaml:8: socks5.tls: has no key",
                "proxyd.yaml:9: socks5.bind: must be true or false, not text",
            ],
        )
        self.assertEqual(
            self.wrong("socks5: {auth: []}"),
            ["proxyd.yaml:1: socks5.auth: an empty list lets nobody in: leave it out for no login"],
        )
