"""
proxyd as a client of real servers: PostgreSQL 15, 17 and 18, their TLS, and a standby.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from demo.cluster import Cluster
from demo.files import write_secret
from demo.ground import account_for
from proxyd.config.dsn import parse_dsn
from proxyd.config.model import Connection
from proxyd.config.secrets import Secret
from proxyd.config.times import LINGER, PasswordTimes
from proxyd.dial.direct import DirectDialer
from proxyd.errors import DialError
from proxyd.net.link import Link
from proxyd.net.resolver import Resolver
from proxyd.postgres.answers import Fatal, Refused
from proxyd.postgres.backend_login import Verifier
from proxyd.postgres.server import Account, Server
from proxyd.postgres.server_connection import Failed, ServerConnection
from proxyd.postgres.settings import settings_request
from proxyd.target import Principal
from proxyd.wire.pg import messages
from tests.net.authority import made
from tests.postgres.client import until
from tests.support.servers import new_server, new_standby, server

ME = Principal("postgres", "127.0.0.1")
SECONDS = 30.0


def self_signed(key: Any, algorithm: Any, **words: Any) -> bytes:
    """A certificate for 127.0.0.1, signed by its own key in this way."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(key, algorithm, **words)
        .public_bytes(Encoding.PEM)
    )


class RealTestCase(TestCase):
    """Logins to real servers, as the superuser that a cluster was made with."""

    timeout = 120

    def setUp(self) -> None:
        """A link and a dialer."""
        self.link = Link(reactor, reactor, LINGER)
        self.link.start()
        self.resolver = Resolver(reactor)
        self.resolver.startService()
        self.dialer = DirectDialer(reactor, self.resolver, 30.0)

    async def tearDown(self) -> None:
        """Nothing is left."""
        await until(lambda: self.link.ends == 0, "the link to carry nothing", SECONDS)
        self.link.stop()
        self.resolver.stopService()

    def behind(self, *clusters: Cluster, **words: str) -> Server:
        """The servers behind a DSN with these words."""
        hosts = ",".join(f"{cluster.host}:{cluster.port}" for cluster in clusters)
        query = "&".join(f"{name}={value}" for name, value in words.items())
        parsed = parse_dsn(f"postgresql://postgres@{hosts}/postgres?{query}", {})
        secret = Secret(clusters[0].password, literal=True)
        connection = Connection("real", parsed.dsn, secret, connect_timeout=SECONDS)
        behind = Server(connection, self.dialer, self.link, reactor)
        self.addCleanup(behind._deadlines.stop)
        return behind

    async def log_in(self, *clusters: Cluster, **words: str) -> ServerConnection:
        """Log in; closed at the end."""
        behind = self.behind(*clusters, **words)
        account = Account("postgres", clusters[0].password.encode())
        connection = await Deferred.fromCoroutine(behind.login(account, "postgres", {}, ME))
        self.addCleanup(connection.goodbye)
        return connection

    async def failure(self, *clusters: Cluster, **words: str) -> str:
        """Why a login fails."""
        try:
            await self.log_in(*clusters, **words)
        except (DialError, Refused) as failed:
            return str(failed)
        return self.fail("the login succeeded")

    async def value(self, connection: ServerConnection, sql: str) -> str:
        """The one value of a statement."""
        answer = await connection.run(messages.query(sql))
        (row,) = [messages.parse_data_row(body) for kind, body in answer if kind == ord("D")]
        return (row[0] or b"").decode()


