"""
Simulated schedules of clients, proxyd and servers: see L{tests.postgres.schedules}.

C{PROXYD_SCHEDULES} says how many, C{PROXYD_SOAK=1} makes it 100,000; a failure
names the seed, which C{PROXYD_SEED} brings back as the first.
"""

from __future__ import annotations

import os
from collections import Counter

from twisted.logger import globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from tests.postgres.model_session import ModelSession
from tests.postgres.schedules import simulate
from tests.support import pgbytes
from tests.support.seeds import SOAK, printed_seed

SCHEDULES = int(os.environ.get("PROXYD_SCHEDULES", "100000" if SOAK else "1000"))


class ScheduleTests(SynchronousTestCase):
    """Whatever happens in whatever order (45-74, 77-82, 92-94)."""

    def test_schedules(self) -> None:
        """
        Nobody sees what is another's, is told what is not so, or waits in vain.

        A client whom no accident befell is told what a server of its own would
        have told it, byte for byte; nothing is committed twice, or by somebody
        who went away before; no server goes back to its pool with anything left.
        """
        first = printed_seed(self.id())
        counts: Counter[str] = Counter()
        for seed in range(first, first + SCHEDULES):
            try:
                counts += simulate(seed)
            except Exception as error:
                raise AssertionError(f"PROXYD_SEED={seed}: {error!r}") from error
        for what in ("whole", "killed", "lost", "cancelled", "servers"):
            self.assertGreater(counts[what], SCHEDULES // 50, counts)

    def test_same_again(self) -> None:
        """A seed gives the same schedule each time, line for line of proxyd's log."""
        events: list[str] = []

        def note(event: dict[str, object]) -> None:
            events.append(f"{event.get('log_format')} {event.get('received')} {event.get('sent')}")

        globalLogPublisher.addObserver(note)
        self.addCleanup(globalLogPublisher.removeObserver, note)
        for seed in range(20):
            counts = simulate(seed)
            once = list(events)
            events.clear()
            self.assertEqual(simulate(seed), counts)
            self.assertEqual(events, once)
            events.clear()


class ModelTests(SynchronousTestCase):
    """The model that the schedules are judged by."""

    def said(self, *words: str) -> str:
        """The kinds of what a new session answers to Queries."""
        session = ModelSession()
        session.receive(b"".join(pgbytes.query(word) for word in words))
        return session.run_out().decode("latin-1")

    def test_kept(self) -> None:
        """What a session keeps is shown, until DISCARD ALL."""
        self.assertIn("Dx", self.said("mark:x show").replace("D\0\0\0\5", "D"))
        self.assertNotIn("Dx", self.said("mark:x", "DISCARD ALL", "show").replace("\0\0\0\5", ""))

    def test_committed(self) -> None:
        """What is put is committed with its transaction, and only then."""
        session = ModelSession()
        cases = {
            "put:1": ["1"],
            "begin put:2": ["1"],
            "put:3 commit": ["1", "2", "3"],
            "put:4 err": ["1", "2", "3"],
            "begin put:5 err": ["1", "2", "3"],
            "commit": ["1", "2", "3"],
        }
        for words, committed in cases.items():
            session.receive(pgbytes.query(words))
            session.run_out()
            self.assertEqual(session.committed, committed, words)
        batch = pgbytes.parse("put:6") + pgbytes.bind() + pgbytes.execute()
        session.receive(batch)
        session.run_out()
        self.assertNotIn("6", session.committed)
        session.receive(pgbytes.SYNC)
        session.run_out()
        self.assertIn("6", session.committed)

    def test_cancel(self) -> None:
        """A cancel request stops what sleeps, and nothing else."""
        session = ModelSession()
        session.cancel()
        session.receive(pgbytes.query("put:1 sleep put:2"))
        session.step()
        self.assertFalse(session.waiting)
        session.cancel()
        self.assertIn(b"57014", session.run_out())
        self.assertEqual(session.committed, [])
