"""
C{auth: oauth} with PostgreSQL 18's own libpq: the one inside C{psycopg[binary]}.

libpq asks an application for a token by a hook; here the hook is set through
ctypes, and hands over the token that the test wants.
"""

from __future__ import annotations

import ctypes
import glob
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from twisted.trial.unittest import SkipTest, TestCase

from proxyd.auth.issued import OwnSecret, digest_of
from proxyd.records import TokenRecord
from tests.integration.seeded import seeded_state
from tests.support.daemon import Daemon
from tests.support.database import DATABASE, SERVICE, shared_database

PQAUTHDATA_OAUTH_BEARER_TOKEN = 1
CONNECTION_OK = 0
SECRET = "the secret of the tokens of these tests"


class _Request(ctypes.Structure):
    """C{PGoauthBearerRequest} of libpq-fe.h, PostgreSQL 18."""

    _fields_ = [
        ("openid_configuration", ctypes.c_char_p),
        ("scope", ctypes.c_char_p),
        ("asynchronous", ctypes.c_void_p),
        ("cleanup", ctypes.c_void_p),
        ("token", ctypes.c_char_p),
        ("user", ctypes.c_void_p),
    ]


_HOOK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)


class Libpq:
    """libpq 18, as far as these tests need it."""

    def __init__(self) -> None:
        """@raise SkipTest: it is not there, or too old"""
        try:
            import psycopg  # noqa: F401 (the other one asks for it to be first)
            import psycopg_binary
        except ImportError:
            raise SkipTest("psycopg[binary] is not installed") from None
        folder = os.path.dirname(os.path.dirname(psycopg_binary.__file__))
        found = glob.glob(os.path.join(folder, "psycopg_binary.libs", "libpq-*"))
        if not found:
            raise SkipTest("psycopg[binary] has no libpq of its own")
        self._c = ctypes.CDLL(found[0])
        if self._c.PQlibVersion() < 180000 or not hasattr(self._c, "PQsetAuthDataHook"):
            raise SkipTest("libpq 18 is needed")
        for name in ("PQconnectdb", "PQexec", "PQgetAuthDataHook"):
            getattr(self._c, name).restype = ctypes.c_void_p
        for name in ("PQerrorMessage", "PQgetvalue"):
            getattr(self._c, name).restype = ctypes.c_char_p

    @contextmanager
    def handing(self, token: str) -> Iterator[list[str]]:
        """Hand over this token when libpq asks; gives what it was asked with."""
        asked: list[str] = []
        kept = ctypes.create_string_buffer(token.encode())

        def hook(kind: int, connection: int, data: int) -> int:
            if kind != PQAUTHDATA_OAUTH_BEARER_TOKEN:
                return 0
            request = ctypes.cast(data, ctypes.POINTER(_Request)).contents
            asked.append((request.openid_configuration or b"").decode())
            request.token = ctypes.cast(kept, ctypes.c_char_p)
            return 1

        before = self._c.PQgetAuthDataHook()
        function = _HOOK(hook)
        self._c.PQsetAuthDataHook(function)
        try:
            yield asked
        finally:
            self._c.PQsetAuthDataHook(ctypes.c_void_p(before))

    def query(self, conninfo: str, sql: str) -> str:
        """The first value of a query's answer; else what libpq says of the failure."""
        connection = ctypes.c_void_p(self._c.PQconnectdb(conninfo.encode()))
        try:
            if self._c.PQstatus(connection) != CONNECTION_OK:
                message: bytes = self._c.PQerrorMessage(connection)
                return message.decode()
            result = ctypes.c_void_p(self._c.PQexec(connection, sql.encode()))
            value: bytes = self._c.PQgetvalue(result, 0, 0)
            self._c.PQclear(result)
            return value.decode()
        finally:
            self._c.PQfinish(connection)


class OAuthTests(TestCase):
    """Tokens by SASL OAUTHBEARER."""

    def setUp(self) -> None:
        self.libpq = Libpq()
        database = shared_database()
        self.now = int(time.time())
        self.tokens: dict[str, str] = {}
        records = [
            self.record("good", "shop"),
            self.record("expired", "shop", life=-60),
            self.record("revoked", "shop", revoked=True),
            self.record("elsewhere", "orders"),
        ]
        text = "\n".join(
            [
                'postgres: {listen: "127.0.0.1:@PORT@"}',
                f'tokens: {{secret: "{SECRET}"}}',
                "connections:",
                *(
                    f'  {name}: {{dsn: "{database.dsn(SERVICE, DATABASE)}", '
                    f'password: "{database.passwords[SERVICE]}", auth: oauth}}'
                    for name in ("shop", "orders")
                ),
            ]
        )
        self.daemon = Daemon(text)
        self.addCleanup(self.daemon.remove)
        self.addCleanup(self.daemon.stop)
        seeded_state(self.daemon.folder, records)
        self.daemon.start()

    def record(
        self, name: str, database: str, *, life: int = 600, revoked: bool = False
    ) -> TokenRecord:
        """A token's record; the token itself is kept by its name."""
        claims = {
            "database_id": database,
            "token_id": name,
            "type": "database_access",
            "exp": self.now + life,
        }
        token = self.tokens[name] = OwnSecret(SECRET.encode()).sign(claims)
        gone = self.now if revoked else None
        digest = digest_of(token.encode())
        return TokenRecord(name, "", digest, database, "", self.now, self.now + life, gone)

    def log_in(self, name: str, **words: str) -> str:
        """What comes of a login by a token: the query's answer, or the error."""
        said = {
            "host": "127.0.0.1",
            "port": str(self.daemon.port),
            "dbname": "shop",
            "user": "token",
            "sslmode": "require",
            "require_auth": "oauth",
            "oauth_issuer": "https://id.example/.well-known/openid-configuration",
            "oauth_client_id": "tests",
            "connect_timeout": "20",
            **words,
        }
        conninfo = " ".join(f"{key}='{value}'" for key, value in said.items())
        with self.libpq.handing(self.tokens[name]) as asked:
            answers: list[str] = []
            # libpq blocks; trial's reactor need not run for it, since proxyd is a process.
            thread = threading.Thread(
                target=lambda: answers.append(self.libpq.query(conninfo, "SELECT 40 + 2"))
            )
            thread.start()
            thread.join(60)
        self.asked = asked
        return answers[0]

    def test_good(self) -> None:
        """A good token lets in."""
        self.assertEqual(self.log_in("good"), "42")
        self.assertEqual(len(self.asked), 1)

    def test_refused(self) -> None:
        """Expired, revoked, for another database: libpq says the server's own words."""
        for name, words in (
            ("expired", "the token has expired"),
            ("revoked", "the token was revoked"),
            ("elsewhere", "the token is for another database"),
        ):
            self.assertIn(words, self.log_in(name), name)

    def test_without_tls(self) -> None:
        """Without TLS no token is asked for."""
        answer = self.log_in("good", sslmode="disable")
        self.assertIn("inside TLS only", answer)
        self.assertEqual(self.asked, [])