class WordTests(RealTestCase):
    """The DSN's words, at PostgreSQL 15."""

    async def test_startup(self) -> None:
        """options and names hold, and come back after a reset."""
        connection = await self.log_in(
            server(15), options="-c%20work_mem%3D77MB", fallback_application_name="pool"
        )
        for _ in range(2):
            self.assertEqual(await self.value(connection, "SHOW work_mem"), "77MB")
            self.assertEqual(await self.value(connection, "SHOW application_name"), "pool")
            await connection.run(messages.query("SET work_mem = '1MB'"))
            await connection.run(messages.query("DISCARD ALL"))

    async def test_keepalive(self) -> None:
        """A connection is kept alive and undelayed, and as the DSN says."""
        for words, expected in (
            ({}, (1, 60, 15, 4)),
            ({"keepalives_idle": "7", "keepalives_count": "2"}, (1, 7, 15, 2)),
            ({"keepalives": "0"}, (0, 60, 15, 4)),
        ):
            connection = await self.log_in(server(15), **words)
            with socket.socket(fileno=os.dup(connection.end._fd)) as sock:
                self.assertNotEqual(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY), 0)
                found = [sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)]
                found += [
                    sock.getsockopt(socket.IPPROTO_TCP, option)
                    for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
                ]
                self.assertEqual(tuple(found), expected, words)

    async def test_require_auth(self) -> None:
        """Only what is allowed is answered."""
        await self.log_in(server(15), require_auth="scram-sha-256")
        await self.log_in(server(15), require_auth="!md5,!none")
        told = await self.failure(server(15), require_auth="!scram-sha-256")
        self.assertIn("scram-sha-256 authentication, which is not allowed", told)

    async def test_verify_full(self) -> None:
        """By a root of its own; and not by the system's."""
        cluster = server(15)
        root = str(cluster.certificate)
        connection = await self.log_in(cluster, sslmode="verify-full", sslrootcert=root)
        self.assertTrue(connection.secure)
        told = await self.failure(cluster, sslrootcert="system")
        self.assertIn("sslrootcert", told)


class RuleTests(RealTestCase):
    """The server's own rules decide on a password that is tried there."""

    async def test_rules(self) -> None:
        """
        VALID UNTIL, NOLOGIN, CONNECTION LIMIT and pg_hba.conf hold (CVE-2025-2291).

        A pooler that looks the password up by itself knows none of them.
        """
        cluster = server(15)
        for role, rule, state in (
            ("fine", "", ""),
            ("outdated", "VALID UNTIL '2001-01-01'", "28P01"),
            ("locked_out", "NOLOGIN", "28000"),
            ("crowded", "CONNECTION LIMIT 0", "53300"),
        ):
            create = f"CREATE ROLE {role} LOGIN PASSWORD 'right' {rule}".replace(
                "LOGIN PASSWORD 'right' NOLOGIN", "PASSWORD 'right' NOLOGIN"
            )
            await deferToThread(cluster.psql, f"DROP ROLE IF EXISTS {role}; {create}")
            self.assertEqual(await self.verified(cluster, role, b"right"), state, role)
        self.assertEqual(await self.verified(cluster, "fine", b"wrong"), "28P01")

    async def verified(self, cluster: Cluster, role: str, password: bytes) -> str:
        """Try a password; the SQLSTATE of the refusal, empty where there is none."""
        verifier = Verifier(reactor, PasswordTimes())
        principal = Principal(role, "127.0.0.1")
        try:
            await Deferred.fromCoroutine(
                verifier.verify(self.behind(cluster), "postgres", password, principal)
            )
        except Fatal as fatal:
            return fatal.sqlstate
        return ""

    async def test_values_are_bound(self) -> None:
        """What a client calls itself is a value, whatever is in it (CVE-2024-1597)."""
        name = "x'); DROP TABLE t; -- $1 \\' \" /* -1"
        setting = ("application_name", name)
        for major in (15, 16, 17, 18):
            # One setting is a call of a function by its number, which must be the same everywhere.
            for settings in ((setting,), (("work_mem", "77MB"), setting)):
                connection = await self.log_in(server(major))
                await connection.run(settings_request(settings))
                self.assertEqual(await self.value(connection, "SHOW application_name"), name)
                self.assertEqual(connection.parameters["application_name"], name)


