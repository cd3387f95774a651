"""Python's drivers through proxyd: psycopg 3, which is libpq, asyncpg, and pg8000."""

from __future__ import annotations

import asyncio
import io
import ssl
import threading
from typing import Any

from twisted.trial.unittest import SkipTest

from tests.integration.drivers import DriverTestCase
from tests.support.database import CLIENT, DATABASE
from tests.support.wireclient import trusting_context

try:
    import psycopg
except ImportError:
    psycopg = None  # type: ignore[assignment]
try:
    import asyncpg
except ImportError:
    asyncpg = None
try:
    import pg8000.dbapi
    import pg8000.native
except ImportError:
    pg8000 = None

SECONDS = 60
LONG = "SELECT pg_sleep(50)"
ROWS = [(n, f"note {n}") for n in range(5_000)]


class PsycopgTests(DriverTestCase):
    """psycopg 3, which is libpq."""

    def connect(self, **words: Any) -> psycopg.Connection[tuple[Any, ...]]:
        """A connection, closed when the test ends."""
        if psycopg is None:
            raise SkipTest("psycopg 3 is not installed")
        connection = psycopg.connect(self.dsn, connect_timeout=SECONDS, **words)
        self.addCleanup(connection.close)
        return connection

    def test_psycopg_queries(self) -> None:
        """Parameters, transactions, errors, prepared statements."""
        with self.connect(prepare_threshold=0) as connection:
            for n in range(3):
                row = connection.execute("SELECT %s::int + 1, %s", (n, "ü")).fetchone()
                self.assertEqual(row, (n + 1, "ü"))
            with connection.transaction():
                connection.execute("CREATE TEMP TABLE mine (id int)")
            with self.assertRaises(psycopg.errors.DivisionByZero), connection.transaction():
                connection.execute("INSERT INTO mine VALUES (1)")
                connection.execute("SELECT 1/0")
            self.assertEqual(connection.execute("SELECT count(*) FROM mine").fetchone(), (0,))

    def test_psycopg_binary(self) -> None:
        """Values and rows in binary."""
        with self.connect() as connection:
            data = bytes(range(256)) * 1000
            row = connection.execute("SELECT %b, 7::bigint", (data,), binary=True).fetchone()
            self.assertEqual(row, (data, 7))

    def test_psycopg_pipeline(self) -> None:
        """A pipeline of hundreds, with an error within."""
        with self.connect(autocommit=True) as connection:
            with connection.pipeline():
                cursors = [connection.execute("SELECT %s::int", (n,)) for n in range(300)]
            self.assertEqual([cursor.fetchone() for cursor in cursors], [(n,) for n in range(300)])
            with self.assertRaises(psycopg.errors.SyntaxError), connection.pipeline():
                connection.execute("SELECT 1")
                connection.execute("bad")
                connection.execute("SELECT 2")
            self.assertEqual(connection.execute("SELECT 3").fetchone(), (3,))

    def test_psycopg_copy(self) -> None:
        """COPY in and out, as text and in binary."""
        with self.connect() as connection, connection.cursor() as cursor:
            cursor.execute("CREATE TEMP TABLE copied (id int, note text)")
            with cursor.copy("COPY copied FROM STDIN") as copy:
                for row in ROWS:
                    copy.write_row(row)
            with cursor.copy("COPY copied TO STDOUT (FORMAT binary)") as copy:
                copy.set_types(["int4", "text"])
                self.assertEqual(list(copy.rows()), ROWS)
            with self.assertRaises(ZeroDivisionError), cursor.copy("COPY copied FROM STDIN"):
                raise ZeroDivisionError("the source of the rows fails")
            connection.rollback()
            self.assertEqual(connection.execute("SELECT 1").fetchone(), (1,))

    def cancelled(self, how: str) -> None:
        """Cancel what runs on one connection by a method of psycopg's."""
        with self.connect() as connection:
            marker = f"{LONG} /* {how} {self.auth} {self.tls} */"

            def cancel() -> None:
                self.database.wait_activity(f"query = '{marker}' AND state = 'active'")
                getattr(connection, how)()

            thread = threading.Thread(target=cancel)
            thread.start()
            try:
                with self.assertRaises(psycopg.errors.QueryCanceled):
                    connection.execute(marker)
            finally:
                thread.join(SECONDS)
            connection.rollback()
            self.assertEqual(connection.execute("SELECT 1").fetchone(), (1,))

    def test_psycopg_cancel(self) -> None:
        """A cancel as all clients before PostgreSQL 17 send it."""
        self.cancelled("cancel")

    def test_psycopg_cancel_safe(self) -> None:
        """A cancel as encrypted as its session, where libpq knows that."""
        self.cancelled("cancel_safe")

    def test_psycopg_notify(self) -> None:
        """A notification reaches another session that listens."""
        with self.connect(autocommit=True) as one, self.connect(autocommit=True) as other:
            one.execute("LISTEN news")
            other.execute("NOTIFY news, 'hello'")
            heard = list(one.notifies(timeout=SECONDS, stop_after=1))
            self.assertEqual([(note.channel, note.payload) for note in heard], [("news", "hello")])

    def test_psycopg_server_cursor(self) -> None:
        """A cursor on the server gives its rows in parts."""
        with self.connect() as connection, connection.cursor("far") as cursor:
            cursor.itersize = 77
            cursor.execute("SELECT id FROM items ORDER BY id")
            self.assertEqual([row[0] for row in cursor], list(range(1, 501)))


