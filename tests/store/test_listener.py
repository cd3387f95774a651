"""
Tests of L{proxyd.store.listener}.
"""

from __future__ import annotations

from twisted.internet import reactor
from twisted.trial.unittest import TestCase

from proxyd.store.listener import Listening
from proxyd.store.wire import Wire
from tests.postgres.client import until
from tests.support.database import DATABASE, SERVICE, shared_database


class ListeningTests(TestCase):
    """A thread that hears of changes."""

    async def test_woken(self) -> None:
        """It wakes when it listens, for each notification, and when it was cut; then it ends."""
        database = shared_database()
        password = database.passwords[SERVICE]
        dsn = database.dsn(database=DATABASE).replace("@", f":{password}@", 1)
        woken: list[int] = []
        listening = Listening(reactor, Wire(dsn, 60.0), lambda: woken.append(1))
        listening.start()
        self.addCleanup(listening.stop)
        await until(lambda: len(woken) == 1, "it to listen")
        with database.admin() as admin:
            admin.query("NOTIFY proxyd")
            await until(lambda: len(woken) == 2, "the notification")
            admin.query(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE application_name = 'proxyd'"
            )
            await until(lambda: len(woken) == 3, "it to listen again")
        listening.stop()
        thread = listening._thread
        assert thread is not None
        await until(lambda: not thread.is_alive(), "the thread's end")
        self.assertEqual(len(woken), 3)
