"""
libpq 18, the one inside psycopg, with the words that a careful client says.

What libpq refuses by itself is compared word for word: it is what a user of
proxyd reads.
"""

from __future__ import annotations

import tempfile
import threading
from typing import Any

from twisted.trial.unittest import SkipTest

from tests.net.authority import made, put, revocation_list
from tests.support.blackbox import (
    BlackBoxTestCase,
    configuration,
    open_service,
    service,
    shared_daemon,
)
from tests.support.daemon import Daemon
from tests.support.database import CLIENT, DATABASE, Database

try:
    import psycopg
    from psycopg import pq
except ImportError:
    psycopg = None  # type: ignore[assignment]

SECONDS = 60
PROTOCOL_3_2 = 30002
SLEEP = "SELECT pg_sleep(50)"


def both_ways(database: Database) -> str:
    """C{shop} asks for a password, C{open} for nothing."""
    asks = service(database, dsn=database.dsn(database=DATABASE, sslmode="disable"))
    return configuration({DATABASE: asks, "open": open_service(database)})


class LibpqTestCase(BlackBoxTestCase):
    """Connects with words of libpq's."""

    def setUp(self) -> None:
        """Have psycopg with libpq 18, and a proxyd."""
        super().setUp()
        if psycopg is None or pq.version() < 180000:
            raise SkipTest("psycopg with libpq 18 is not installed")
        self.proxy: Daemon = self.begin()

    def begin(self) -> Daemon:
        """The proxyd of these tests."""
        return self.watch(shared_daemon(both_ways(self.database)))

    def connect(self, database: str = DATABASE, **words: Any) -> psycopg.Connection[Any]:
        """A connection, closed when the test ends."""
        usual = {"host": self.proxy.host, "user": CLIENT, "sslmode": "require"}
        if database == DATABASE:
            usual["password"] = self.database.passwords[CLIENT]
        usual |= {"port": str(self.proxy.port), "dbname": database}
        connection = psycopg.connect(**(usual | words), connect_timeout=SECONDS, autocommit=True)
        self.addCleanup(connection.close)
        self.assertEqual(connection.execute("SELECT 1").fetchone(), (1,))
        return connection

    def refused(self, database: str = DATABASE, **words: Any) -> str:
        """What libpq says of a connection that it does not get."""
        error = self.assertRaises(psycopg.OperationalError, self.connect, database, **words)
        return str(error)

    def cancelled(self, connection: psycopg.Connection[Any]) -> None:
        """A long query is stopped by libpq's own cancel request."""
        marker = f"{SLEEP} /* {self.id()} */"

        def cancel() -> None:
            self.database.wait_activity(f"query = '{marker}' AND state = 'active'")
            connection.cancel_safe(timeout=SECONDS)

        thread = threading.Thread(target=cancel)
        thread.start()
        try:
            with self.assertRaises(psycopg.errors.QueryCanceled):
                connection.execute(marker)
        finally:
            thread.join(SECONDS)
        self.assertEqual(connection.execute("SELECT 2").fetchone(), (2,))


