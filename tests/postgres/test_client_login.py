"""Tests for L{proxyd.postgres.client_login}: a client's way in, by real sockets."""

from __future__ import annotations

from twisted.logger import LogLevel

from proxyd.auth.tokens import Tokens
from proxyd.config.model import Connection, PostgresTls
from proxyd.postgres.directory import Directory
from proxyd.postgres.pools import accounts_of
from tests.postgres import fakeserver
from tests.postgres.client import Client, until
from tests.postgres.scene import SceneTestCase, networks
from tests.support import pgbytes

PASSWORD = "hush-hush-52"
FAR = "192.0.2.7"
BALANCER = networks("127.0.0.0/8")


class LoginTestCase(SceneTestCase):
    """A listener before a server that knows ann."""

    async def setUp(self) -> None:
        """Ann has a password."""
        await super().setUp()
        self.fake.passwords["ann"] = PASSWORD.encode()

    async def asked(self, client: Client) -> None:
        """The client is asked for its password."""
        self.assertEqual(await client.bytes(9), fakeserver.authentication(3))

    async def state(self, client: Client) -> str:
        """The SQLSTATE with which the client was sent away; the connection ends by it."""
        fields = await client.words()
        self.assertEqual((fields["S"], fields["V"]), ("FATAL", "FATAL"))
        client.close()
        await self.ended(client)
        return fields["C"]

    async def refused(self, user: str, database: str, **settings: str) -> str:
        """The SQLSTATE with which this start-up packet is answered."""
        client = await self.client()
        client.start(user, database, **settings)
        return await self.state(client)

    async def tried(self, password: str, user: str = "ann", database: str = "shop") -> str:
        """Log in with a password: the SQLSTATE, or C{in}."""
        client = await self.client()
        client.start(user, database)
        await self.asked(client)
        client.password(password)
        # A refusal that asks no server takes a moment all the same.
        await until(lambda: self.clock.advance(0.01) or len(client.received) > 5, "an answer")
        if client.received[:1] == b"E":
            return await self.state(client)
        await client.read("Z")
        return "in"

    async def silence(self, client: Client) -> None:
        """The connection ends without a word."""
        self.assertEqual(await client.bytes(1), b"")
        self.assertTrue(client.ended)


