"""
Simulated schedules: clients, proxyd and servers in memory, in an order that a seed decides.

Everything of proxyd from the accepted socket on is the real thing: login,
session, lease, pool, flow, link. The network (L{tests.postgres.memory}), the
servers (L{tests.postgres.model_session}) and the clock are not.
"""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field, replace
from struct import pack, unpack_from

from twisted.internet.task import Clock

from proxyd.config.model import Connection, Dsn, Log, Postgres, PostgresTls
from proxyd.config.secrets import Secret
from proxyd.postgres.directory import Directory
from proxyd.postgres.listener import PostgresListener
from proxyd.postgres.pool import Pool
from proxyd.postgres.pools import Pools, accounts_of
from proxyd.postgres.server import Server
from proxyd.target import Target
from tests.postgres.memory import MemoryDialer, MemoryLink, Network, Wire
from tests.postgres.model_session import ModelSession
from tests.support import pgbytes
from tests.wire.pg.model_server import ASYNCHRONOUS, message, split

PATIENCE = 300
"""Seconds of the simulated clock after which whoever still waits waits in vain."""

LOST = frozenset({b"57P01", b"08006", b"08001"})


class Fault(AssertionError):
    """Something that must not be."""


def simulate(seed: int) -> Counter[str]:
    """
    Run the schedule of one seed.

    @return: how often what was seen
    @raise Fault: with the reason
    """
    schedule = Schedule(random.Random(seed))
    try:
        schedule.run()
        schedule.look()
    finally:
        schedule.stop()
    return schedule.counts


@dataclass(eq=False)
class Backend:
    """A connection to the server: its process, or a cancel request."""

    wire: Wire
    pid: int
    session: ModelSession = field(default_factory=ModelSession)
    unread: bytes = b""
    out: bytes = b""
    started: bool = False

    @property
    def over(self) -> bool:
        """Whether it is closed."""
        return self.wire.closed

    @property
    def busy(self) -> bool:
        """Whether it has something to do."""
        wire = self.wire
        return not wire.closed and bool(
            wire.here
            or wire.fin_here
            or wire.broken
            or self.session.waiting
            or self.session.ended
            or ((self.out or self.session.said) and wire.room > 0)
        )

    def turn(self, schedule: Schedule) -> None:
        """Read, work on one message, and say what there is room for."""
        wire, session = self.wire, self.session
        if wire.broken:
            wire.close()
            return
        data = bytes(wire.here)
        wire.here.clear()
        if not self.started:
            self._start(data, schedule)
            return
        session.receive(data)
        if session.waiting:
            session.step()
        self._speak()
        quiet = not self.out and not session.waiting
        if quiet and (session.ended or session.dead or wire.fin_here):
            wire.close()

    def _start(self, data: bytes, schedule: Schedule) -> None:
        self.unread += data
        if len(self.unread) < 4 or len(self.unread) < unpack_from("!i", self.unread)[0]:
            if self.wire.fin_here:
                self.wire.close()
            return
        length, code = unpack_from("!ii", self.unread)
        if code == pgbytes.CANCEL_CODE:
            schedule.strike(*unpack_from("!ii", self.unread, 8))
            self.wire.close()
            return
        self.started = True
        self.out = message("R", bytes(4)) + message("S", b"application_name\0\0")
        self.out += message("K", pack("!ii", self.pid, -self.pid)) + message("Z", b"I")
        self.session.receive(self.unread[length:])
        self.unread = b""
        self._speak()

    def _speak(self) -> None:
        self.out += b"".join(self.session.said)
        self.session.said.clear()
        try:
            if self.out:
                self.out = self.out[self.wire.send(self.out) :]
        except BlockingIOError:
            return
        except OSError:
            self.wire.close()


