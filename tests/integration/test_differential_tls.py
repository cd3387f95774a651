"""
TLS from the first byte: PostgreSQL 17 and proxyd before it, side by side (3-7, 90).

What is compared is what a client can see: how the handshake ends, which
protocol was chosen, and every byte of the answers.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable

from twisted.trial.unittest import SkipTest

from tests.integration.test_differential import trusting
from tests.support import pgbytes
from tests.support.blackbox import BlackBoxTestCase, shared_daemon
from tests.support.database import DATABASE, OPEN_SERVICE, Database, shared_database
from tests.support.wireclient import Hangup, WireClient, trusting_context

WHO = {"user": OPEN_SERVICE, "database": DATABASE}
MAJOR = 17

Play = Callable[[WireClient], object]


def alpn(*protocols: str) -> ssl.SSLContext:
    """A TLS client that takes any certificate and offers these protocols."""
    context = trusting_context()
    if protocols:
        context.set_alpn_protocols(list(protocols))
    return context


def kinds(client: WireClient, until: str = "$") -> str:
    """What comes, in letters; errors with their SQLSTATE and severity."""
    return "".join(
        f"E[{said.fields()['S']} {said.fields()['C']}]" if said.kind == "E" else said.kind
        for said in client.read_until(until)
        if said.kind != "S"
    )


class DirectTlsTests(BlackBoxTestCase):
    """The same is done to both."""

    @property
    def database(self) -> Database:
        """A server that speaks TLS from the first byte."""
        return shared_database(MAJOR)

    def setUp(self) -> None:
        """Have both."""
        super().setUp()
        self.proxy = self.watch(shared_daemon(trusting(self.database)))
        with WireClient(self.database.host, self.database.port) as client:
            client.send(pgbytes.SSL_REQUEST)
            if client.read_bytes(1) != b"S":
                raise SkipTest(f"this PostgreSQL {MAJOR} is built without TLS")

    def compare(self, play: Play) -> object:
        """Fail unless both do the same; gives what that is."""
        answers = []
        for host, port in ((self.database.host, self.database.port), (None, self.proxy.port)):
            with WireClient(host or self.proxy.host, port, seconds=8.0) as client:
                try:
                    answers.append(play(client))
                except ssl.SSLError as error:
                    answers.append(f"alert: {error.args[-1].rpartition(' (')[0]}")
                except (Hangup, ConnectionError) as error:
                    answers.append(f"closed: {type(error).__name__}")
        theirs, ours = answers
        self.assertEqual(theirs, ours, "PostgreSQL's answer, then proxyd's")
        return ours

    def direct(self, *protocols: str, say: bytes = b"", until: str = "$") -> Play:
        """TLS at once, and then these bytes."""

        def play(client: WireClient) -> object:
            client.begin_tls(alpn(*protocols))
            assert isinstance(client.socket, ssl.SSLSocket)
            chosen = client.socket.selected_alpn_protocol()
            client.send(say)
            return chosen, kinds(client, until)

        return play

    def test_session(self) -> None:
        """A login and a query, with the name alone or among others."""
        said = pgbytes.startup(WHO) + pgbytes.query("SELECT 1") + pgbytes.TERMINATE
        for offered in (("postgresql",), ("h2", "postgresql"), ("postgresql", "h2")):
            answer = self.compare(self.direct(*offered, say=said))
            self.assertEqual(answer, ("postgresql", "RKZTDCZ"))

    def test_not_meant(self) -> None:
        """Without the name nothing is said; with another there is an alert."""
        said = pgbytes.startup(WHO)
        self.assertEqual(self.compare(self.direct(say=said)), (None, ""))
        for other in ("http/1.1", "PostgreSQL", "postgresql2", "postgres"):
            answer = self.compare(self.direct(other, say=said))
            self.assertIn("alert no application protocol", str(answer))

    def test_requests_inside(self) -> None:
        """SSLRequest in there is answered N, a second one is no protocol version."""

        def play(client: WireClient) -> object:
            client.begin_tls(alpn("postgresql"))
            client.send(pgbytes.SSL_REQUEST)
            answer = client.read_bytes(1)
            client.send(pgbytes.SSL_REQUEST)
            return answer, kinds(client)

        self.assertEqual(self.compare(play), (b"N", "E[FATAL 0A000]"))

    def test_stuffed_inside(self) -> None:
        """Bytes behind an SSLRequest are refused in there, too."""

        def play(client: WireClient) -> object:
            client.begin_tls(alpn("postgresql"))
            client.send(pgbytes.SSL_REQUEST + pgbytes.startup(WHO))
            said = b"".join(iter(client.receive, b""))
            # PostgreSQL says N before it looks at what came: the FATAL is the last word of both.
            return said.removeprefix(b"N")[:1], b"SFATAL\0VFATAL\0C08P01\0" in said

        self.assertEqual(self.compare(play), (b"E", True))

    def test_cancel(self) -> None:
        """A cancel request, with a key that nobody has: closed without a word."""
        said = pgbytes.cancel(1, b"none")
        self.assertEqual(self.compare(self.direct("postgresql", say=said)), ("postgresql", ""))

    def test_asked_for(self) -> None:
        """After SSLRequest no name is needed, and a wrong one is refused."""

        def play(*protocols: str) -> Play:
            def run(client: WireClient) -> object:
                client.start_tls(alpn(*protocols))
                client.send(pgbytes.startup(WHO) + pgbytes.TERMINATE)
                return kinds(client)

            return run

        for protocols in ((), ("postgresql",), ("h2", "postgresql")):
            self.assertEqual(self.compare(play(*protocols)), "RKZ")
        self.assertIn("alert no application protocol", str(self.compare(play("h2"))))

    def test_after_a_request(self) -> None:
        """TLS behind a request that was granted is that TLS; a broken hello ends by an alert."""

        def broken(client: WireClient) -> object:
            client.send(b"\x16\x03\x01\0\5hello")
            return client.read_bytes(2)

        self.assertEqual(self.compare(broken), b"\x15\x03")