class FirstBytesTests(LoginTestCase):
    """Before the start-up packet."""

    async def test_ssl(self) -> None:
        """SSLRequest is answered by one byte; then all goes inside TLS."""
        self.listen()
        client = await self.client()
        await client.start_tls()
        client.start("ann", "shop")
        await self.asked(client)
        client.password(PASSWORD)
        self.assertEqual((await client.read("Z"))[-1].kind, "Z")

    async def test_no_ssl(self) -> None:
        """Where TLS is off the answer is N, and the connection goes on."""
        self.listen(tls=PostgresTls("disable"))
        client = await self.client()
        client.send(pgbytes.SSL_REQUEST)
        self.assertEqual(await client.bytes(1), b"N")
        client.start("ann", "shop")
        await self.asked(client)

    async def test_gssenc(self) -> None:
        """GSSENCRequest is answered by N; SSLRequest may follow."""
        self.listen()
        client = await self.client()
        client.send(pgbytes.GSSENC_REQUEST)
        self.assertEqual(await client.bytes(1), b"N")
        await client.start_tls()
        client.start("ann", "shop")
        await self.asked(client)

    async def test_ssl_twice(self) -> None:
        """A second SSLRequest inside TLS is an unknown protocol."""
        self.listen()
        client = await self.client()
        await client.start_tls()
        client.send(pgbytes.SSL_REQUEST)
        self.assertEqual(await self.state(client), "0A000")

    async def test_stuffed(self) -> None:
        """Bytes behind an SSLRequest are refused: nobody's plain text gets into TLS."""
        self.listen()
        for behind in (b"x", pgbytes.startup({"user": "ann"}), pgbytes.SSL_REQUEST):
            client = await self.client()
            client.send(pgbytes.SSL_REQUEST + behind)
            self.assertEqual(await self.state(client), "08P01")

    async def test_in_pieces(self) -> None:
        """However the bytes are cut, the same happens."""
        self.listen()
        client = await self.client()
        whole = pgbytes.startup({"user": "ann", "database": "shop"})
        for at in range(len(whole)):
            client.send(whole[at : at + 1])
            await until(lambda at=at: self.received > at, "the byte")
        await self.asked(client)

    @property
    def received(self) -> int:
        """Bytes of the one client that came."""
        assert self.listener is not None
        (login,) = self.listener._logins
        return login.end.received

    async def test_all_at_once(self) -> None:
        """Start-up packet, password and query in one segment are taken in their order."""
        self.listen()
        client = await self.client()
        client.send(
            pgbytes.startup({"user": "ann", "database": "shop"})
            + pgbytes.message("p", pgbytes.cstring(PASSWORD))
            + pgbytes.query("one")
        )
        await client.read("Z")
        self.assertEqual(await client.trace(), "TDCZ")

    async def test_no_postgres(self) -> None:
        """Bytes of another protocol end in silence; so does a bad length."""
        self.listen()
        for noise in (b"GET / HTTP/1.1\r\n\r\n", b"\0\0\0\4", b"\x7f\xff\xff\xff", b"\xff" * 8):
            client = await self.client()
            client.send(noise)
            await self.silence(client)
        self.assertEqual(self.logged(LogLevel.warn), [])

    async def test_health_check(self) -> None:
        """Who connects and goes without a byte is no error."""
        listener = self.listen()
        client = await self.client()
        await until(lambda: listener._logins, "the client")
        client.close()
        await until(lambda: not listener._logins, "its end")
        self.assertEqual((self.logged(LogLevel.warn), listener.refusals), ([], 0))

    async def test_versions(self) -> None:
        """Another major version is refused; a later minor is talked down before the login."""
        self.listen()
        client = await self.client()
        client.send(pgbytes.startup({"user": "ann"}, 2 << 16))
        self.assertEqual(await self.state(client), "0A000")
        client = await self.client()
        wanted = {"user": "ann", "database": "shop", "_pq_.new": "1"}
        client.send(pgbytes.startup(wanted, (3 << 16) + 9999))
        answer = await client.message()
        assert answer is not None
        self.assertEqual((answer.kind, answer.body[-9:]), ("v", b"_pq_.new\0"))
        await self.asked(client)

    async def test_malformed(self) -> None:
        """No user is 28000; a broken list of parameters 08P01."""
        self.listen()
        client = await self.client()
        client.send(pgbytes.startup({"database": "shop"}))
        self.assertEqual(await self.state(client), "28000")
        client = await self.client()
        client.send(pgbytes.startup({"user": "ann"}, end=b""))
        self.assertEqual(await self.state(client), "08P01")

    async def test_settings(self) -> None:
        """Settings that nobody may make are refused before a password is asked for."""
        self.listen()
        self.assertEqual(await self.refused("ann", "shop", role="postgres"), "42501")
        self.assertEqual(await self.refused("ann", "shop", replication="true"), "0A000")
        self.assertEqual(await self.refused("ann", "shop", replication="perhaps"), "22023")
        self.assertEqual(await self.refused("ann", "shop", options="-x"), "42601")
        self.assertEqual(self.fake.startups, [])


