"""
Whole sessions against a server that lies: bytes changed, cut out, doubled and made up.

On the network in memory of L{tests.postgres.schedules}, from the server's
login to the reset behind a session. C{PROXYD_FUZZ} (L{tests.fuzz.dice}) is how
many inputs each machine gets; here it is a fiftieth of that many sessions.
"""

from __future__ import annotations

import random
from collections import Counter

from twisted.logger import LogEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from proxyd.net.line import CHUNK
from tests.fuzz.dice import CASES, SERVER_TALK, Dice
from tests.postgres.schedules import PATIENCE, Backend, Person, Schedule
from tests.support.seeds import printed_seed

SESSIONS = max(400, CASES // 50)


class Liar(Backend):
    """A server that changes what it says, from a message on that it chooses."""

    lied = False

    def turn(self, schedule: Schedule) -> None:
        """As the server; but the truth is not all that is said."""
        try:
            super().turn(schedule)
        except (UnicodeDecodeError, IndexError, ValueError):
            # It lied itself into nonsense: a request that it can't read.
            self.wire.reset()

    def _speak(self) -> None:
        dice = Dice(self.wire.network.chance)
        said = b"".join(self.session.said)
        self.session.said.clear()
        if said and dice.random.random() < 0.15:
            self.lied = True
            said = dice.damaged((said, said, *SERVER_TALK))
        self.out += said
        super()._speak()


class Dupe(Person):
    """A client that believes all it is told, and goes in the end."""

    def _hear(self, kind: str, body: bytes) -> None:
        self.greeted = self.greeted or kind == "Z"
        self.readies += kind == "Z"

    def give_up(self) -> None:
        """It waited long enough."""
        self.over = True
        if self.wire is not None:
            self.wire.reset()


class LyingSchedule(Schedule):
    """A schedule whose servers lie."""

    person = Dupe
    backend = Liar

    def _lose_patience(self) -> None:
        """
        Those who were told nothing go by themselves; then all must end.

        But one that had gone by FIN while its server is silent in the middle of a
        message can't be asked whether it still reads: the server must go first.
        """
        now = self.clock.seconds()
        if now > 3 * PATIENCE:
            super()._lose_patience()
        for person in self.people:
            if isinstance(person, Dupe) and not person.over:
                self.counts["gave up"] += 1
                person.give_up()
        for backend in self.backends if now > 2 * PATIENCE else ():
            backend.wire.reset()

    def _turn(self) -> bool:
        for member in self.link._members.values():
            assert member.pending <= CHUNK, member  # type: ignore[union-attr]
        return super()._turn()

    def look(self) -> None:
        """Nobody is left, and no server connection is held for nobody."""
        for pool in self.pools:
            assert not pool.in_use, pool
        liars = [one for one in self.backends if isinstance(one, Liar) and one.lied]
        self.counts["liars"] += len(liars)
        self.counts["liars closed"] += sum(one.over for one in liars)


class LyingServerTests(SynchronousTestCase):
    """Nothing but an end of that session, and no growth."""

    def test_sessions(self) -> None:
        """No exception, nothing that never ends, nothing kept but a chunk."""
        first = printed_seed(self.id())
        failures: list[LogEvent] = []

        def note(event: LogEvent) -> None:
            if "log_failure" in event:
                failures.append(event)

        globalLogPublisher.addObserver(note)
        self.addCleanup(globalLogPublisher.removeObserver, note)
        counts: Counter[str] = Counter()
        for seed in range(first, first + SESSIONS):
            schedule = LyingSchedule(random.Random(seed))
            try:
                schedule.run()
                schedule.look()
            except Exception as error:
                raise AssertionError(f"PROXYD_SEED={seed}: {error!r}") from error
            finally:
                schedule.stop()
            self.assertEqual(failures, [], f"PROXYD_SEED={seed}")
            counts += schedule.counts
        self.assertGreater(counts["liars"], SESSIONS // 4, counts)
        self.assertGreater(counts["liars closed"], counts["liars"] // 2, counts)