class BindingTests(RealTestCase):
    """channel_binding=require, with certificates of every kind (RFC 5929, section 4.1)."""

    def show(self, cluster: Cluster, pem: bytes, key: Any) -> None:
        """Have the server show this certificate from now on."""
        secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        cluster.certificate.write_bytes(pem)
        write_secret(cluster.folder / "server.key", secret, account_for(os.getuid()))
        before = cluster.psql("SELECT pg_conf_load_time()")
        cluster.reload()
        self.reloaded = before

    async def shown(self, cluster: Cluster, pem: bytes, key: Any) -> None:
        """The same, and wait until it does."""
        self.show(cluster, pem, key)
        while await deferToThread(cluster.psql, "SELECT pg_conf_load_time()") == self.reloaded:
            pass
        await until(lambda: True, "the reactor")

    async def test_every_hash(self) -> None:
        """The certificate's own hash, but SHA-256 for SHA-1; of RSA-PSS the one it names."""
        cluster = await deferToThread(new_server, 15, ssl=True)
        self.addCleanup(cluster.stop)
        rsa_key = rsa.generate_private_key(65537, 2048)
        ec_key = ec.generate_private_key(ec.SECP256R1())
        pss = padding.PSS(padding.MGF1(hashes.SHA384()), padding.PSS.DIGEST_LENGTH)
        for key, algorithm, words in (
            (ec_key, hashes.SHA256(), {}),
            (ec_key, hashes.SHA384(), {}),
            (ec_key, hashes.SHA512(), {}),
            (rsa_key, hashes.SHA256(), {}),
            (rsa_key, hashes.SHA384(), {"rsa_padding": pss}),
        ):
            pem = self_signed(key, algorithm, **words)
            await self.shown(cluster, pem, key)
            connection = await self.log_in(cluster, sslmode="require", channel_binding="require")
            shown = connection.end.secure.connection.get_peer_certificate()  # type: ignore[union-attr]
            assert shown is not None
            self.assertEqual(shown.to_cryptography().public_bytes(Encoding.PEM), pem)

    async def test_none_defined(self) -> None:
        """With Ed25519 there is none: a login without, and none where it is required."""
        cluster = await deferToThread(new_server, 15, ssl=True)
        self.addCleanup(cluster.stop)
        key = ed25519.Ed25519PrivateKey.generate()
        await self.shown(cluster, made("127.0.0.1", key=key).pem, key)
        self.assertTrue((await self.log_in(cluster, sslmode="require")).secure)
        told = await self.failure(cluster, sslmode="require", channel_binding="require")
        self.assertIn("RFC 5929", told)

    async def test_unwanted(self) -> None:
        """channel_binding=disable logs in without, though it is offered."""
        await self.log_in(server(15), sslmode="require", channel_binding="disable")
        told = await self.failure(server(18), channel_binding="require")
        self.assertIn("TLS", told)


class NewerTests(RealTestCase):
    """PostgreSQL 17 and 18."""

    async def test_direct_tls(self) -> None:
        """sslnegotiation=direct, with the name verified; 15 does not know it."""
        cluster = server(17)
        words = {"sslmode": "verify-full", "sslrootcert": str(cluster.certificate)}
        connection = await self.log_in(cluster, sslnegotiation="direct", **words)
        assert connection.end.secure is not None
        shown = connection.end.secure.connection
        self.assertEqual(shown.get_alpn_proto_negotiated(), b"postgresql")
        await self.log_in(cluster, channel_binding="require", **words)
        await self.cancelled(cluster, sslmode="require", sslnegotiation="direct")
        await self.failure(server(15), sslmode="require", sslnegotiation="direct")

    async def test_long_keys(self) -> None:
        """Protocol 3.2 has a long cancel key (18), and it cancels; older ones say 3.0."""
        connection = await self.log_in(server(18), max_protocol_version="latest")
        self.assertEqual(len(connection.key or b""), 32)
        await self.cancelled(server(18), max_protocol_version="latest")
        for major in (15, 17):
            connection = await self.log_in(server(major), max_protocol_version="latest")
            self.assertEqual(len(connection.key or b""), 4)
            told = await self.failure(server(major), min_protocol_version="3.2")
            self.assertIn("min_protocol_version is 3.2", told)
        await self.log_in(server(18), min_protocol_version="3.2")

    async def cancelled(self, cluster: Cluster, **words: str) -> None:
        """A statement is cancelled there."""
        connection = await self.log_in(cluster, **words)
        running = connection.run(messages.query("SELECT pg_sleep(60) /* to be cancelled */"))
        asleep = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep(60)%'"
        other = await self.log_in(cluster)
        while await self.value(other, asleep) != "1":
            pass
        await Deferred.fromCoroutine(self.behind(cluster, **words).cancel(connection))
        try:
            await running
        except Failed as failed:
            self.assertEqual(failed.error.sqlstate, "57014")
        else:
            self.fail("it was not cancelled")