class WhereFromTests(LoginTestCase):
    """What an address decides."""

    async def test_far_without_tls(self) -> None:
        """A password from afar is asked for inside TLS only; no server hears of it."""
        self.listen(proxy_protocol=BALANCER)
        client = await self.client(FAR)
        client.start("ann", "shop")
        self.assertEqual(await self.state(client), "28000")
        self.assertEqual(self.fake.startups, [])

    async def test_far_with_tls(self) -> None:
        """Inside TLS it is."""
        self.listen(proxy_protocol=BALANCER)
        client = await self.client(FAR)
        await client.start_tls()
        client.start("ann", "shop")
        await self.asked(client)
        client.password(PASSWORD)
        self.assertEqual((await client.read("Z"))[-1].kind, "Z")

    async def test_near(self) -> None:
        """From loopback, as announced, it may come without."""
        self.listen(proxy_protocol=BALANCER)
        for address in ("127.0.0.1", "::1", "::ffff:127.0.0.1"):
            client = await self.client(address)
            client.start("ann", "shop")
            await self.asked(client)

    async def test_trust(self) -> None:
        """Trust is for loopback: from afar a password is asked for, and none is right."""
        self.fake.login = fakeserver.scram
        self.listen(self.connection(auth=("trust",)), proxy_protocol=BALANCER)
        client = await self.client("127.0.0.1")
        client.start("anybody", "shop")
        self.assertEqual((await client.read("Z"))[-1].kind, "Z")
        client = await self.client(FAR)
        await client.start_tls()
        client.start("ann", "shop")
        await self.asked(client)
        client.password(PASSWORD)
        await until(lambda: self.clock.advance(0.01) or len(client.received) > 5, "an answer")
        self.assertEqual(await self.state(client), "28P01")

    async def test_require(self) -> None:
        """With tls: require nobody gets in without, loopback or not."""
        self.listen(tls=PostgresTls("require"))
        self.assertEqual(await self.refused("ann", "shop"), "28000")

    async def test_require_certificate(self) -> None:
        """With verify-full TLS without a certificate is not enough."""
        self.listen(tls=PostgresTls("verify-full"))
        client = await self.client()
        await client.start_tls()
        client.start("ann", "shop")
        self.assertEqual(await self.state(client), "28000")

    async def test_header_is_a_must(self) -> None:
        """Who may announce must: anything else is closed without a word."""
        self.listen(proxy_protocol=BALANCER)
        client = await self.client()
        client.start("ann", "shop")
        await self.silence(client)

    async def test_header_not_believed(self) -> None:
        """A header from elsewhere is no PostgreSQL."""
        self.listen(proxy_protocol=networks("10.0.0.0/8"))
        client = await self.client("127.0.0.1")
        await self.silence(client)

    async def test_allow(self) -> None:
        """Who may not come is told so, and asked for no password."""
        self.listen(self.connection(allow=networks("10.0.0.0/8")), proxy_protocol=BALANCER)
        for name in ("shop", "nothing"):
            client = await self.client(FAR)
            await client.start_tls()
            client.start("ann", name)
            self.assertEqual(await self.state(client), "28000")
        client = await self.client("10.1.2.3")
        await client.start_tls()
        client.start("ann", "shop")
        await self.asked(client)