class Person:
    """
    A client with one session: what it says, what it is told.

    @ivar mark: is in all it asks for
    @ivar told: what came after the greeting, without what comes by itself
    """

    def __init__(self, schedule: Schedule, number: int) -> None:
        chance = schedule.chance
        self.schedule = schedule
        self.number = number
        self.mark = f"m{number}"
        self.user = f"u{number}"
        self.wire: Wire | None = None
        self.told = b""
        self.readies = 0
        self.over = self.greeted = self.cancelled = self.lost = self._parting = False
        self.key: tuple[int, bytes] | None = None
        self.lazy = chance.random() < 0.2
        self._unread = b""
        self._sent = 0
        self._out = b""
        self._units = self._script(chance)
        self.ending = chance.choice(ENDINGS)
        self.said = b"".join(self._units) + self._last_words(self.ending)
        self._steps: list[bytes | None] = []
        for unit in self._units:
            self._steps.append(unit)
            if chance.random() < 0.5:
                self._steps.append(None)  # read all answers first
        if self.ending in ("goodbye", "half"):
            self._steps.append(None)

    # -- what it says

    def _script(self, chance: random.Random) -> list[bytes]:
        units = [pgbytes.query("show")] if chance.random() < 0.7 else []
        for number in range(chance.randint(0, 4)):
            units.append(self._unit(chance.randrange(11), f"{self.mark}.{number}"))
        return units

    def _unit(self, kind: int, put: str) -> bytes:
        """One request, which one ReadyForQuery answers."""
        mark, row = self.mark, pgbytes.copy_data(b"x\n")
        if kind == 0:
            return pgbytes.query(f"mark:{mark} echo:{mark}")
        if kind == 1:
            return pgbytes.query(f"listen:{mark}")
        if kind == 2:
            return pgbytes.query(f"begin put:{put}")
        if kind == 3:
            return pgbytes.query(f"put:{put} commit")
        if kind == 4:
            return pgbytes.query("err")
        if kind == 5:
            return pgbytes.query("copy") + row * 3 + pgbytes.COPY_DONE
        if kind == 6:
            return pgbytes.query("copyrow") + row + pgbytes.COPY_DONE
        if kind == 7:
            return pgbytes.query(f"sleep echo:{mark}")
        if kind == 10:
            return pgbytes.query("DISCARD ALL")
        if kind == 8:
            return _extended("err") + _extended(f"put:{put}") + pgbytes.SYNC
        return _extended(f"put:{put}") + _extended(f"echo:{mark}") + pgbytes.SYNC

    def _last_words(self, ending: str) -> bytes:
        put = f"put:never.{self.mark}"
        words = {
            "message": pgbytes.query(f"{put} show")[:-3],
            "batch": _extended(put) + pgbytes.FLUSH,
            "unread": pgbytes.query(f"echo:{self.mark} " * 20) + pgbytes.TERMINATE,
            "farewell": pgbytes.query(f"echo:{self.mark}") + pgbytes.TERMINATE,
            "copy": pgbytes.query("copy") + pgbytes.copy_data(b"x\n"),
            "early sync": _extended("copyrow")
            + pgbytes.SYNC
            + pgbytes.copy_data(b"x\n")
            + pgbytes.COPY_DONE
            + pgbytes.SYNC,
            "asleep": pgbytes.query(f"put:{self.mark}.last sleep"),
            "goodbye": pgbytes.TERMINATE,
            "batch goodbye": _extended(put) + pgbytes.TERMINATE,
        }
        return words.get(ending, b"")

    # -- its turn

    @property
    def busy(self) -> bool:
        """Whether there is something for it to do."""
        wire = self.wire
        if self.over or wire is None:
            return not self.over
        if wire.here or wire.broken or wire.fin_here:
            return True
        if self._out:
            return wire.room > 0
        if not self.greeted:
            return False
        if self._steps:
            return self._steps[0] is not None or self.readies >= self._sent
        return not self._parting or self.ending not in WHOLE

    def turn(self) -> None:
        """Come in, read, say the next thing, or go."""
        wire = self.wire
        if wire is None:
            self._come()
            return
        if wire.here or wire.broken or wire.fin_here:
            self._read(wire)
        elif self._out:
            self._send(wire)
        elif self.greeted:
            self._next(wire)

    def _come(self) -> None:
        words = {"user": self.user, "database": "shop"}
        self._out = pgbytes.startup(words)
        self.wire, proxys = self.schedule.network.pair()
        self.schedule.listener._accepted(proxys, ("127.0.0.1", self.number))
        if self._steps and self.schedule.chance.random() < 0.2 and self._steps[0]:
            # The first request right behind the start-up packet.
            self._out += self._steps.pop(0) or b""
            self._sent += 1

    def _send(self, wire: Wire) -> None:
        chance = self.schedule.chance
        count = chance.choice((1, 5, 30, len(self._out)))
        try:
            self._out = self._out[wire.send(self._out[:count]) :]
        except BlockingIOError:
            return
        except OSError:
            self._gone(wire)

    def _next(self, wire: Wire) -> None:
        if self._steps:
            step = self._steps[0]
            if step is None and self.readies < self._sent:
                return
            del self._steps[0]
            if step is not None:
                self._out, self._sent = step, self._sent + 1
            return
        if not self._parting:
            self._parting = True
            self._out = self._last_words(self.ending)
            if self.ending == "half":
                wire.shutdown(1)
        elif self.ending not in WHOLE:
            self.over = True
            wire.reset() if self.schedule.chance.random() < 0.5 else wire.close()

    def _read(self, wire: Wire) -> None:
        try:
            data = wire.recv(1 << 16)
        except OSError:
            self._gone(wire)
            return
        if not data:
            self._gone(wire)
            return
        found, self._unread = split(self._unread + data)
        for kind, body in found:
            self._hear(kind, body)

    def _gone(self, wire: Wire) -> None:
        if self._unread:
            self.lost = True
        self.over = True
        wire.close()

    def _hear(self, kind: str, body: bytes) -> None:
        if not self.greeted:
            if kind == "K":
                self.key = (*unpack_from("!i", body), body[4:])
            self.greeted = kind == "Z"
            if kind == "E":
                self._error(body)
            return
        if kind == "Z":
            self.readies += 1
        if kind == "D" and body.decode() != self.mark:
            raise Fault(f"{self.mark} got {body!r}")
        if kind == "A" and body[4:] != self.mark.encode() + b"\0\0":
            raise Fault(f"{self.mark} was notified of {body!r}")
        if kind == "E" and self._error(body):
            return
        if ord(kind) not in ASYNCHRONOUS:
            self.told += message(kind, body)

    def _error(self, body: bytes) -> bool:
        """Whether it is proxyd's own, or the server's, last word."""
        fields = {part[:1]: part[1:] for part in body.split(b"\0")}
        code = fields[b"C"]
        if fields[b"S"] == b"FATAL":
            if code not in LOST or not self.schedule.killed:
                raise Fault(f"{self.mark} was told {fields}")
            self.lost = True
            self.schedule.counts["lost"] += 1
            return True
        if code == b"57014":
            if not self.cancelled:
                raise Fault(f"{self.mark} never cancelled anything")
            self.schedule.counts["cancelled"] += 1
        return False

    # -- afterwards

    def look(self, committed: list[str]) -> None:
        """
        It was told what a server of its own would have told it.

        @param committed: what all servers committed
        @raise Fault: it was not
        """
        own = [put for put in committed if put.split(".")[0] == self.mark]
        if f"never.{self.mark}" in committed:
            raise Fault(f"{self.mark} never committed that: {committed}")
        alone = ModelSession()
        alone.receive(self.said)
        right = alone.run_out()
        twice = len(set(own)) != len(own)
        # A BEGIN that was cancelled leaves what follows without its block.
        if twice or not (self.cancelled or set(own) <= set(alone.committed)):
            raise Fault(f"{self.mark} committed {own} instead of {alone.committed}")
        if self.cancelled or self.schedule.killed or not self.greeted:
            return
        heard = b"".join(
            message(kind, body) for kind, body in split(right)[0] if ord(kind) not in ASYNCHRONOUS
        )
        whole = self.ending in WHOLE
        if not heard.startswith(self.told) or (whole and self.told != heard):
            raise Fault(f"{self.mark} ({self.ending}) heard\n{self.told!r}\ninstead of\n{heard!r}")
        if whole and set(own) != set(alone.committed):
            raise Fault(f"{self.mark} committed {own} instead of {alone.committed}")
        self.schedule.counts["whole"] += whole


