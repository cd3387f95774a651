"""
Logins by IAM tokens, the whole way: botocore's signer, TLS, a PostgreSQL whose PAM looks at them.

The server says "PAM authentication failed" to a token that is too old, wrongly
signed or for somebody else, as RDS does.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
import time
from typing import Any

from twisted.trial.unittest import SkipTest, TestCase

from tests.support.daemon import REPOSITORY, Daemon
from tests.support.deadlines import wait_until
from tests.support.fake_aws import FakeAws
from tests.support.rds import DATABASE, SECRET_KEY, USER, Rds
from tests.support.seeds import SOAK
from tests.support.wireclient import ServerError, WireClient

OLD_ONES = (
    "SELECT count(*) FROM pg_stat_activity WHERE usename = '" + USER + "' AND state = 'idle' "
    "AND now() - backend_start > interval '{seconds} seconds'"
)
THERE = f"SELECT count(*) FROM pg_stat_activity WHERE usename = '{USER}'"


class IamTestCase(TestCase):
    """A server that takes tokens, and a proxyd before it."""

    def rds(self, life: float, **settings: Any) -> Rds:
        """A server whose tokens are good for so long."""
        rds = Rds(life, **settings)
        rds.__enter__()
        self.addCleanup(rds.__exit__, None, None, None)
        return rds

    def daemon(self, rds: Rds, more: str = "", iam: str = "", **variables: str) -> Daemon:
        """A proxyd that logs in by tokens."""
        daemon = Daemon(rds.configuration(more, iam), variables=rds.variables() | variables)
        daemon.start()
        self.addCleanup(daemon.remove)
        self.addCleanup(daemon.stop)
        return daemon

    def session(self, daemon: Daemon) -> WireClient:
        """A client."""
        client = daemon.session("alice", DATABASE)
        self.addCleanup(client.close)
        return client

    def refused(self, daemon: Daemon) -> dict[str, str]:
        """What a client is told that gets no server."""
        error = self.assertRaises(ServerError, daemon.session, "alice", DATABASE)
        assert isinstance(error, ServerError)
        return error.fields


class RenewalTests(IamTestCase):
    """Connections are renewed before anybody could notice."""

    def test_tokens_expire(self) -> None:
        """
        Queries every two seconds, tokens that die young: none fails, no idle connection is old.

        For 45 seconds; as soak test for 20 minutes with tokens of 60 seconds.
        """
        life, lifetime, seconds = (60, 50, 1200) if SOAK else (15, 10, 45)
        rds = self.rds(life)
        daemon = self.daemon(rds, f"    connection_max_lifetime: {lifetime}s\n")
        end = time.monotonic() + seconds
        pids = set()
        pause = threading.Event()
        with rds.admin() as admin:
            while time.monotonic() < end:
                with daemon.session("alice", DATABASE) as client:
                    pids.add(client.value("SELECT pg_backend_pid()"))
                # A tick to notice, and a login to replace it.
                self.assertEqual(admin.value(OLD_ONES.format(seconds=lifetime + 3)), "0")
                self.assertNotEqual(admin.value(THERE), "0")
                pause.wait(2)
        self.assertGreaterEqual(len(pids), seconds // lifetime)
        self.assertNotIn("PAM", daemon.log_text())

    def test_under_load(self) -> None:
        """
        Twenty clients on a pool of ten whose connections live five seconds: nobody is turned away.

        For 12 seconds; as soak test for 10 minutes.
        """
        rds = self.rds(900)
        more = (
            "    connection_max_lifetime: 5s\n    max_open_connections: 10\n"
            "    acquire_timeout: 5s\n"
        )
        daemon = self.daemon(rds, more)
        end = time.monotonic() + (600 if SOAK else 12)
        failures: list[BaseException] = []
        pids: set[str | None] = set()
        longest = [0.0]

        def work() -> None:
            try:
                while time.monotonic() < end:
                    began = time.monotonic()
                    with daemon.session("alice", DATABASE) as client:
                        pids.add(client.value("SELECT pg_backend_pid()"))
                        client.query("SELECT pg_sleep(0.02)")
                    longest[0] = max(longest[0], time.monotonic() - began)
            except BaseException as error:
                failures.append(error)

        clients = [threading.Thread(target=work) for _ in range(20)]
        for client in clients:
            client.start()
        never_none = True
        with rds.admin() as admin:
            wait_until(lambda: admin.value(THERE) != "0", 30, "the first connection")
            while any(client.is_alive() for client in clients):
                never_none = never_none and admin.value(THERE) != "0"
                clients[0].join(0.2)
                for client in clients:
                    client.join(0.01)
        self.assertEqual(failures, [])
        self.assertTrue(never_none)
        self.assertGreater(len(pids), 10)
        sys.stderr.write(f"longest session {longest[0]:.2f} s over {len(pids)} connections ")

    def test_leased(self) -> None:
        """A connection that somebody uses is never cut for its age; it is counted apart."""
        rds = self.rds(30)
        daemon = self.daemon(rds, "    connection_max_lifetime: 2s\n")
        client = self.session(daemon)
        pid = client.value("SELECT pg_backend_pid()")
        client.query("SELECT pg_sleep(3.5)")
        self.assertEqual(client.value("SELECT pg_backend_pid()"), pid)


class ScenarioTests(IamTestCase):
    """The four ways in which logins by token are known to fail, each made to happen."""

    def test_connection_outlives_its_token(self) -> None:
        """The server looks at a token at the login only: a session goes on after its end."""
        rds = self.rds(6)
        client = self.session(self.daemon(rds))
        client.query("SELECT pg_sleep(7.5)")
        self.assertEqual(client.value("SELECT 'still here'"), "still here")

    def test_a_token_for_every_connection(self) -> None:
        """No token is used twice, so none that is old can be."""
        rds = self.rds(8)
        daemon = self.daemon(rds, "    connection_max_lifetime: 9s\n    max_open_connections: 4\n")
        clients = [self.session(daemon) for _ in range(4)]
        for client in clients:
            client.query("SELECT pg_sleep(2.3)")
            client.query("SELECT pg_sleep(0)")
        # The later ones were opened when a token of the first would have been too old.
        self.assertEqual(len({client.value("SELECT pg_backend_pid()") for client in clients}), 4)
        self.assertNotIn("refused", daemon.log_text())

    def test_expired(self) -> None:
        """A token that is too old on arrival: cause and remedy, for client and operator."""
        rds = self.rds(-1)
        daemon = self.daemon(rds, "    acquire_timeout: 10s\n")
        told = self.refused(daemon)
        self.assertEqual(told["C"], "08006")
        self.assertIn(f'PAM authentication failed for user "{USER}"', told["D"])
        self.assertIn("IAM token had expired or was not valid", told["H"])
        daemon.wait_logged("PAM authentication failed.*run proxyctl doctor")
        # It heals by itself.
        rds.change(life=900)
        self.assertEqual(self.session(daemon).value("SELECT 1"), "1")

    def test_wrong_credentials(self) -> None:
        """A token signed by other credentials is told in the same words."""
        rds = self.rds(900)
        rds.change(secret="another")
        daemon = self.daemon(rds)
        self.assertIn("PAM authentication failed", self.refused(daemon)["D"])
        self.assertNotIn(SECRET_KEY, daemon.log_text())
        self.assertNotIn("X-Amz-Signature", daemon.log_text())

    def test_clock(self) -> None:
        """A clock that is off by ten minutes is a refusal, too."""
        rds = self.rds(900)
        rds.change(ahead=-600)
        daemon = self.daemon(rds)
        self.assertIn("compare this machine's clock", self.refused(daemon)["H"])

    def test_password_wanted(self) -> None:
        """A server that asks this user for a password: rds_iam is what lacks."""
        rds = self.rds(900, hba=(f"hostssl all {USER} 127.0.0.1/32 password",))
        told = self.refused(self.daemon(rds))
        self.assertIn("password authentication failed", told["D"])
        self.assertIn("GRANT rds_iam TO", told["H"])

    def test_no_line(self) -> None:
        """A server without a line for it."""
        rds = self.rds(900, hba=(f"host all {USER} 127.0.0.1/32 reject",))
        told = self.refused(self.daemon(rds))
        self.assertEqual(told["C"], "08006")
        self.assertIn("pg_hba.conf", told["D"])
        self.assertIn("enable IAM authentication", told["H"])

    def test_no_credentials(self) -> None:
        """AWS says no to whoever asks for credentials: where to look is said."""
        rds, aws = self.rds(900), FakeAws()
        self.addCleanup(aws.stop)
        aws.trouble = "expired"
        variables = dict.fromkeys(("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"), "")
        daemon = self.daemon(rds, **(variables | aws.variables()))
        told = self.refused(daemon)
        self.assertEqual(told["C"], "08001")
        self.assertIn("No IAM token could be made", told["H"])
        daemon.wait_logged("ExpiredTokenException")

    def test_too_slow(self) -> None:
        """AWS's credentials do not come in time: which time can be raised is said."""
        rds, aws = self.rds(900), FakeAws()
        self.addCleanup(aws.stop)
        aws.trouble = "silent"
        variables = dict.fromkeys(("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"), "")
        daemon = self.daemon(rds, iam=", connection_timeout: 1s", **(variables | aws.variables()))
        told = self.refused(daemon)
        self.assertEqual(told["C"], "08001")
        self.assertIn("Raise aws_iam_auth.connection_timeout", told["H"])
        # When AWS answers again, so does the database.
        aws.trouble = ""
        rds.change(secret="secret-1")
        wait_until(lambda: self.let_in(daemon), 30, "a login by the container's credentials")

    def let_in(self, daemon: Daemon) -> bool:
        """Whether a client gets a server now."""
        try:
            with daemon.session("alice", DATABASE) as client:
                return client.value("SELECT 1") == "1"
        except ServerError:
            return False


