"""Tests for L{proxyd.postgres.client_start}: a client's first bytes, by real sockets."""

from __future__ import annotations

import ssl

from twisted.internet.threads import deferToThread
from twisted.logger import LogLevel

from proxyd.config.model import PostgresTls
from tests.postgres.client import Client, until
from tests.postgres.scene import SceneTestCase, networks
from tests.support import pgbytes
from tests.support.wireclient import Hangup, WireClient, trusting_context

POSTGRESQL = "postgresql"
BALANCER = networks("127.0.0.0/8")
FAR = "192.0.2.7"
SPLICED = b"PROXY TCP4 192.0.2.7 127.0.0.1 4711 6432\r\n"
BINARY = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\2\7\x7f\0\0\1\x12\x67\x19\x20"


def alpn(*protocols: str) -> ssl.SSLContext:
    """A TLS client that takes any certificate and offers these protocols."""
    context = trusting_context()
    if protocols:
        context.set_alpn_protocols(list(protocols))
    return context


class DirectTlsTests(SceneTestCase):
    """TLS from the first byte (4, 6)."""

    async def talk(self, work: object, before: bytes = b"") -> object:
        """Let a blocking client do something in a thread."""

        def run() -> object:
            with WireClient("127.0.0.1", self.listening_at) as client:
                client.send(before)
                return work(client)  # type: ignore[operator]

        return await deferToThread(run)

    async def test_login(self) -> None:
        """With ALPN postgresql, alone or among others, a session begins; TLS is as asked for."""
        self.listen(self.connection(auth=("trust",)), tls=PostgresTls("require"))
        for offered in ((POSTGRESQL,), ("h2", POSTGRESQL)):

            def log_in(client: WireClient, offered: tuple[str, ...] = offered) -> object:
                client.begin_tls(alpn(*offered))
                client.login("ann", "shop")
                assert isinstance(client.socket, ssl.SSLSocket)
                return client.socket.selected_alpn_protocol()

            self.assertEqual(await self.talk(log_in), POSTGRESQL)

    async def test_behind_a_balancer(self) -> None:
        """A PROXY header in either form, and TLS at once behind it, even in the same segment."""
        listener = self.listen(self.connection(auth=("backend",)), proxy_protocol=BALANCER)
        self.fake.passwords["ann"] = b"hush"

        def in_one_segment(client: WireClient, header: bytes) -> object:
            # The hello is made by hand, so that it can go with the header.
            incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            tls = alpn(POSTGRESQL).wrap_bio(incoming, outgoing)
            client_bytes = header
            while True:
                try:
                    tls.do_handshake()
                    client.send(outgoing.read())
                    return tls.selected_alpn_protocol()
                except ssl.SSLWantReadError:
                    client.send(client_bytes + outgoing.read())
                    client_bytes = b""
                    incoming.write(client.receive())

        for header in (SPLICED, BINARY):
            self.assertEqual(
                await self.talk(lambda client, header=header: in_one_segment(client, header)),
                POSTGRESQL,
            )

            def afar(client: WireClient) -> object:
                client.begin_tls(alpn(POSTGRESQL))
                # From afar a password is asked for inside TLS only: so this is inside.
                client.login("ann", "shop", "hush")
                return client.pid > 0

            self.assertTrue(await self.talk(afar, header))
        await until(lambda: not listener._logins, "all logins to be over")

    async def test_header_in_pieces(self) -> None:
        """However the header is cut, nothing of what follows is lost."""
        self.listen(self.connection(auth=("trust",)), proxy_protocol=BALANCER)
        header = SPLICED.replace(b"192.0.2.7", b"127.0.0.1")
        for cut in (1, 8, len(header) - 1):
            client = await self.client()
            client.send(header[:cut])
            (login,) = self.listener._logins if self.listener else ()
            await until(lambda login=login, cut=cut: login.end.received == cut, "the first part")
            client.send(header[cut:] + pgbytes.startup({"user": "ann", "database": "shop"}))
            self.assertEqual((await client.read("Z"))[-1].kind, "Z")
            client.close()
            await self.ended(client)

    async def test_not_meant(self) -> None:
        """Without ALPN, or with another protocol only, nothing is answered; the log says why."""
        listener = self.listen(self.connection(auth=("trust",)))

        def try_in(client: WireClient, context: ssl.SSLContext) -> object:
            try:
                client.begin_tls(context)
                client.send(pgbytes.startup({"user": "ann", "database": "shop"}))
                return client.read_to_end()
            except (ssl.SSLError, Hangup) as error:
                return str(error)

        nothing = await self.talk(lambda client: try_in(client, alpn()))
        self.assertEqual(nothing, [])
        other = await self.talk(lambda client: try_in(client, alpn("http/1.1")))
        self.assertIn("no application protocol", str(other).lower().replace("_", " "))
        (line,) = self.logged(LogLevel.warn)
        self.assertIn("08P01 TLS from the first byte, but without the ALPN", line)
        self.assertEqual(listener.refusals, 1)
        self.assertEqual(self.fake.startups, [])

    async def test_ssl_request_inside(self) -> None:
        """An SSLRequest or GSSENCRequest in there is answered N, and then once more not at all."""
        self.listen(self.connection(auth=("trust",)))

        def ask(client: WireClient) -> object:
            client.begin_tls(alpn(POSTGRESQL))
            answers = b""
            for request in (pgbytes.SSL_REQUEST, pgbytes.GSSENC_REQUEST):
                client.send(request)
                answers += client.read_bytes(1)
            client.send(pgbytes.SSL_REQUEST)
            (error,) = client.read_to_end()
            return answers, error.fields()["C"]

        self.assertEqual(await self.talk(ask), (b"NN", "0A000"))

    async def test_cancel(self) -> None:
        """A cancel request is taken there too, and a wrong key stops nothing (90)."""
        listener = self.listen(self.connection(auth=("trust",)))
        asked: list[tuple[int, bytes]] = []

        async def remember(login: object, pid: int, key: bytes) -> None:
            asked.append((pid, key))

        listener.cancel = remember  # type: ignore[method-assign,assignment]

        def cancel(client: WireClient) -> object:
            client.begin_tls(alpn(POSTGRESQL))
            client.send(pgbytes.cancel(7, b"k" * 32))
            return client.read_to_end()

        self.assertEqual(await self.talk(cancel), [])
        self.assertEqual(asked, [(7, b"k" * 32)])

    async def test_not_after_a_request(self) -> None:
        """TLS at once is for the first byte: after a denied request it is no PostgreSQL."""
        self.listen(self.connection(auth=("trust",)))
        client = await self.client()
        client.send(pgbytes.GSSENC_REQUEST)
        self.assertEqual(await client.bytes(1), b"N")
        client.send(b"\x16\x03\x01\0\5hello")
        self.assertEqual(await client.bytes(1), b"")

    async def test_no_tls(self) -> None:
        """Where TLS is off, a client that begins it is closed in silence."""
        self.listen(self.connection(auth=("trust",)), tls=PostgresTls("disable"))
        client = await self.client()
        client.send(b"\x16\x03\x01\0\5hello")
        self.assertEqual(await client.bytes(1), b"")
        self.assertEqual(self.logged(LogLevel.warn), [])

    async def test_no_hello(self) -> None:
        """What only begins like TLS ends by an alert, and is no news."""
        self.listen(self.connection(auth=("trust",)))
        client = await self.client()
        client.send(b"\x16\x03\x01\0\5hello")
        self.assertEqual((await client.bytes(1))[:1], b"\x15")
        await self.ended(client)
        self.assertEqual(self.logged(LogLevel.warn), [])

    async def test_leaves(self) -> None:
        """A client that goes before its hello, or within it, is no error."""
        listener = self.listen(self.connection(auth=("trust",)))
        for said in (b"", b"\x16", b"\x16\x03\x01\0\x80"):
            client = await self.client()
            client.send(said)
            await until(lambda: listener._logins, "the client")
            client.close()
            await until(lambda: not listener._logins, "its end")
        self.assertEqual((self.logged(LogLevel.warn), listener.refusals), ([], 0))

    async def test_asked_for_tls(self) -> None:
        """After SSLRequest no ALPN is needed, but a wrong one is refused (7)."""
        self.listen(self.connection(auth=("trust",)))

        def try_in(client: WireClient, context: ssl.SSLContext) -> object:
            try:
                client.start_tls(context)
            except ssl.SSLError as error:
                return str(error)
            client.login("ann", "shop")
            return "in"

        for offered, expected in (((), "in"), ((POSTGRESQL,), "in"), (("h2",), "alert")):
            said = await self.talk(lambda client, of=offered: try_in(client, alpn(*of)))
            self.assertIn(expected, str(said))