class AsyncpgTests(DriverTestCase):
    """asyncpg, which has a protocol machine of its own."""

    def with_asyncpg(self, work: Any) -> None:
        """Run C{work(connection)} on an event loop."""
        if asyncpg is None:
            raise SkipTest("asyncpg is not installed")

        async def whole() -> None:
            connection = await self.asyncpg_connection()
            try:
                await work(connection)
            finally:
                await connection.close(timeout=SECONDS)

        asyncio.run(whole())

    async def asyncpg_connection(self) -> Any:
        """One more connection."""
        return await asyncpg.connect(**self.asyncpg_words())

    def asyncpg_words(self) -> dict[str, Any]:
        """Where and how it connects."""
        return {
            "host": self.proxy.host,
            "port": self.proxy.port,
            "user": CLIENT,
            "database": DATABASE,
            "password": self.password or None,
            "ssl": trusting_context() if self.tls else False,
            "timeout": SECONDS,
            "command_timeout": SECONDS,
        }

    def test_asyncpg_pool(self) -> None:
        """Its own pool says RESET ALL between two uses; what its users asked for stays (22)."""
        wishes = {"search_path": "pg_catalog", "timezone": "Asia/Tokyo", "application_name": "app"}

        async def use(pool: Any) -> list[str]:
            async with pool.acquire() as connection:
                found = [await connection.fetchval(f"SHOW {name}") for name in wishes]
                await connection.execute("SET search_path = public; SET timezone = 'UTC'")
                return found

        async def work(connection: Any) -> None:
            made = self.asyncpg_words() | {"min_size": 1, "max_size": 1}
            async with asyncpg.create_pool(**made, server_settings=wishes) as pool:
                for _ in range(3):
                    self.assertEqual(await use(pool), ["pg_catalog", "Asia/Tokyo", f"{CLIENT}|app"])

        self.with_asyncpg(work)

    def test_asyncpg_queries(self) -> None:
        """Prepared statements, types looked up in the catalogue, a cursor, an error."""

        async def work(connection: Any) -> None:
            statement = await connection.prepare("SELECT $1::int + 1, $2::text[]")
            for n in range(3):
                row = await statement.fetchrow(n, ["a", "ü"])
                self.assertEqual(tuple(row), (n + 1, ["a", "ü"]))
            async with connection.transaction():
                cursor = connection.cursor("SELECT generate_series(1, 200)", prefetch=30)
                self.assertEqual([row[0] async for row in cursor], list(range(1, 201)))
            with self.assertRaises(asyncpg.DivisionByZeroError):
                await connection.fetch("SELECT 1/0")
            self.assertEqual(await connection.fetchval("SELECT 1"), 1)

        self.with_asyncpg(work)

    def test_asyncpg_copy(self) -> None:
        """COPY in and out."""

        async def work(connection: Any) -> None:
            await connection.execute("CREATE TEMP TABLE copied (id int, note text)")
            await connection.copy_records_to_table("copied", records=ROWS)
            out = io.BytesIO()
            await connection.copy_from_query("SELECT * FROM copied ORDER BY id", output=out)
            self.assertEqual(out.getvalue(), "".join(f"{i}\t{t}\n" for i, t in ROWS).encode())

        self.with_asyncpg(work)

    def test_asyncpg_listen(self) -> None:
        """A notification reaches a listener."""

        async def work(connection: Any) -> None:
            heard: asyncio.Queue[str] = asyncio.Queue()
            await connection.add_listener("news", lambda *a: heard.put_nowait(a[3]))
            other = await self.asyncpg_connection()
            await other.execute("NOTIFY news, 'hello'")
            await other.close(timeout=SECONDS)
            self.assertEqual(await asyncio.wait_for(heard.get(), SECONDS), "hello")

        self.with_asyncpg(work)

    def test_asyncpg_cancel(self) -> None:
        """A statement over its time is cancelled, and the session goes on."""

        async def work(connection: Any) -> None:
            with self.assertRaises(asyncio.TimeoutError):
                await connection.execute(LONG, timeout=0.2)
            self.assertEqual(await connection.fetchval("SELECT 1"), 1)

        self.with_asyncpg(work)