class DoctorTests(IamTestCase):
    """C{proxyctl doctor} beside a running proxyd."""

    def doctor(self, daemon: Daemon, *arguments: str) -> subprocess.CompletedProcess[str]:
        """What it says."""
        command = [sys.executable, "-m", "proxyd.ctl", "doctor", *arguments]
        socket = str(daemon.folder / "api.sock")
        return subprocess.run(
            [*command, "--socket", socket], capture_output=True, text=True, timeout=60,
            cwd=REPOSITORY, check=False,
        )  # fmt: skip

    def test_life(self) -> None:
        """Good; then a clock that is off, a token that expires, a grant that is missing."""
        rds, aws = self.rds(900), FakeAws()
        self.addCleanup(aws.stop)
        folder = tempfile.TemporaryDirectory(prefix="pxd")
        self.addCleanup(folder.cleanup)
        with rds.admin() as admin:
            admin.query(f"GRANT rds_iam TO {USER}")
        text = rds.configuration() + f"api: {{socket: {folder.name}/api.sock}}\n"
        daemon = Daemon(text, variables=rds.variables() | {"AWS_ENDPOINT_URL": aws.url})
        daemon.start()
        self.addCleanup(daemon.remove)
        self.addCleanup(daemon.stop)
        os.symlink(f"{folder.name}/api.sock", daemon.folder / "api.sock")
        self.session(daemon)
        good = self.doctor(daemon)
        self.assertEqual((good.returncode, good.stderr), (0, ""), good.stdout)
        for check in ("lifetimes", "AWS credentials", "clock", "login", "rds_iam", "renewal"):
            self.assertIn(f"{DATABASE}: {check}: ", good.stdout)
        aws.ahead = 601
        with rds.admin() as admin:
            admin.query(f"REVOKE rds_iam FROM {USER}")
        bad = self.doctor(daemon, DATABASE)
        self.assertEqual(bad.returncode, 1)
        self.assertIn("behind AWS's", bad.stdout)
        self.assertIn(f'GRANT rds_iam TO "{USER}";', bad.stdout)
        rds.change(life=-1)
        aws.trouble = "expired"
        bad = self.doctor(daemon)
        self.assertIn("credentials have expired", bad.stdout)
        self.assertIn("PAM authentication failed", bad.stdout)
        self.assertIn("IAM token had expired", bad.stdout)


