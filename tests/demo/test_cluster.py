"""A PostgreSQL of our own: made, started, asked, stopped, started again; never as root."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from twisted.trial.unittest import TestCase

from demo.binaries import NoServer, find_on_machine
from demo.cluster import Cluster, ClusterError
from demo.ground import account_for, make_temporary
from demo.probe import answers

if find_on_machine() is None:
    MISSING: str | None = "no PostgreSQL server on this machine"
else:
    MISSING = None


def user_of(pid: int) -> int:
    """The user id a process runs as."""
    return os.stat(f"/proc/{pid}").st_uid


class TemporaryClusterTests(TestCase):
    """A cluster without a folder lives as long as its C{with}."""

    skip = MISSING

    def test_life(self) -> None:
        """It takes logins when started, runs as no root, and leaves nothing."""
        with Cluster() as cluster:
            folder, pid = cluster.folder, cluster.pid
            self.assertEqual(cluster.psql("SELECT 1, 'a''b'"), "1|a'b")
            self.assertTrue(answers((cluster.host, cluster.port)))
            assert pid is not None
            self.assertNotEqual(user_of(pid), 0)
        self.assertFalse(folder.exists())
        self.assertFalse(os.path.exists(f"/proc/{pid}"))
        self.assertFalse(answers((cluster.host, cluster.port)))
        self.assertIsNone(cluster.pid)

    def test_logins_need_the_password(self) -> None:
        """No login is trusted; passwords are kept as SCRAM verifiers."""
        with Cluster() as cluster:
            self.assertRaises(ClusterError, cluster.psql, "SELECT 1", password="wrong")
            kept = cluster.psql("SELECT left(rolpassword, 14) FROM pg_authid WHERE rolcanlogin")
        self.assertEqual(kept, "SCRAM-SHA-256$")

    def test_settings_and_hba(self) -> None:
        """Settings hold, lines of pg_hba.conf come first, and both can be changed by a restart."""
        first = ["host all friend 127.0.0.1/32 trust"]
        with Cluster(settings={"cluster_name": "it's"}, hba=first) as cluster:
            self.assertEqual(cluster.psql("SHOW cluster_name"), "it's")
            rules = "SELECT auth_method FROM pg_hba_file_rules ORDER BY line_number"
            self.assertEqual(cluster.psql(rules).splitlines()[:2], ["trust", "scram-sha-256"])
            port = cluster.port
            cluster.settings = {"max_connections": "17"}
            cluster.hba = []
            cluster.restart()
            self.assertEqual((cluster.port, cluster.psql("SHOW max_connections")), (port, "17"))

    def test_crash_keeps_what_was_committed(self) -> None:
        """A restart as after a crash recovers what was committed."""
        with Cluster(durable=True) as cluster:
            cluster.psql("CREATE TABLE kept AS SELECT 7 AS seven")
            cluster.restart(immediate=True)
            self.assertEqual(cluster.psql("TABLE kept"), "7")

    def test_tls(self) -> None:
        """With C{ssl} a client that verifies host and certificate gets in, by TLS."""
        with Cluster(ssl=True) as cluster:
            url = cluster.dsn(sslmode="verify-full", sslrootcert=str(cluster.certificate))
            command = [str(cluster.binaries / "psql"), "-XAtw", url, "-c"]
            asked = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
            done = subprocess.run(
                [*command, asked], capture_output=True, text=True, check=False, timeout=30
            )
        self.assertEqual((done.stdout, done.stderr), ("t\n", ""))

    def test_bad_setting(self) -> None:
        """A server that can't start says why in one error, and leaves nothing."""
        cluster = Cluster(settings={"no_such_setting": "1"})
        error = self.assertRaises(ClusterError, cluster.start)
        self.assertIn("no_such_setting", str(error))
        self.assertIsNone(cluster.pid)
        self.assertRaises(ClusterError, lambda: cluster.folder)


class KeptClusterTests(TestCase):
    """A cluster with a folder keeps its data in it."""

    skip = MISSING

    def setUp(self) -> None:
        # Trial's own folder may be closed to the server's user.
        self.base = make_temporary("proxyd-test-", account_for(os.getuid()))
        self.addCleanup(shutil.rmtree, self.base)

    def test_second_start_keeps_the_data(self) -> None:
        """What was there at the stop is there at the next start, under the same password."""
        folder = self.base / "kept"
        with Cluster(folder, password="p'w") as cluster:
            cluster.psql("CREATE TABLE kept AS SELECT 7 AS seven")
        self.assertTrue((folder / "data").exists())
        with Cluster(folder) as cluster:
            self.assertEqual((cluster.psql("TABLE kept"), cluster.password), ("7", "p'w"))

    def test_version_that_made_the_data(self) -> None:
        """Data is served by the version that made it, where newer ones are found too."""
        folder = self.base / "kept"
        (folder / "data").mkdir(parents=True)
        (folder / "data" / "PG_VERSION").write_text("7\n")
        error = self.assertRaises(NoServer, Cluster(folder).start)
        self.assertIn("PostgreSQL 7", str(error))

    def test_one_at_a_time(self) -> None:
        """While a cluster runs, another on the same folder is refused and does no harm."""
        folder = self.base / "kept"
        with Cluster(folder) as cluster:
            error = self.assertRaises(ClusterError, Cluster(folder).start)
            self.assertIn(str(folder), str(error))
            self.assertEqual(cluster.psql("SELECT 1"), "1")

    def test_leftover_is_stopped(self) -> None:
        """A server that lost its starter is stopped, and the folder taken over."""
        folder = self.base / "kept"
        lost = Cluster(folder)
        lost.start()
        process, lock = lost._process, lost._lock
        assert process is not None and lock is not None
        # As when its starter is killed: the lock goes, the server stays.
        lost._process = None
        lock.close()
        with Cluster(folder) as cluster:
            self.assertNotEqual(cluster.pid, process.pid)
            self.assertEqual(cluster.psql("SELECT 1"), "1")
            self.assertEqual(process.wait(60), 0)

    def test_long_path(self) -> None:
        """A folder whose path is too long for a UNIX socket serves all the same."""
        folder = self.base / ("long" * 25)
        with Cluster(folder) as cluster:
            sockets = cluster.socket_folder
            self.assertFalse(sockets.is_relative_to(folder))
            self.assertEqual(cluster.psql("SELECT 1"), "1")
        self.assertFalse(sockets.exists())

    def test_secrets_are_closed(self) -> None:
        """The password's file is its owner's only, and the data is closed to others."""
        with Cluster(self.base / "kept") as cluster:
            modes = [
                (path.stat().st_mode & 0o777)
                for path in (cluster.folder / "password", cluster.data)
            ]
        self.assertEqual(modes, [0o600, 0o700])


class DsnTests(TestCase):
    """Connection strings."""

    skip = MISSING

    def test_quoting(self) -> None:
        """What a URL can't carry is quoted."""
        with Cluster(password="a/b@c") as cluster:
            self.assertEqual(
                cluster.dsn("my db", sslmode="disable"),
                f"postgresql://postgres:a%2Fb%40c@127.0.0.1:{cluster.port}/my%20db?sslmode=disable",
            )
            self.assertEqual(
                cluster.dsn(user="ann"), f"postgresql://ann@127.0.0.1:{cluster.port}/postgres"
            )


class NotStartedTests(TestCase):
    """What needs a running server says so."""

    def test_folder(self) -> None:
        """A cluster that was not started has no folder yet."""
        self.assertRaises(ClusterError, lambda: Cluster(Path("/nowhere")).folder)