class WordsTests(LibpqTestCase):
    """How TLS, protocol and authentication are asked for."""

    def test_direct(self) -> None:
        """C{sslnegotiation=direct}: queries, and a cancel request by the same way (6, 90)."""
        connection = self.connect(sslnegotiation="direct")
        self.assertTrue(connection.pgconn.ssl_in_use)
        self.cancelled(connection)

    def test_direct_verified(self) -> None:
        """The same, with proxyd's certificate verified by its name."""
        root = str(self.proxy.folder / ".proxyd" / "ca.pem")
        words = {"sslnegotiation": "direct", "sslmode": "verify-full", "sslrootcert": root}
        self.connect(host="localhost", hostaddr=self.proxy.host, **words)
        said = self.refused(host="another.example", hostaddr=self.proxy.host, **words)
        self.assertIn('does not match host name "another.example"', said)

    def test_protocol_3_2(self) -> None:
        """C{min_protocol_version=3.2}: that is spoken, and its long key cancels (15)."""
        for words in (
            {"min_protocol_version": "3.2"},
            {"max_protocol_version": "latest", "sslnegotiation": "direct"},
            {"min_protocol_version": "3.2", "sslmode": "disable"},
        ):
            connection = self.connect(**words)
            self.assertEqual(connection.pgconn.full_protocol_version, PROTOCOL_3_2)
        self.cancelled(connection)

    def test_protocol_3_0(self) -> None:
        """An old client is spoken to as ever."""
        connection = self.connect(max_protocol_version="3.0")
        self.assertEqual(connection.pgconn.full_protocol_version, 30000)

    def test_channel_binding(self) -> None:
        """
        C{channel_binding=require} can't be had: proxyd asks for the password itself.

        libpq does not send it then, and says why.
        """
        for word in ("prefer", "disable"):
            self.connect(channel_binding=word)
        self.assertIn(
            "channel binding required but not supported by server's authentication request",
            self.refused(channel_binding="require"),
        )
        self.assertIn(
            "channel binding required, but server authenticated client without channel binding",
            self.refused("open", channel_binding="require"),
        )

    def test_require_auth(self) -> None:
        """C{require_auth}: a password or nothing is asked for; any other wish is refused."""
        self.connect(require_auth="password")
        self.connect("open", require_auth="none")
        for wish in ("scram-sha-256", "!password", "md5,scram-sha-256"):
            self.assertIn(
                f'authentication method requirement "{wish}" failed: '
                "server requested a cleartext password",
                self.refused(require_auth=wish),
            )
        self.assertIn("did not complete", self.refused("open", require_auth="scram-sha-256"))

    def test_tls_versions(self) -> None:
        """TLS 1.2 and 1.3 are spoken."""
        for version in ("TLSv1.2", "TLSv1.3"):
            self.connect(ssl_min_protocol_version=version, ssl_max_protocol_version=version)

    def test_replication(self) -> None:
        """C{replication=database} is refused in clear words, never an ordinary session (19)."""
        said = self.refused(replication="database")
        self.assertIn("FATAL:  replication is not offered through proxyd", said)


class CertificateTests(LibpqTestCase):
    """C{auth: cert} and C{verify-full}, as libpq's users come."""

    def begin(self) -> Daemon:
        """A proxyd that believes one CA, and has a list of what it took back."""
        here = tempfile.TemporaryDirectory(prefix="proxyd-test-")
        self.addCleanup(here.cleanup)
        self.folder = here.name
        ca = made("clients' CA", ca=True)
        self.owners = {name: made(name, issuer=ca) for name in (CLIENT, "mallory", "app-1")}
        crl = revocation_list(ca, self.owners["mallory"])
        tls = {
            "client_ca": put(self.folder, "ca.pem", ca.pem),
            "client_crl": put(self.folder, "ca.crl", crl),
        }
        dsn = self.database.dsn(database=DATABASE, sslmode="disable")
        rules = [{"cn": "/^(app)-[0-9]+$", "user": r"\1_user"}]
        connections = {
            "own": service(self.database, dsn=dsn, auth="cert"),
            "mapped": service(self.database, dsn=dsn, auth="cert", cert_map=rules),
        }
        return self.start_daemon(configuration(connections, {"tls": tls}))

    def shown(self, name: str) -> dict[str, str]:
        """The words that show somebody's certificate."""
        certificate, key = self.owners[name].write(self.folder, name)
        (self.proxy.folder / key).chmod(0o600)
        return {"sslcert": certificate, "sslkey": key, "sslcertmode": "require"}

    def test_own_name(self) -> None:
        """The common name is the user's; nothing is asked."""
        for negotiation in ("postgres", "direct"):
            words = self.shown(CLIENT) | {"sslnegotiation": negotiation, "require_auth": "none"}
            connection = self.connect("own", **words)
            self.assertFalse(connection.pgconn.used_password)
        said = self.refused("own", **self.shown("app-1"))
        self.assertIn(f'certificate authentication failed for user "{CLIENT}"', said)
        self.assertIn("requires a valid client certificate", self.refused("own"))

    def test_map(self) -> None:
        """A map says who is who."""
        self.connect("mapped", user="app_user", **self.shown("app-1"))
        self.assertIn("FATAL", self.refused("mapped", user="app-1", **self.shown("app-1")))

    def test_revoked(self) -> None:
        """A certificate that was taken back ends in TLS's own alert; the log says why."""
        said = self.refused("own", user="mallory", **self.shown("mallory"))
        self.assertIn("certificate revoked", said)
        self.proxy.wait_logged("its certificate is revoked")
