"""Tests for L{proxyd.config.api}."""

from __future__ import annotations

from proxyd.config.api_model import Api, ApiTls
from proxyd.config.model import Listener, Postgres
from proxyd.config.secrets import Secret
from tests.config.reading import ReadingCase

LOOPBACK = Listener("127.0.0.1:8080", "tcp", "127.0.0.1", 8080)


class ApiTests(ReadingCase):
    """The section C{api}."""

    def test_absent_and_empty(self) -> None:
        """Absent, nothing is opened; empty, the UNIX socket only."""
        self.assertIsNone(self.load("").api)
        self.assertEqual(self.load("api:").api, Api())
        self.assertEqual(self.load("api: {}").api, Api())

    def test_postgres(self) -> None:
        """PostgreSQL's listener waits for the first registered database, unless it is asked for."""
        found = self.load("api:")
        self.assertEqual(found.postgres, Postgres(on_demand=True))
        self.assertEqual(found.warnings, ())
        found = self.load("postgres:\napi:")
        self.assertEqual((found.postgres, found.warnings), (Postgres(), ()))

    def test_whole(self) -> None:
        """Every key."""
        found = self.load(
            """\
            api:
              listen: ["127.0.0.1:8080", "unix:/run/x"]
              tls: {certificate: ~/c.pem, key: /k.pem}
              socket: ~/api.sock
              admin_token: env:T
              metrics_token: file:/m
              hosts: [proxy.example, 192.0.2.1]
            """,
            {"HOME": "/home/ann"},
        )
        self.assertEqual(
            found.api,
            Api(
                (LOOPBACK, Listener("unix:/run/x", "unix", path="/run/x")),
                ApiTls("/home/ann/c.pem", "/k.pem"),
                "/home/ann/api.sock",
                Secret("env:T"),
                Secret("file:/m"),
                ("proxy.example", "192.0.2.1"),
            ),
        )
        self.assertEqual(found.warnings, ())

    def test_far_without_tls(self) -> None:
        """The admin token never goes over a network in clear, unless that is asked for."""
        for place in (
            "0.0.0.0:8080",
            "192.0.2.1:8080",
            "[::]:8080",
            "systemd:api",
            "api.example:1",
        ):
            (line,) = self.wrong(f"api:\n  listen: '{place}'")
            self.assertIn(f"proxyd.yaml:2: api.listen: {place} may be reached from elsewhere", line)
            self.assertIn("mode: disable", line)
            tls = "tls: {certificate: /c, key: /k}"
            self.assertEqual(self.load(f"api: {{listen: '{place}', {tls}}}").warnings, ())
            found = self.load(f"api: {{listen: '{place}', tls: {{mode: disable}}}}")
            (warning,) = found.warnings
            self.assertIn("gets the admin token", str(warning))
            assert found.api is not None
            self.assertIsNone(found.api.tls)

    def test_tls(self) -> None:
        """Certificate and key go together, and not with disable."""
        start = "api:\n  tls: "
        self.assertEqual(
            self.wrong(start + "{certificate: /c}"), ["proxyd.yaml:2: api.tls.key: is missing"]
        )
        self.assertEqual(len(self.wrong(start + "{mode: require}")), 2)
        (line,) = self.wrong(start + "{mode: disable, certificate: /c, key: /k}")
        self.assertIn("contradicts", line)
        (line, *_) = self.wrong(start + "{mode: prefer}")
        self.assertIn("is not one of disable, require", line)

    def test_listeners(self) -> None:
        """Endpoints that would speak TLS by themselves are refused, with what to say."""
        (line,) = self.wrong("api:\n  listen: 'ssl:8080:privateKey=/k'")
        self.assertIn("api.tls: {certificate: C, key: K}", line)

    def test_socket(self) -> None:
        """A whole path, of a length that a socket can have; C{unix:} may stand before it."""
        api = self.load("api: {socket: 'unix:/run/p/api.sock'}").api
        self.assertEqual(api and api.socket, "/run/p/api.sock")
        (line,) = self.wrong("api:\n  socket: api.sock")
        self.assertIn("whole path", line)
        (line,) = self.wrong(f"api:\n  socket: /{'x' * 120}")
        self.assertIn("107 bytes", line)

    def test_unknown(self) -> None:
        """A key that is none is told, with what may have been meant."""
        (line,) = self.wrong("api:\n  token: x")
        self.assertIn("api.token: is not a known key", line)

    def test_secrets(self) -> None:
        """No token stands in a repr or a problem."""
        found = self.load("api: {admin_token: hunter2hunter2hunter2}").api
        self.assertNotIn("hunter2", repr(found))