class SecretTests(IamTestCase):
    """The password out of Secrets Manager, changed while proxyd runs."""

    def test_rotation(self) -> None:
        """After a rotation the next login reads it again: no restart, and nobody is refused."""
        arn = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:db-AbCdEf"
        rds, aws = self.rds(900, hba=(f"hostssl all {USER} 127.0.0.1/32 scram-sha-256",)), FakeAws()
        self.addCleanup(aws.stop)
        aws.secret = '{"username": "x", "password": "fixed"}'
        text = rds.configuration("    reset: close\n")
        text = text.replace(
            "aws_iam_auth: {enabled: true, region: eu-central-1}", f"aws_secret: {{arn: '{arn}'}}"
        )
        daemon = Daemon(text, variables=rds.variables() | {"AWS_ENDPOINT_URL": aws.url})
        daemon.start()
        self.addCleanup(daemon.remove)
        self.addCleanup(daemon.stop)
        with daemon.session("alice", DATABASE) as client:
            self.assertEqual(client.value("SELECT 1"), "1")
        with rds.admin() as admin:
            admin.query(f"ALTER ROLE {USER} PASSWORD 'rotated'")
            # Until they are gone: a client may not be lent one that is just being ended.
            admin.query(
                "SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity "
                f"WHERE usename = '{USER}'"
            )
        aws.secret = '{"username": "x", "password": "rotated"}'
        with daemon.session("alice", DATABASE) as client:
            self.assertEqual(client.value("SELECT 1"), "1")
        daemon.wait_logged("has changed: the new one is used")
        self.assertNotIn("rotated", daemon.log_text())


class RealAwsTests(TestCase):
    """The same against AWS itself, where its variables say so."""

    VARIABLES = (
        "TEST_IAM_RDS_ENDPOINT",
        "TEST_IAM_RDS_REGION",
        "TEST_IAM_DB_USER",
        "TEST_IAM_DB_NAME",
    )

    def test_rotation(self) -> None:
        """Connections of ten seconds, a query every two, for 45 seconds: none fails."""
        missing = [name for name in self.VARIABLES if not os.environ.get(name)]
        if missing:
            raise SkipTest(f"real AWS: {', '.join(missing)} not set")
        endpoint, region, user, database = (os.environ[name] for name in self.VARIABLES)
        text = (
            'postgres: {listen: ["127.0.0.1:@PORT@"]}\n'
            f"connections:\n  {database}:\n"
            f"    dsn: postgresql://{user}@{endpoint}/{database}?sslmode=require\n"
            "    auth: trust\n    connection_max_lifetime: 10s\n"
            f"    aws_iam_auth: {{enabled: true, region: {region}}}\n"
        )
        variables = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
        with Daemon(text, variables=variables) as daemon:
            end, pause, pids = time.monotonic() + 45, threading.Event(), set()
            while time.monotonic() < end:
                with daemon.session("anybody", database) as client:
                    pids.add(client.value("SELECT pg_backend_pid()"))
                pause.wait(2)
            self.assertGreater(len(pids), 2)
