"""
What a person is told when something is wrong: one clear line, and the exit code.

A start that can't be is said on stderr and ends the process; trouble with a
server is said to the client in an SQLSTATE of its own and to the operator in
one line of the log, and the daemon runs on.
"""

from __future__ import annotations

import contextlib
import re
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

from tests.support.blackbox import BlackBoxTestCase, configuration, open_service, service
from tests.support.daemon import PORT, Daemon, Ended, environment_for, free_port, run_daemon
from tests.support.database import CLIENT, DATABASE, OPEN_SERVICE, Database
from tests.support.deadlines import wait_until
from tests.support.programs import run
from tests.support.wireclient import ServerError

GOOD_LISTENER = 'postgres: {listen: ["127.0.0.1:0"]}\n'


WAYS = """\
socks5:

upstreams:
  dev:
    ssh: {user: ec2-user}
    aws: {profile: default, access_key: AKIAEXAMPLE, secret_key: "env:DEV_SECRET"}
    instances: [i-dev-1]
  prod:
    aws: {access_key: AKIAEXAMPLE, secret_key: "env:PROD_SECRET"}
    instances: [i-prod-1]

routes:
  - {match: "10.0.0.5/8", upstream: dev}
  - {match: "10.1.0.0/16", upstream: prod}
  - {match: "*.prod.internal", upstream: pord}
"""
"""Upstreams and routes that can't be; C{docs/howto-socks.md} shows them."""


