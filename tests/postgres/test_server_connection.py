"""Tests for L{proxyd.postgres.server_connection}."""

from __future__ import annotations

from proxyd.errors import ProtocolError
from proxyd.postgres.conversation import Lost
from proxyd.postgres.server_connection import (
    ANSWER_LIMIT,
    Failed,
    ServerConnection,
)
from proxyd.postgres.settings import settings_request
from proxyd.wire.pg import messages
from tests.postgres.client import until
from tests.postgres.fakeserver import complete, error, message, ready, row, text
from tests.postgres.scene import ANN, SERVICE, SceneTestCase


class ServerConnectionTests(SceneTestCase):
    """Statements of our own, and what a server says by itself."""

    async def begin(self, **words: str) -> ServerConnection:
        """A logged-in connection, by a DSN with these words."""
        server = self.server(self.connection(dsn=self.dsn(parameters=words)))
        connection = await server.login(SERVICE, "shop", {}, ANN)
        self.addCleanup(connection.abort)
        self.behind = await self.backend()
        return connection

    async def raised(self, kind: type[Exception], connection: ServerConnection, said: str) -> str:
        """How a Query of this text fails."""
        try:
            await connection.run(messages.query(said))
        except kind as failed:
            return str(failed)
        return self.fail("it was answered")

    async def test_answer(self) -> None:
        """All of an answer is had, without what came besides; parameters are noted."""
        self.fake.answers["q"] = (
            message(b"N", b"SNOTICE\0MHear\0\0")
            + message(b"S", text("TimeZone") + text("UTC"))
            + complete("SELECT 0")
            + ready("T")
        )
        connection = await self.begin()
        answer = await connection.run(messages.query("q"))
        self.assertEqual(answer, [(ord("C"), b"SELECT 0\0"), (ord("Z"), b"T")])
        self.assertEqual(connection.parameters["TimeZone"], "UTC")

    async def test_another_role(self) -> None:
        """Whether a server is still what it was chosen for."""
        off, on = text("off"), text("on")
        standby, read_only = text("in_hot_standby"), text("default_transaction_read_only")
        self.fake.parameters |= {"in_hot_standby": "off", "default_transaction_read_only": "off"}
        for wanted, change, still in (
            ("read-write", read_only + on, False),
            ("read-write", standby + on, False),
            ("primary", read_only + on, True),
            ("any", standby + on, True),
        ):
            connection = await self.begin(target_session_attrs=wanted)
            self.assertEqual(connection.unsuited, "")
            connection.note_parameter(change)
            self.assertEqual(not connection.unsuited, still, (wanted, change))
            for name in (standby, read_only):
                connection.note_parameter(name + off)
            self.assertEqual(connection.unsuited, "")
            connection.abort()

    async def test_error(self) -> None:
        """An error is raised when all of the answer was read: the next request is answered."""
        connection = await self.begin()
        self.assertIn("42601", await self.raised(Failed, connection, "BAD"))
        answer = await connection.run(messages.query("BEGIN"))
        self.assertEqual(answer[-1], (ord("Z"), b"T"))

    async def test_more_than_asked(self) -> None:
        """Two answers, a notification, a status that is none: the server is not understood."""
        done = complete("SELECT 0") + ready()
        odd = {
            "twice": done + ready(),
            "notify": message(b"A", bytes(4) + text("c") + text("p")) + done,
            "status": message(b"Z", b"X"),
            "long status": message(b"Z", b"II"),
            "parameter": message(b"S", b"half") + done,
            "error": message(b"E", b"C") + done,
        }
        for name, answer in odd.items():
            self.fake.answers[name] = answer
            connection = await self.begin()
            await self.raised(ProtocolError, connection, name)
            connection.abort()

    async def test_endless(self) -> None:
        """An answer that does not end is cut at its limit, not kept in memory."""
        self.fake.answers["q"] = row("x" * 10_000) * (ANSWER_LIMIT // 10_000 + 10)
        connection = await self.begin()
        self.assertIn("too long", await self.raised(ProtocolError, connection, "q"))

    async def test_huge_message(self) -> None:
        """A message that announces more than the limit is refused by its header."""
        self.fake.answers["q"] = b"D\x7f\xff\xff\xff"
        connection = await self.begin()
        await self.raised(ProtocolError, connection, "q")

    async def test_lost(self) -> None:
        """A server that breaks off is lost."""
        connection = await self.begin()
        await self.raised(Lost, connection, "DIE")

    async def test_in_time(self) -> None:
        """A server that does not answer in connect_timeout is given up."""
        self.fake.answers["HANG"] = lambda backend: self.clock.advance(11.0)
        connection = await self.begin()
        self.assertIn("in time", await self.raised(Lost, connection, "HANG"))

    async def test_settings(self) -> None:
        """What the server makes of a setting is known afterwards."""
        connection = await self.begin()
        self.assertEqual(self.behind.said, [])
        await connection.run(
            settings_request((("datestyle", "iso, dmy"), ("application_name", "ann|x")))
        )
        self.assertEqual(connection.parameters["DateStyle"], "ISO, DMY")
        self.assertEqual(connection.parameters["application_name"], "ann|x")
        # No statement of ours is left for a client's Bind to find.
        self.assertEqual(self.behind.said[-2:], [("C", b"S\0"), ("S", b"")])
        try:
            await connection.run(settings_request((("datestyle", "bad"),)))
        except Failed as failed:
            self.assertEqual(failed.error.sqlstate, "22023")
        else:
            self.fail("the server refused it")

    async def test_same_again(self) -> None:
        """An answer that came before means the same when it comes again, on any connection."""
        name = ("application_name", "bob|y")
        ways = (settings_request((name,)), "VZ"), (settings_request((("jit", "on"), name)), "12C3Z")
        for names, kinds in ways * 2:
            connection = await self.begin()
            for _ in range(2):
                connection.parameters.pop("application_name", None)
                answer = await connection.run(names)
                self.assertEqual([chr(kind) for kind, _ in answer], list(kinds))
                self.assertEqual(connection.parameters["application_name"], "bob|y")
        self.fake.answers["again"] = complete("OK") + ready()
        await connection.run(messages.query("again"))
        self.fake.answers["again"] += ready()
        self.assertIn("more than", await self.raised(ProtocolError, connection, "again"))

    async def overheard(self, said: bytes) -> str:
        """What is made of what an idle server says."""
        connection = await self.begin()
        heard: list[str] = []
        connection.rest(lambda: heard.append(connection.overheard()))
        self.behind.write(said)
        await until(lambda: heard, "the server to be heard")
        return heard[0]

    async def test_good_to_hear(self) -> None:
        """A parameter or a notice is no reason to close."""
        parameter = message(b"S", text("in_hot_standby") + text("on"))
        notice = message(b"N", b"SNOTICE\0MHear\0\0")
        self.assertEqual(await self.overheard(parameter + notice), "")

    async def test_bad_to_hear(self) -> None:
        """Its end, a notification, an answer to nobody, nonsense: reasons to close."""
        fatal = error("57P01", "terminating connection", "FATAL")
        self.assertIn("57P01", await self.overheard(fatal))
        self.assertTrue(await self.overheard(ready()))
        self.assertTrue(await self.overheard(message(b"A", bytes(4) + text("c") + text("p"))))
        self.assertTrue(await self.overheard(b"\0\0\0\0\0\0"))
        self.assertTrue(await self.overheard(message(b"S", b"half")))

    async def test_cut_in_two(self) -> None:
        """A message in two pieces is understood when it is whole."""
        connection = await self.begin()
        whole = message(b"S", text("in_hot_standby") + text("on"))
        heard: list[str] = []

        def stirred() -> None:
            heard.append(connection.overheard())
            connection.rest(stirred)

        connection.rest(stirred)
        self.behind.write(whole[:7])
        await until(lambda: len(heard) == 1, "the first half")
        self.assertTrue(connection.conversation.early)
        self.behind.write(whole[7:])
        await until(lambda: len(heard) == 2, "the second half")
        self.assertEqual(heard, ["", ""])
        self.assertEqual(connection.parameters["in_hot_standby"], "on")
        self.assertFalse(connection.conversation.early)

    async def test_goodbye(self) -> None:
        """In order means Terminate; twice is no fault, and nothing is said after it."""
        connection = await self.begin()
        connection.goodbye()
        connection.goodbye()
        await until(lambda: self.behind.over, "the end")
        self.assertEqual(self.fake.terminates, 1)

    async def test_repr(self) -> None:
        """The log may show it: it names no key."""
        connection = await self.begin()
        self.assertIn("svc@", repr(connection))
        self.assertNotIn(repr(connection.key), repr(connection))