def _extended(word: str) -> bytes:
    return pgbytes.parse(word) + pgbytes.bind() + pgbytes.execute()


WHOLE = frozenset({"goodbye", "half", "farewell", "batch goodbye"})
"""Ways to go in which all that was asked is answered."""

ENDINGS = (
    *sorted(WHOLE), "close", "reset", "message", "batch", "copy",
    "early sync", "asleep", "unread",
)  # fmt: skip


class Schedule:
    """
    One run: a few clients, one pool, a budget of accidents.

    @ivar killed: how many servers were killed, and sessions ended from outside
    @ivar counts: how often what was seen
    """

    person = Person
    backend = Backend

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.clock = Clock()
        self.counts: Counter[str] = Counter()
        self.network = Network(chance)
        self.link = MemoryLink(self.network, self.clock, 5.0)
        self.backends: list[Backend] = []
        self.killed = 0
        connection = Connection(
            "shop",
            Dsn((Target("127.0.0.1", 5432),), user="svc", database="shop", sslmode="disable"),
            Secret("service-secret"),
            auth=("trust",),
            min_idle_connections=chance.randint(0, 1),
            max_open_connections=chance.randint(1, 2),
            reset=chance.choice(("discard_all", "discard_all", "close")),
            health_check_period=chance.choice((2.0, 60.0)),
        )
        self.pools = Pools(self.clock, chance.random)
        self._connection = connection
        self._replaced: list[Pool] = []
        directory = self._serve()
        self.pools.startService()
        self._settings = Postgres(listen=(), tls=PostgresTls("disable"))
        self.listener = PostgresListener(
            None, self.link, self._settings, Log(), None, directory, self.pools
        )
        self.listener.startService()
        self.people = [self.person(self, number) for number in range(chance.randint(2, 5))]
        self._accidents = {
            self._kill: chance.choice((0, 0, 0, 1, 2)),
            self._cancel: chance.choice((0, 1, 3)),
            self._notify: 2,
            self._reload: chance.choice((0, 0, 1, 2)),
            self._end_session: chance.choice((0, 0, 0, 1)),
            self._wake: 2,
            self._wait: 2,
        }

    def _serve(self) -> Directory:
        dialer = MemoryDialer(self.network, self._accept)
        servers = {"shop": Server(self._connection, dialer, self.link, self.clock)}
        self._replaced += self.pools
        self.pools.serve(servers, accounts_of(servers))
        return Directory(servers)

    def _accept(self, wire: Wire) -> None:
        self.backends.append(self.backend(wire, 1000 + len(self.backends)))

    # -- what happens

    def run(self) -> None:
        """
        Until every client is gone and every server at rest.

        @raise Fault: somebody waits in vain
        """
        while True:
            if self.chance.random() < 0.03:
                self._accident()
            if self._turn():
                continue
            if not self._busy() and self._ended():
                return
            self._wait()
            if self.clock.seconds() > PATIENCE:
                self._lose_patience()

    def _lose_patience(self) -> None:
        waiting = [(one.mark, one.ending) for one in self.people if not one.over]
        raise Fault(f"they wait in vain: {waiting} {self.listener.sessions}")

    def _turn(self) -> bool:
        """Let one thing happen; False: nothing can."""
        chance = self.chance
        kind = chance.random()
        if kind < 0.4:
            moving = list(self.network.moving())
            if moving:
                wire = chance.choice(moving)
                wire.arrive(chance.choice((1, 7, 1 << 20, 1 << 20)))
                return True
        elif kind < 0.6:
            busy = [person for person in self.people if person.busy]
            if busy:
                person = chance.choice(busy)
                if not person.lazy or chance.random() < 0.2:
                    person.turn()
                return True
        elif kind < 0.8:
            working = [backend for backend in self.backends if backend.busy]
            if working:
                chance.choice(working).turn(self)
                return True
        self.link.doRead()
        return kind < 0.8 or self._busy() or self._wake()

    def _busy(self) -> bool:
        """Whether anything can happen by itself."""
        return (
            any(self.network.moving())
            or any(person.busy for person in self.people)
            or any(backend.busy for backend in self.backends)
        )

    def _ended(self) -> bool:
        return (
            all(person.over for person in self.people)
            and not self.listener.sessions
            and not any(pool.in_use for pool in (*self.pools, *self._replaced))
        )

    def _wake(self) -> bool:
        """A server that works comes to its end; False: none works."""
        asleep = [one for one in self.backends if one.session.asleep and not one.over]
        if asleep:
            backend = self.chance.choice(asleep)
            backend.session.wake()
            backend.turn(self)
        return bool(asleep)

    # -- accidents

    def _accident(self) -> None:
        possible = [what for what, left in self._accidents.items() if left]
        if possible:
            what = self.chance.choice(possible)
            self._accidents[what] -= 1
            what()

    def _kill(self) -> None:
        alive = [one for one in self.backends if one.started and not one.over]
        if alive:
            backend = self.chance.choice(alive)
            self.killed += 1
            self.counts["killed"] += 1
            if self.chance.random() < 0.5:
                backend.wire.reset()
            else:
                backend.session.asleep = False
                backend.session.die()
                backend.turn(self)

    def _cancel(self) -> None:
        known = [person for person in self.people if person.key is not None]
        asleep = {one.session.name.split("|")[0] for one in self.backends if one.session.asleep}
        known = [person for person in known if person.user in asleep] or known
        if known:
            person = self.chance.choice(known)
            assert person.key is not None
            person.cancelled = True
            ours, proxys = self.network.pair()
            ours.capacity = proxys.capacity = 1 << 16
            self.listener._accepted(proxys, ("127.0.0.1", 9))
            ours.send(pgbytes.cancel(*person.key))
            if self.chance.random() < 0.5:
                ours.close()

    def _notify(self) -> None:
        listening = [one for one in self.backends if one.session.channels and not one.over]
        if listening:
            backend = self.chance.choice(listening)
            backend.session.notify()
            backend.turn(self)

    def _reload(self) -> None:
        """Another configuration: nobody who is here notices."""
        idle = self._connection.connection_max_idle_time
        self._connection = replace(self._connection, connection_max_idle_time=idle + 1.0)
        self.listener.adopt(self._settings, Log(), None, self._serve())
        self.counts["reloaded"] += 1

    def _end_session(self) -> None:
        """Somebody's session is ended from outside."""
        sessions = list(self.listener.sessions)
        if sessions:
            self.killed += 1
            self.chance.choice(sessions).kill("told to")

    def _wait(self) -> None:
        self.clock.advance(1.0)

    def strike(self, pid: int, key: int) -> None:
        """A cancel request came to the server."""
        for backend in self.backends:
            if backend.pid == pid and -pid == key and not backend.over:
                backend.session.cancel()
                if backend.started:
                    backend.turn(self)

    # -- afterwards

    def look(self) -> None:
        """
        Nothing is left behind, and everybody was told what is true.

        @raise Fault: not so
        """
        committed = [put for one in self.backends for put in one.session.committed]
        for person in self.people:
            person.look(committed)
        for backend in self.backends:
            if backend.started and not backend.over:
                session = backend.session
                left = session.kept or session.channels or session.unsettled()
                if left or session.status != "I":
                    raise Fault(f"a pooled server has {left!r}, status {session.status}")
        self.counts["servers"] += len(self.backends)

    def stop(self) -> None:
        """End all of it."""
        self.listener.stopService()
        self.pools.stopService()
        self.link.stop()