class StartTests(BlackBoxTestCase):
    """Starts that can't be."""

    def run_with(self, text: str, *options: str, name: str = "proxyd.yaml") -> Ended:
        """Run the daemon on this configuration, which must end it."""
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir()
        (self.folder / name).write_text(text)
        return run_daemon("-c", name, *options, folder=self.folder)

    def assert_one_line(self, ended: Ended, pattern: str, code: int = 1) -> None:
        """All a person sees is one line that says this, and the exit code is right."""
        self.assertEqual(len(ended.lines), 1, ended)
        self.assertRegex(ended.lines[0], pattern)
        self.assertEqual(ended.code, code, ended)
        self.assertNotIn("Traceback", ended.out + ended.err)

    def test_no_configuration(self) -> None:
        """Without any configuration: where it looked, and what makes one."""
        folder = Path(self.mktemp()).absolute()
        folder.mkdir()
        ended = run_daemon(folder=folder)
        self.assert_one_line(ended, r"proxyd\.yaml.*proxyctl init")

    def test_file_missing(self) -> None:
        """A file that is not there is named."""
        folder = Path(self.mktemp()).absolute()
        folder.mkdir()
        ended = run_daemon("-c", "nowhere.yaml", folder=folder)
        self.assert_one_line(ended, "nowhere.yaml")

    def test_unknown_key(self) -> None:
        """A wrong key: file, line and key."""
        ended = self.run_with("postgres:\n  listen: 127.0.0.1:0\n  tsl: {}\n")
        self.assert_one_line(ended, r"proxyd\.yaml:3: postgres\.tsl: ")

    def test_wrong_value(self) -> None:
        """A wrong value in TOML: file and key."""
        ended = self.run_with("[postgres]\nauth_timeout = 'soon'\n", name="proxyd.toml")
        self.assert_one_line(ended, r"proxyd\.toml(:2)?: postgres\.auth_timeout: ")

    def test_not_yaml(self) -> None:
        """A file that can't be read at all: where it breaks."""
        ended = self.run_with("postgres: {listen: [\n")
        self.assert_one_line(ended, r"proxyd\.yaml:\d+: ")

    def test_all_at_once(self) -> None:
        """Several faults are told at once, each in its line, in the order of the file."""
        ended = self.run_with(
            "drain_timeout: never\npostgres:\n  max_clients: -1\n  colour: red\nstrange: 1\n"
        )
        places = [re.match(r"proxyd\.yaml:(\d+): ", line) for line in ended.lines]
        self.assertEqual([place and place[1] for place in places], ["1", "3", "4", "5"], ended)
        self.assertEqual(ended.code, 1)

    def test_ways(self) -> None:
        """Credentials said twice, a missing region, an upstream nobody has: each by its line."""
        ended = self.run_with(WAYS)
        self.assertEqual(
            ended.lines,
            [
                (
                    "proxyd.yaml:6: upstreams.dev.aws.access_key: and profile: credentials come "
                    "from one of them, not both"
                ),
                (
                    "proxyd.yaml:9: upstreams.prod.aws.access_key: region is missing: keys, unlike "
                    "a profile, name none"
                ),
                (
                    "proxyd.yaml:15: routes[2].upstream: pord is not one of the upstreams; did you "
                    "mean prod?"
                ),
            ],
        )
        self.assertEqual(ended.code, 1)

    def test_ways_to_look_at(self) -> None:
        """Host bits, and a rule that can never match, are warned of by their lines."""
        good = WAYS.replace(', access_key: AKIAEXAMPLE, secret_key: "env:DEV_SECRET"', "")
        good = good.replace('access_key: AKIAEXAMPLE, secret_key: "env:PROD_SECRET"', "profile: p")
        folder = Path(self.mktemp()).absolute()
        folder.mkdir()
        (folder / "proxyd.yaml").write_text(good.replace("pord", "prod"))
        proxyctl = Path(sys.executable).with_name("proxyctl")
        file = str(folder / "proxyd.yaml")
        done = run([proxyctl, "check", "-c", file], environment_for(folder))
        self.assertEqual(
            done.out.replace(file, "proxyd.yaml").splitlines(),
            [
                (
                    "warning: proxyd.yaml:13: routes[0].match: 10.0.0.5/8 has host bits: it means "
                    "10.0.0.0/8"
                ),
                (
                    "warning: proxyd.yaml:14: routes[1].match: can never match: route 1 "
                    "(10.0.0.5/8) takes all of it"
                ),
                "proxyd.yaml: good; SOCKS5 on 127.0.0.1:1080",
            ],
        )

    def test_wrong_usage(self) -> None:
        """Wrong usage: one line, code 2."""
        self.assert_one_line(self.run_with(GOOD_LISTENER, "--colour"), "colour", 2)
        self.assert_one_line(self.run_with(GOOD_LISTENER, "more"), "more", 2)
        self.assert_one_line(self.run_with(GOOD_LISTENER, "--log-level", "x"), "log-level", 2)

    def test_port_taken(self) -> None:
        """A port that is taken is named."""
        with socket.socket() as other:
            other.bind(("127.0.0.1", 0))
            other.listen()
            port = other.getsockname()[1]
            ended = self.run_with(f'postgres: {{listen: ["127.0.0.1:{port}"]}}\n')
        self.assert_one_line(ended, rf"127\.0\.0\.1:{port}.*in use")

    def test_certificate_missing(self) -> None:
        """A certificate that is not there is named."""
        text = 'postgres: {listen: ["127.0.0.1:0"], tls: {certificate: /no/such.pem, key: /no/k}}\n'
        self.assert_one_line(self.run_with(text), r"/no/such\.pem")

    def test_certificate_is_none(self) -> None:
        """A file that is no certificate is named."""
        text = 'postgres: {listen: ["127.0.0.1:0"], tls: {certificate: c.pem, key: c.pem}}\n'
        folder = Path(self.mktemp()).absolute()
        folder.mkdir()
        (folder / "c.pem").write_text("nothing of the kind\n")
        (folder / "proxyd.yaml").write_text(text)
        ended = run_daemon("-c", "proxyd.yaml", folder=folder)
        self.assert_one_line(ended, r"c\.pem")

    def test_password_missing(self) -> None:
        """A variable that holds a secret and is not set is named."""
        self.assert_one_line(self.run_with(with_password("file:/no/pass")), "/no/pass")