class PasswordTests(LoginTestCase):
    """The password, and what is told to whom."""

    async def test_right_and_wrong(self) -> None:
        """The server decides; after a right one a wrong one is still wrong."""
        self.listen()
        self.assertEqual(await self.tried(PASSWORD), "in")
        self.assertEqual(await self.tried("wrong"), "28P01")
        self.assertEqual(await self.tried(PASSWORD, user="bob"), "28P01")
        self.assertEqual(await self.tried(PASSWORD), "in")
        self.assert_never_told(PASSWORD, "wrong\0")

    async def test_indistinguishable(self) -> None:
        """Wrong password, unknown user, unknown database: word for word the same."""
        self.listen()
        said = []
        for user, database in (("ann", "shop"), ("nobody", "shop"), ("ann", "nothing")):
            client = await self.client()
            client.start(user, database)
            await self.asked(client)
            client.password("wrong")
            await until(lambda client=client: self.clock.advance(0.01) or client.received, "it")
            fields = await client.words()
            said.append({**fields, "M": fields["M"].replace(user, "USER")})
        self.assertEqual(said[0], said[1])
        self.assertEqual(said[0], said[2])

    async def test_no_such_database(self) -> None:
        """Who has a good token for a database that is gone hears that; nobody else does."""
        listener = self.listen(self.connection(auth=("token",)))
        assert isinstance(listener.tokens, Tokens)
        here, gone = [(await listener.tokens.issue(name)).token for name in ("shop", "orders")]
        for password, user, database, state in (
            (here, "token", "shop", "in"),
            (gone, "token", "orders", "3D000"),
            (gone, "ann", "orders", "28000"),
            (gone, "token", "shop", "28000"),
            (gone, "token", "nothing", "28000"),
            (here, "token", "orders", "28000"),
            (gone[:-2], "token", "orders", "28P01"),
        ):
            self.assertEqual(await self.tried(password, user, database), state, (user, database))

    async def test_rules_come_after(self) -> None:
        """What a connection serves and whom it lets in is told after a good login only."""
        dsn = self.dsn(database=None)
        self.listen(
            self.connection("default", dsn=dsn, databases=("shop*",), users=("a*",)),
        )
        self.fake.passwords["bob"] = b"bobs"
        self.assertEqual(await self.tried("wrong", "ann", "crm"), "28P01")
        self.assertEqual(await self.tried(PASSWORD, "ann", "crm"), "3D000")
        self.assertEqual(await self.tried("wrong", "bob", "shop"), "28P01")
        self.assertEqual(await self.tried("bobs", "bob", "shop"), "28000")
        self.assertEqual(await self.tried(PASSWORD, "ann", "shop"), "in")

    def reread(self, *connections: Connection) -> None:
        """The configuration was read again, and has these connections."""
        servers = {one.name: self.server(one) for one in connections}
        self.pools.serve(servers, accounts_of(servers))
        assert self.listener is not None
        self.listener.directory = Directory(servers)

    async def test_read_again(self) -> None:
        """Connections are read again while a password is checked: what counts is now."""
        self.listen()
        for now, told in (
            ((), "3D000"),
            ((self.connection("crm"),), "3D000"),
            ((self.connection(users=("bob",)),), "57P03"),
            ((self.connection(),), "in"),
        ):
            self.reread(self.connection())
            client = await self.client()
            client.start("ann", "shop")
            await self.asked(client)
            self.reread(*now)
            client.password(PASSWORD)
            if told == "in":
                await client.read("Z")
            else:
                self.assertEqual(await self.state(client), told)
        self.assertEqual(self.logged(LogLevel.critical), [])

    async def test_nothing_of_the_client(self) -> None:
        """The server that checks hears the client's name, database and password: no setting."""
        self.listen()
        client = await self.client()
        client.start("ann", "shop", search_path="evil", application_name="x")
        await self.asked(client)
        client.password(PASSWORD)
        await client.read("Z")
        self.assertEqual(self.fake.startups[0], {"user": "ann", "database": "shop"})
        self.assertEqual({packet["user"] for packet in self.fake.startups[1:]}, {"svc"})

    async def test_malformed(self) -> None:
        """An empty password, a NUL within, another message, one too long."""
        self.listen()
        self.assertEqual(await self.tried(""), "28P01")
        cases = {
            pgbytes.message("p", b"no end"): "08P01",
            pgbytes.message("p", b"two\0ends\0"): "08P01",
            pgbytes.query("SELECT 1"): "08P01",
            pgbytes.message("p", b"", length=70_000): "08P01",
            pgbytes.message("p", b"", length=2): "08P01",
        }
        for said, state in cases.items():
            client = await self.client()
            client.start("ann", "shop")
            await self.asked(client)
            client.send(said)
            self.assertEqual(await self.state(client), state)
        self.assertEqual(self.fake.startups, [])

    async def test_long(self) -> None:
        """A token of many kilobytes is a password too."""
        self.fake.passwords["ann"] = b"t" * 60_000
        self.listen()
        self.assertEqual(await self.tried("t" * 60_000), "in")

    async def test_hangs_up(self) -> None:
        """Who hangs up when asked is no failed login: psql does so before it asks its user."""
        listener = self.listen()
        for goodbye in (b"", pgbytes.TERMINATE):
            client = await self.client()
            client.start("ann", "shop")
            await self.asked(client)
            client.send(goodbye)
            client.close()
            await until(lambda: not listener._logins, "its end")
        self.assertEqual((listener.refusals, self.logged(LogLevel.warn)), (0, []))

    async def test_servers_answers(self) -> None:
        """The server's own SQLSTATE, its trust in us, and its absence."""
        self.listen()
        self.fake.login = fakeserver.refusing("57P03", "starting up")
        self.assertEqual(await self.tried(PASSWORD), "57P03")
        self.fake.login = fakeserver.trust
        self.assertEqual(await self.tried(PASSWORD), "28000")
        await self.fake.stop()
        self.assertEqual(await self.tried(PASSWORD), "08001")

    async def test_service_user(self) -> None:
        """Trouble of the service user's is not the client's: 08006."""
        self.fake.passwords.pop("svc")
        self.listen()
        self.assertEqual(await self.tried(PASSWORD), "08006")