class ProtocolTests(SceneTestCase):
    """Protocol 3.2 (14, 15)."""

    async def begun(self, code: int, **options: str) -> tuple[Client, str]:
        """A session by this protocol, and the kinds of what it began with."""
        client = await self.client()
        client.send(pgbytes.startup({"user": "ann", "database": "shop", **options}, code))
        return client, "".join(message.kind for message in await client.read("Z"))

    async def test_long_keys(self) -> None:
        """From 3.2 on the cancel key has 32 bytes, below 4; 3.1 is taken for 3.0."""
        self.listen(self.connection(auth=("trust",)))
        lengths = {}
        for minor in (0, 1, 2, 3, 9999):
            client, kinds = await self.begun(pgbytes.PROTOCOL_3_0 | minor)
            lengths[minor] = len(client.key), kinds[0]
        self.assertEqual(
            lengths, {0: (4, "R"), 1: (4, "R"), 2: (32, "R"), 3: (32, "v"), 9999: (32, "v")}
        )

    async def test_long_key_cancels(self) -> None:
        """The whole long key cancels; a part of it, or another's, does not."""
        self.listen(self.connection(auth=("trust",)))
        client, _ = await self.begun(pgbytes.PROTOCOL_3_0 | 2)
        other, _ = await self.begun(pgbytes.PROTOCOL_3_0 | 2)
        assert self.listener is not None
        keys = self.listener.keys
        found = keys.find(client.pid, client.key)
        assert found is not None
        for wrong in (client.key[:4], client.key[:31], client.key + b"\0", other.key):
            self.assertIsNone(keys.find(client.pid, wrong))
        self.assert_never_told(str(client.pid), client.key.hex(), repr(client.key))
