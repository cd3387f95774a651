"""
Which servers are believed, compared with libpq itself: the same DSN, the same server, the same end.

Where proxyd is stricter, on purpose, it is said here.
"""

from __future__ import annotations

import select
from collections.abc import Callable
from itertools import product

from cryptography.hazmat.primitives import hashes
from psycopg import pq
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread

from proxyd.config.dsn import parse_dsn
from proxyd.config.values import BadValue
from proxyd.errors import DialError
from proxyd.postgres.answers import Refused
from tests.net.authority import made
from tests.postgres import fakeserver
from tests.postgres.client import until
from tests.postgres.fakeserver import Backend
from tests.postgres.scene import ANN, SERVICE, SceneTestCase

SECONDS = 60.0

WORDS = (
    "",
    "require_auth=scram-sha-256",
    "require_auth=md5",
    "require_auth=password",
    "require_auth=none",
    "require_auth=md5,none",
    "require_auth=!none",
    "require_auth=!scram-sha-256",
    "require_auth=!md5,!password",
    "require_auth=!scram-sha-256,!md5,!password",
    "channel_binding=disable",
    "channel_binding=require",
    "channel_binding=require require_auth=scram-sha-256",
)
MODES = ("disable", "allow", "prefer", "require")


def stricter(words: str, manner: str) -> bool:
    """
    Where libpq may log in and proxyd does not.

    A password in clear is given only where C{require_auth} says C{password}. And
    where SCRAM was begun, the server must prove that it knows the password, too:
    libpq lets it be without, unless C{require_auth} or C{channel_binding} say otherwise.
    """
    in_clear = manner == "in clear" and "require_auth=password" not in words
    return in_clear or manner == "scram without a proof"


def connect(conninfo: str) -> bool:
    """Whether libpq logs in; in steps, as it would hold up all threads otherwise."""
    connection = pq.PGconn.connect_start(conninfo.encode())
    while (status := connection.connect_poll()) not in (
        pq.PollingStatus.OK,
        pq.PollingStatus.FAILED,
    ):
        fds = [connection.socket]
        reading = status == pq.PollingStatus.READING
        select.select(fds if reading else [], [] if reading else fds, [], SECONDS)
    connection.finish()
    return status == pq.PollingStatus.OK


class AsLibpqTests(SceneTestCase):
    """The same logins succeed."""

    timeout = 240

    def manners(self) -> dict[str, Callable[[Backend], None]]:
        """How servers let people in, or pretend to."""
        assert self.fake.pair is not None
        binding = self.fake.pair.certificate.fingerprint(hashes.SHA256())

        def bound(backend: Backend) -> None:
            fakeserver.scram(backend, binding=binding if backend.secure else b"")

        return {
            "scram": fakeserver.scram,
            "scram, bound": bound,
            "scram, bound to another certificate": lambda backend: fakeserver.scram(
                backend, binding=b"x" * 32 if backend.secure else b""
            ),
            "scram, offering what can't be": lambda backend: fakeserver.scram(
                backend, binding=binding
            ),
            "scram without a proof": fakeserver.scram_unproved,
            "scram with a wrong proof": fakeserver.scram_lying,
            "md5": fakeserver.md5,
            "in clear": fakeserver.cleartext,
            "trust": fakeserver.trust,
        }

    async def ours(self, words: str) -> bool:
        """Whether proxyd logs in."""
        text = f"host=127.0.0.1 port={self.fake.port} user=svc dbname=shop {words}"
        try:
            dsn = parse_dsn(text, {"HOME": "/"}).dsn
        except BadValue:
            return False
        behind = self.server(self.connection(dsn=dsn))
        try:
            server = await Deferred.fromCoroutine(behind.login(SERVICE, "shop", {}, ANN))
        except (DialError, Refused):
            return False
        server.abort()
        return True

    async def theirs(self, words: str) -> bool:
        """Whether libpq does."""
        text = f"host=127.0.0.1 port={self.fake.port} user=svc dbname=shop connect_timeout=20"
        text += f" password=service-secret gssencmode=disable sslrootcert=/none {words}"
        return await deferToThread(connect, text)

    async def test_as_libpq(self) -> None:
        """Whatever the DSN says, and however the server lets people in."""
        self.fake.pair = made("127.0.0.1")
        seen = set()
        for tls, mode, words in product((True, False), MODES, WORDS):
            self.fake.tls = tls
            for manner, login in self.manners().items():
                if (mode in ("allow", "prefer") and manner != "scram, bound") or (
                    mode == "disable" and tls
                ):
                    continue  # nothing new: these modes are tried in full once
                if mode == "allow" and "channel_binding=require" in words:
                    continue  # libpq tries without TLS first, and gives up there; we begin with it
                self.fake.login = login
                said = f"sslmode={mode} {words}"
                ours = await self.ours(said)
                if stricter(words, manner):
                    self.assertFalse(ours, (said, manner))
                    continue
                theirs = await self.theirs(said)
                seen.add(theirs)
                self.assertEqual(ours, theirs, (said, manner, f"TLS: {tls}"))
        self.assertEqual(seen, {True, False})
        await until(lambda: self.link.ends == 0, "the connections to be dropped")