class ServerTests(BlackBoxTestCase):
    """Servers that don't do what they should."""

    def refused(self, proxy: Daemon, password: str = "", database: str = DATABASE) -> ServerError:
        """What a client is told that logs in and asks; a FATAL in each case."""

        def ask() -> None:
            with proxy.session(CLIENT, database, password) as client:
                client.query("SELECT 1")

        error: ServerError = self.assertRaises(ServerError, ask)
        self.assertEqual((error.fields["S"], error.fields["V"]), ("FATAL", "FATAL"))
        return error

    def assert_one_log_line(self, proxy: Daemon, pattern: str, times: int = 1) -> None:
        """The operator is told in one line each time, not in a traceback."""
        line = rf"(?m)^\S+ (?:warn|error) .*(?:{pattern})"
        proxy.wait_logged(line)
        log = proxy.log_text()
        self.assertEqual(len(re.findall(line, log)), times, log)
        self.assertNotIn("Traceback", log)

    def test_server_down(self) -> None:
        """No server there: 08001 for the client, the address for the operator."""
        port = free_port()
        connection = service(self.database, dsn=f"postgresql://svc@127.0.0.1:{port}/")
        for auth, password in (("trust", ""), ("backend", "any")):
            text = configuration({"default": connection | {"auth": auth}})
            proxy = self.start_daemon(text)
            error = self.refused(proxy, password)
            self.assertEqual(error.sqlstate, "08001")
            self.assertIn("D", error.fields)
            self.assertNotIn(str(port), str(error.fields))
            self.assert_one_log_line(proxy, rf"127\.0\.0\.1:{port}")

    def test_wrong_service_password(self) -> None:
        """The service user is refused: 08006 with DETAIL, never a 28xxx."""
        for auth in ("trust", "backend"):
            connection = service(self.database, password="not the password", auth=auth)
            proxy = self.start_daemon(configuration({"default": connection}))
            error = self.refused(proxy, self.database.passwords[CLIENT])
            self.assertEqual(error.sqlstate, "08006")
            self.assertIn("D", error.fields)
            self.assert_one_log_line(proxy, "28P01|password authentication failed")
            self.assertNotIn("not the password", proxy.log_text())

    def test_server_that_trusts_us(self) -> None:
        """A server that lets any password in proves nobody's: 28000, and why in the log."""
        with trusting_server(self.database):
            proxy = self.start_daemon(configuration({"default": service(self.database)}))
            for password in ("wrong", self.database.passwords[CLIENT]):
                self.assertEqual(self.refused(proxy, password).sqlstate, "28000")
            self.assert_one_log_line(proxy, "pg_hba", 2)

    def test_server_without_tls(self) -> None:
        """A server that has no TLS where it is demanded: 08001."""
        with socket.socket() as bare:
            bare.bind(("127.0.0.1", 0))
            port = bare.getsockname()[1]
            bare.listen()
            dsn = f"postgresql://svc@127.0.0.1:{port}/?sslmode=require"
            connection = service(self.database, dsn=dsn, auth="trust", min_idle_connections=0)
            proxy = self.start_daemon(configuration({"default": connection}))
            answering = threading.Thread(target=refuse_tls, args=(bare,))
            answering.start()
            self.assertEqual(self.refused(proxy).sqlstate, "08001")
            bare.shutdown(socket.SHUT_RDWR)
            answering.join(20)
            self.assert_one_log_line(proxy, "TLS")

    def test_unverified_certificate(self) -> None:
        """A certificate that nobody vouches for is refused under verify-full: 08001."""
        dsn = self.database.dsn(sslmode="verify-full")
        proxy = self.start_daemon(configuration({"default": service(self.database, dsn=dsn)}))
        error = self.refused(proxy, self.database.passwords[CLIENT])
        self.assertEqual(error.sqlstate, "08001")
        self.assert_one_log_line(proxy, "certificate")

    def test_database_nobody_has(self) -> None:
        """The database is not there: 3D000."""
        connection = service(self.database, auth="trust")
        proxy = self.start_daemon(configuration({"default": connection}))
        self.assertEqual(self.refused(proxy, database="nowhere").sqlstate, "3D000")

    def test_server_comes_back(self) -> None:
        """A server that was away is used again when it is there, without a restart of ours."""
        proxy = self.start_daemon(configuration({"default": open_service(self.database)}))
        with proxy.session(OPEN_SERVICE, DATABASE) as client:
            client.query("SELECT 1")
        self.database.cluster.restart(immediate=True)
        with proxy.session(OPEN_SERVICE, DATABASE) as client:
            self.assertEqual(client.value("SELECT 'back'"), "back")


def with_password(secret: str) -> str:
    """A configuration whose service user has this password."""
    connection = {"dsn": "postgresql://svc@127.0.0.1:1/", "password": secret}
    return configuration({"default": connection}).replace(PORT, "0")


@contextlib.contextmanager
def trusting_server(database: Database) -> Iterator[None]:
    """
    The server with a pg_hba.conf that lets the client in without looking, for a while.

    Whoever logs in from then on is meant; sessions that are there go on.
    """
    hba = database.cluster.hba
    hba.insert(0, f"host all {CLIENT} 127.0.0.1/32 trust")
    try:
        read_again(database)
        yield
    finally:
        del hba[0]
        read_again(database)


def read_again(database: Database) -> None:
    """Have the server read its configuration; over when it says so of itself."""
    loaded = "SELECT pg_conf_load_time()"
    with database.admin() as admin:
        before = admin.value(loaded)
        database.cluster.reload()
        wait_until(lambda: admin.value(loaded) != before, 60, "the server to read its files")


def refuse_tls(listening: socket.socket) -> None:
    """Answer each client that it gets no TLS here, until the listener is shut."""
    with contextlib.suppress(OSError):
        while True:
            there = listening.accept()[0]
            with there:
                there.recv(8)
                there.sendall(b"N")