class AdmitTests(LoginTestCase):
    """From the password to the greeting."""

    async def test_told(self) -> None:
        """The client is told the server's own parameters, with its own name in them."""
        self.listen()
        client = await self.entered(password=PASSWORD, application_name="psql")
        self.assertEqual(client.parameters["server_version"], "15.99")
        self.assertEqual(client.parameters["application_name"], "ann|psql")
        self.assertTrue(0 < client.pid < 2**31)
        self.assertEqual(len(client.key), 4)

    async def test_told_by_the_server(self) -> None:
        """What the server makes of a setting is what the client is told, each time."""
        self.listen(self.connection(auth=("trust",)))
        for _ in range(3):
            client = await self.entered(datestyle="iso, dmy")
            self.assertEqual(client.parameters["DateStyle"], "ISO, DMY")

    async def test_bad_setting(self) -> None:
        """A value that the server refuses is refused at the start; the server serves on."""
        self.listen(self.connection(auth=("trust",)))
        for name in ("DateStyle", "work_mem"):
            self.assertEqual(await self.refused("ann", "shop", **{name: "bad"}), "22023")
        await self.entered()
        self.assertEqual(len(self.fake.startups), 1)

    async def test_waiting_is_no_login(self) -> None:
        """auth_timeout ends with the password: waiting for a server is acquire_timeout's."""
        self.listen(
            self.connection(auth=("trust",), max_open_connections=1, acquire_timeout=60.0),
            auth_timeout=30.0,
        )
        busy = await self.entered()
        busy.send(pgbytes.query("BEGIN"))
        await busy.read("Z")
        client = await self.client()
        client.start("ann", "shop", work_mem="4MB")
        pool = next(iter(self.pools))
        await until(lambda: pool.waiting, "it to wait")
        self.clock.advance(59.0)
        self.assertFalse(client.ended)
        self.clock.advance(2.0)
        self.assertEqual(await self.state(client), "53300")

    async def test_left_while_waiting(self) -> None:
        """Who goes while a server is waited for keeps no place."""
        self.listen(self.connection(auth=("trust",), max_open_connections=1))
        busy = await self.entered()
        busy.send(pgbytes.query("BEGIN"))
        await busy.read("Z")
        pool = next(iter(self.pools))
        for leave in (Client.close, Client.reset):
            client = await self.client()
            client.start("ann", "shop", work_mem="4MB")
            await until(lambda: pool.waiting, "it to wait")
            leave(client)
            await until(lambda: not pool.waiting, "it to give up")
        self.assertEqual(pool.clients, 1)

    async def test_deadline(self) -> None:
        """Who is not in at auth_timeout is closed, in every state before."""
        listener = self.listen(self.connection(connect_timeout=60.0), auth_timeout=30.0)
        self.fake.login = fakeserver.silent
        silent, half, asked, trying = [await self.client() for _ in range(4)]
        half.send(b"\0\0")
        asked.start("ann", "shop")
        await self.asked(asked)
        trying.start("ann", "shop")
        await self.asked(trying)
        trying.password(PASSWORD)
        await until(lambda: self.fake.startups and len(listener._logins) == 4, "all to be there")
        self.clock.advance(29.0)
        self.assertEqual(len(listener._logins), 4)
        self.clock.advance(2.0)
        for client in (silent, half, asked, trying):
            await self.silence(client)

    async def test_bug(self) -> None:
        """A bug of ours in one login ends that login only, and is logged."""
        listener = self.listen(self.connection(auth=("trust",)))
        find = listener.directory.find
        listener.directory.find = lambda name: 1 / 0  # type: ignore[method-assign]
        client = await self.client()
        client.start("ann", "shop")
        await self.ended(client)
        listener.directory.find = find  # type: ignore[method-assign]
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        await self.entered()