class IterationTests(RealTestCase):
    """SCRAM with many iterations."""

    async def test_many(self) -> None:
        """What takes long is done in a thread, and logs in."""
        cluster = server(17)
        await deferToThread(
            cluster.psql,
            "SET scram_iterations = 150000; DROP ROLE IF EXISTS slow;"
            " CREATE ROLE slow LOGIN PASSWORD 'right'",
        )
        verifier = Verifier(reactor, PasswordTimes())
        await Deferred.fromCoroutine(
            verifier.verify(
                self.behind(cluster), "postgres", b"right", Principal("slow", "127.0.0.1")
            )
        )


class StandbyTests(RealTestCase):
    """target_session_attrs, with a primary and its streaming standby."""

    async def test_roles(self) -> None:
        """Each word finds its server; after a failover the new primary is found."""
        primary = await deferToThread(new_server, 15, ssl=True)
        self.addCleanup(primary.stop)
        standby = await deferToThread(new_standby, primary)
        self.addCleanup(shutil.rmtree, standby.folder, True)
        self.addCleanup(standby.stop)
        both = (primary, standby)
        for wanted, clusters, port in (
            ("any", both, primary.port),
            ("read-write", both[::-1], primary.port),
            ("primary", both[::-1], primary.port),
            ("read-only", both, standby.port),
            ("standby", both, standby.port),
            ("prefer-standby", both, standby.port),
        ):
            found = await self.log_in(*clusters, target_session_attrs=wanted)
            self.assertEqual(found.address.port, port, wanted)
        reader = await self.log_in(*both, target_session_attrs="prefer-standby")
        self.assertEqual(reader.unsuited, "")
        await deferToThread(primary.stop, immediate=True)
        told = await self.failure(standby, target_session_attrs="primary")
        self.assertIn("is a standby", told)
        await deferToThread(standby.psql, "SELECT pg_promote()")
        await self.log_in(standby, target_session_attrs="read-write")
        # A server tells that it was promoted with its next answer: here, a health check's.
        await reader.run(messages.query(""))
        self.assertEqual(reader.unsuited, "is no standby")


class CrashTests(RealTestCase):
    """A server process dies, and all others with it."""

    async def test_password_during_recovery(self) -> None:
        """A password that is checked while the server recovers is checked when it has."""
        cluster = await deferToThread(new_server, 15)
        self.addCleanup(cluster.stop)
        victim, witness = await self.log_in(cluster), await self.log_in(cluster)

        def stirred() -> None:
            if not witness.overheard():
                witness.rest(stirred)

        witness.rest(stirred)
        os.kill(victim.pid, signal.SIGKILL)
        await until(lambda: witness.conversation.lost, "all to be ended", SECONDS)
        verifier = Verifier(reactor, PasswordTimes())
        behind = self.behind(cluster)
        await Deferred.fromCoroutine(
            verifier.verify(behind, "postgres", cluster.password.encode(), ME)
        )
