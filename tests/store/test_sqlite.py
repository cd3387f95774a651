"""
Tests of L{proxyd.store.sqlite}.
"""

from __future__ import annotations

import os
import sqlite3
import stat
from contextlib import closing
from pathlib import Path

from twisted.internet import reactor
from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase

from proxyd.errors import StartError
from proxyd.interfaces import IStore
from proxyd.store.schema import steps
from proxyd.store.sqlite import SqliteStore
from proxyd.store.statements import APPLICATION
from tests.store.contract import NOW, StoreContract, a_token

DEADLINE = 60.0


class SqliteStoreTests(StoreContract):
    """The store in a file keeps the contract."""

    def make(self) -> IStore:
        """A fresh file."""
        return SqliteStore(reactor, str(Path(self.mktemp()) / "state.sqlite"), DEADLINE)


del StoreContract


class FileTests(TestCase):
    """The file itself."""

    def setUp(self) -> None:
        self.path = Path(self.mktemp()) / "folder" / "state.sqlite"

    def store(self) -> SqliteStore:
        """A store on the file; closed at the end."""
        store = SqliteStore(reactor, str(self.path), DEADLINE)
        self.addCleanup(store.close)
        return store

    async def refused(self) -> str:
        """Why the file is not opened; it must be left as it is."""
        before = self.path.read_bytes()
        failure = await self.assertFailure(self.store().open(), StartError)
        self.assertEqual(self.path.read_bytes(), before)
        text = str(failure)
        self.assertIn(str(self.path), text)
        self.assertNotIn("\n", text)
        return text

    async def test_private(self) -> None:
        """Nobody else may read the file, what is beside it, or the folder that was made."""
        store = self.store()
        await store.open()
        await store.add_token(a_token("t", "o"))
        self.assertEqual(stat.S_IMODE(self.path.parent.stat().st_mode), 0o700)
        for file in self.path.parent.iterdir():
            self.assertEqual(stat.S_IMODE(file.stat().st_mode), 0o600, file.name)

    async def test_closed_to_others(self) -> None:
        """A file that others could read is closed to them."""
        self.path.parent.mkdir(parents=True)
        self.path.touch()
        os.chmod(self.path, 0o644)
        await self.store().open()
        self.assertEqual(stat.S_IMODE(self.path.stat().st_mode), 0o600)

    async def test_kept(self) -> None:
        """What was remembered is there again."""
        first = self.store()
        await first.open()
        await first.add_database("shop", "d", b"s", NOW)
        await first.add_token(a_token("t", "o"))
        await first.close()
        second = self.store()
        await second.open()
        self.assertEqual([one.name for one in await second.databases()], ["shop"])
        self.assertEqual(await second.tokens(), [a_token("t", "o")])

    async def test_synchronous(self) -> None:
        """Each answer waits for the disk."""
        store = self.store()
        await store.open()
        assert store._connection is not None
        found = await store.read(
            lambda rows: (
                rows._run("PRAGMA synchronous", {})[0][0],
                rows._run("PRAGMA journal_mode", {})[0][0],
            )
        )
        self.assertEqual(found, (2, "wal"))

    async def test_one_process(self) -> None:
        """A second process is kept out, and comes in when the first has gone."""
        first = self.store()
        await first.open()
        self.assertIn("another process uses it", await self.refused())
        await first.close()
        await self.store().open()

    async def test_no_database(self) -> None:
        """A file that is no database is left alone."""
        self.path.parent.mkdir(parents=True)
        self.path.write_bytes(b"precious text, longer than a header of SQLite's would be" * 50)
        self.assertIn("not a database", await self.refused())

    async def test_a_mistaken_path(self) -> None:
        """What is another's keeps its mode, and no file is made beside what is no database."""
        self.path.parent.mkdir(parents=True)
        self.path.write_text("root:x:0:0:root:/root:/bin/sh\n")
        os.chmod(self.path, 0o644)
        await self.refused()
        self.assertEqual(stat.S_IMODE(self.path.stat().st_mode), 0o644)
        self.assertEqual(list(self.path.parent.iterdir()), [self.path])
        self.path.unlink()
        with closing(sqlite3.connect(self.path)) as other:
            other.execute("CREATE TABLE recipes (name TEXT)")
        os.chmod(self.path, 0o644)
        await self.refused()
        self.assertEqual(stat.S_IMODE(self.path.stat().st_mode), 0o644)

    async def test_no_file(self) -> None:
        """A folder or a pipe is no state file; nobody waits for a pipe's other end."""
        self.path.mkdir(parents=True)
        failure = await self.assertFailure(self.store().open(), StartError)
        self.assertIn("this is no file", str(failure))
        self.path.rmdir()
        os.mkfifo(self.path)
        failure = await self.assertFailure(self.store().open(), StartError)
        self.assertIn("this is no file", str(failure))

    async def test_of_something_else(self) -> None:
        """Another program's database is left alone."""
        self.path.parent.mkdir(parents=True)
        with sqlite3.connect(self.path) as other:
            other.execute("CREATE TABLE recipes (name TEXT)")
        other.close()
        self.assertIn("of something else", await self.refused())

    async def test_newer(self) -> None:
        """A file of a newer version is left alone."""
        self.path.parent.mkdir(parents=True)
        newer = len(steps("sqlite")) + 1
        with sqlite3.connect(self.path) as file:
            file.execute(f"PRAGMA application_id = {APPLICATION}")
            file.execute(f"PRAGMA user_version = {newer}")
        file.close()
        self.assertIn(f"its version is {newer}", await self.refused())

    async def test_corrupt(self) -> None:
        """A damaged file is left alone."""
        store = self.store()
        await store.open()
        for number in range(100):
            await store.add_token(a_token(f"t{number}", "o"))
        await store.close()
        data = bytearray(self.path.read_bytes())
        for page in range(4096, len(data), 4096):
            data[page : page + 200] = os.urandom(200)
        self.path.write_bytes(data)
        text = await self.refused()
        self.assertTrue("corrupt" in text or "malformed" in text, text)

    async def test_folder_out_of_reach(self) -> None:
        """A folder that can't be made is one line."""
        self.path.parent.parent.mkdir(parents=True)
        self.path.parent.write_text("a file")
        failure = await self.assertFailure(self.store().open(), StartError)
        self.assertIn(str(self.path), str(failure))

    def test_hour(self) -> None:
        """What is written down has the system's hour, whatever clock waits are measured by."""
        clock = Clock()
        clock.advance(NOW)
        store = SqliteStore(Clock(), str(self.path), DEADLINE, clock)
        self.successResultOf(store.open_now())
        self.addCleanup(store.close)
        self.assertEqual(self.successResultOf(store.join("n", "a:1")).seen_at, NOW)
        self.assertEqual(len(self.successResultOf(store.nodes())), 1)