class Pg8000Tests(DriverTestCase):
    """pg8000, which is Python alone."""

    def words(self) -> dict[str, Any]:
        """Arguments of its connections."""
        if pg8000 is None:
            raise SkipTest("pg8000 is not installed")
        context: ssl.SSLContext | bool = trusting_context() if self.tls else False
        return {
            "user": CLIENT,
            "host": self.proxy.host,
            "port": self.proxy.port,
            "database": DATABASE,
            "password": self.password or None,
            "timeout": SECONDS,
            "ssl_context": context,
        }

    def test_pg8000_queries(self) -> None:
        """Parameters, prepared statements, an error, a transaction."""
        words = self.words()
        connection = pg8000.native.Connection(**words)
        self.addCleanup(connection.close)
        self.assertEqual(connection.run("SELECT :n + 1, :t", n=1, t="ü"), [[2, "ü"]])
        prepared = connection.prepare("SELECT CAST(:n AS int) * 2")
        self.assertEqual([prepared.run(n=n) for n in (1, 2)], [[[2]], [[4]]])
        with self.assertRaises(pg8000.native.DatabaseError):
            connection.run("SELECT 1/0")
        connection.run("START TRANSACTION")
        connection.run("ROLLBACK")

    def test_pg8000_copy(self) -> None:
        """COPY in and out."""
        connection = pg8000.native.Connection(**self.words())
        self.addCleanup(connection.close)
        text = "".join(f"{i}\t{t}\n" for i, t in ROWS)
        connection.run("CREATE TEMP TABLE copied (id int, note text)")
        connection.run("COPY copied FROM STDIN", stream=io.BytesIO(text.encode()))
        out = io.BytesIO()
        connection.run("COPY copied TO STDOUT", stream=out)
        self.assertEqual(out.getvalue().decode(), text)

    def test_pg8000_notify(self) -> None:
        """A notification of its own reaches it."""
        connection = pg8000.native.Connection(**self.words())
        self.addCleanup(connection.close)
        connection.run("LISTEN news")
        connection.run("NOTIFY news, 'hello'")
        connection.run("SELECT 1")
        self.assertEqual(
            [tuple(note[1:]) for note in connection.notifications], [("news", "hello")]
        )

    def test_pg8000_dbapi(self) -> None:
        """By DB-API, with many rows."""
        connection = pg8000.dbapi.connect(**self.words())
        self.addCleanup(connection.close)
        cursor = connection.cursor()
        cursor.execute("CREATE TEMP TABLE many (id int, note text)")
        cursor.executemany("INSERT INTO many VALUES (%s, %s)", ROWS[:100])
        cursor.execute("SELECT count(*) FROM many")
        self.assertEqual(cursor.fetchone()[0], 100)
        connection.rollback()
