"""
Clients of many users that share a few server connections, and leave in every bad manner.

All that a client asks for carries its own mark, so that a row of somebody else's
is known at sight; all that it leaves behind is asked for by whoever comes next.
Each client is a thread of its own, with blocking sockets and a seed of its own.
"""

from __future__ import annotations

import random
import threading
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.support import pgbytes
from tests.support.daemon import Daemon
from tests.support.database import DATABASE, SERVICE, Database
from tests.support.deadlines import DeadlinePassed
from tests.support.wireclient import Hangup, Message, ServerError, WireClient

LOST = frozenset({"57P01", "08006", "08001"})
"""What a client is told when its server was terminated."""

ZONES = ("Asia/Tokyo", "America/Lima", "Europe/Rome")


class Foreign(AssertionError):
    """A client saw what is not its own."""


class Lost(Exception):
    """The server behind was terminated."""


@dataclass
class Crowd:
    """
    The clients of one connection of the configuration.

    @ivar name: the database that they ask for
    @ivar pause: seconds between two requests of a client, at most
    @ivar fresh: whether every session has a server connection that nobody had before
    @ivar dblink: whether the server has it
    @ivar over: set: all go home
    @ivar faults: what went wrong, in words
    @ivar counts: how often what was done and seen
    @ivar committed: notes whose COMMIT was answered
    """

    proxy: Daemon
    database: Database
    name: str
    seed: int
    pause: float
    fresh: bool
    dblink: bool
    over: threading.Event
    faults: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    committed: set[str] = field(default_factory=set)
    _held: dict[str, str] = field(default_factory=dict)
    _seen: set[str] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def start(self, users: int) -> list[threading.Thread]:
        """Let so many users come and go until L{over} is set."""
        threads = [
            threading.Thread(target=_Person(self, number).live, daemon=True)
            for number in range(users)
        ]
        for thread in threads:
            thread.start()
        return threads

    def take(self, backend: str, mark: str) -> None:
        """A session has this server connection now."""
        with self._lock:
            if backend in self._held:
                raise Foreign(f"{mark} is on the server connection of {self._held[backend]}")
            if self.fresh and backend in self._seen:
                raise Foreign(f"{mark} got a server connection that was used before")
            self._held[backend] = mark
            self._seen.add(backend)

    def leave(self, backend: str) -> None:
        """A session is about to end."""
        with self._lock:
            self._held.pop(backend, None)

    def note(self, what: str) -> None:
        """Count something."""
        with self._lock:
            self.counts[what] += 1

    def fault(self, text: str) -> None:
        """Something that must not be was seen: all go home."""
        with self._lock:
            self.faults.append(text)
        self.over.set()


class _Person:
    """One user, who has one session after the other."""

    def __init__(self, crowd: Crowd, number: int) -> None:
        self.crowd = crowd
        self.user = f"mark{number}"
        self.number = number
        self.random = random.Random(f"{crowd.seed} {crowd.name} {number}")
        self.serial = 0
        self.mark = ""
        self.backend = ""
        self.asked_cancel = False
        self.listening = False
        self.old: tuple[int, bytes] = (0, b"")
        self.client: WireClient

    def live(self) -> None:
        """Have sessions until the crowd is over."""
        crowd = self.crowd
        while not crowd.over.is_set():
            self.serial += 1
            self.mark = f"{self.user}-{crowd.name}-{self.serial}"
            self.asked_cancel = self.listening = False
            self.backend = ""
            try:
                self._session()
            except (Lost, Hangup, OSError) as error:
                # A deadline is an OSError too.
                if isinstance(error, DeadlinePassed):
                    crowd.fault(f"{self.mark}: {traceback.format_exc()}")
                crowd.note("lost")
            except ServerError as error:
                if error.sqlstate in LOST:
                    crowd.note("lost")
                else:
                    crowd.fault(f"{self.mark}: {traceback.format_exc()}")
            except Exception:
                crowd.fault(f"{self.mark}: {traceback.format_exc()}")
            finally:
                crowd.leave(self.backend)

    # -- one session

    def _session(self) -> None:
        zone = self.random.choice((*ZONES, ""))
        tls = self.random.random() < 0.3
        words = {"application_name": self.mark} | ({"TimeZone": zone} if zone else {})
        proxy = self.crowd.proxy
        self.client = client = WireClient(proxy.host, proxy.port, seconds=60.0)
        try:
            if tls:
                client.start_tls()
                self.crowd.note("tls")
            client.login(self.user, self.crowd.name, **words)
            self._stale_cancel()
            self.old = (client.pid, client.key)
            self._first_look(zone)
            self.crowd.note("sessions")
            for _ in range(self.random.randint(0, 4)):
                self._pause()
                self.random.choice(self.WORK)(self)
            self._deposit()
            self.crowd.leave(self.backend)
            ending = self.random.choice(self.ENDINGS)
            self.crowd.note(ending.__name__.strip("_"))
            ending(self)
        finally:
            client.close()

    def _pause(self) -> None:
        self.crowd.over.wait(self.random.uniform(0, self.crowd.pause))

    def _stale_cancel(self) -> None:
        """A cancel request with the key of the session before: it must strike nobody."""
        if self.old[1] and self.random.random() < 0.3:
            self.client.cancel(*self.old)
            self.crowd.note("stale cancels")

    def _first_look(self, zone: str) -> None:
        """Look for what others may have left."""
        if self.random.random() < 0.5:
            for said, code in (
                (pgbytes.bind() + pgbytes.execute(), "26000"),
                (pgbytes.bind(statement="s"), "26000"),
                (pgbytes.execute("c"), "34000"),
            ):
                messages = self._say(said + pgbytes.SYNC, error=code)
                if any(message.kind == "D" for message in messages):
                    raise Foreign(f"a prepared statement of another's gave {messages}")
        found = self._values(self._say(pgbytes.query(self._question())))
        self.backend, left = found[0][:2]
        wanted = self._nothing_left(zone)
        if left != wanted:
            raise Foreign(f"left behind:\n{left}\ninstead of:\n{wanted}")
        self.crowd.take(self.backend, self.mark)

    def _question(self) -> str:
        mark = "current_setting('my.mark', true)"
        gone = f"{mark} IS NULL" if self.crowd.fresh else f"coalesce({mark}, '') = ''"
        links = "coalesce(array_length(public.dblink_get_connections(), 1), 0)"
        return (
            "SELECT pg_backend_pid() || ' ' || backend_start, concat_ws('; ',"
            " current_user, session_user, current_setting('application_name'),"
            " current_setting('TimeZone'), current_setting('work_mem'),"
            " current_setting('search_path'), current_setting('transaction_isolation'),"
            f" {gone}, to_regclass('pg_temp.own') IS NULL,"
            " (SELECT count(*) FROM pg_class WHERE relnamespace = pg_my_temp_schema()),"
            " (SELECT count(*) FROM pg_locks"
            "  WHERE locktype = 'advisory' AND pid = pg_backend_pid()),"
            " (SELECT count(*) FROM pg_listening_channels()),"
            " (SELECT count(*) FROM pg_prepared_statements), (SELECT count(*) FROM pg_cursors),"
            f" {links if self.crowd.dblink else '0'})"
            " FROM pg_stat_activity WHERE pid = pg_backend_pid()"
        )

    def _nothing_left(self, zone: str) -> str:
        told = self.client.parameters["TimeZone"]
        if zone and told != zone:
            raise Foreign(f"ParameterStatus says {told} instead of {zone}")
        name = f"{self.user}|{self.mark}"
        settings = (name, told, "4MB", '"$user", public', "read committed")
        return "; ".join((SERVICE, SERVICE, *settings, "t", "t", *"000000"))

    # -- asking and looking

    def _say(self, data: bytes, readies: int = 1, error: str = "") -> list[Message]:
        """
        Send, read so many ReadyForQuery, and look at all that comes before them.

        @param error: the code of the error that is expected
        @raise Lost: the server was terminated
        """
        self.client.send(data)
        return self._read(readies, error)

    def _read(self, readies: int = 1, error: str = "") -> list[Message]:
        messages = self.client.read_until("Z" * readies)
        errors = [message.fields() for message in messages if message.kind == "E"]
        for fields in errors:
            if fields["S"] == "FATAL" and fields["C"] in LOST:
                raise Lost
            if fields["C"] == "57014" and self.asked_cancel:
                self.crowd.note("cancelled")
                continue
            if fields["C"] != error:
                raise Foreign(f"{self.mark} was told {fields}")
        if sum(message.kind == "Z" for message in messages) != readies:
            raise Lost
        for message in messages:
            if message.kind == "A":
                self._notified(message)
        if error and not errors:
            raise Foreign(f"no error {error}, but {messages}")
        return messages

    def _notified(self, message: Message) -> None:
        channel, payload = message.body[4:].split(b"\0")[:2]
        own = f"{self.user}_{self.crowd.name}".encode()
        if not self.listening or channel != own:
            raise Foreign(f"{self.mark} was notified of {channel!r}: {payload!r}")
        self.crowd.note("notified")

    def _values(self, messages: list[Message]) -> list[tuple[str, ...]]:
        return [
            tuple(value or "" for value in message.columns())
            for message in messages
            if message.kind == "D"
        ]

    def _own(self, messages: list[Message], count: int) -> None:
        """All rows are ours, and none is missing unless we cancelled it."""
        rows = self._values(messages)
        for row in rows:
            if row[0] != self.mark:
                raise Foreign(f"{self.mark} got {row}")
        if len(rows) != count and not self.asked_cancel:
            raise Foreign(f"{self.mark} got {len(rows)} rows of {count}")
        self.asked_cancel = False

    # -- work

    def _simple(self) -> None:
        count = self.random.choice((1, 3, 200))
        sql = f"SELECT '{self.mark}', n FROM generate_series(1, {count}) n"
        self._own(self._say(pgbytes.query(sql)), count)

    def _extended(self) -> None:
        said = pgbytes.extended("SELECT $1::text", [self.mark.encode()]) + pgbytes.SYNC
        count = self.random.randint(1, 4)
        self._own(self._say(said * count, count), count)

    def _error(self) -> None:
        self._say(pgbytes.query("SELECT 1/0"), error="22012")

    def _copy_out(self) -> None:
        sql = f"COPY (SELECT '{self.mark}' FROM generate_series(1, 300)) TO STDOUT"
        rows = [m.body for m in self._say(pgbytes.query(sql)) if m.kind == "d"]
        if rows != [f"{self.mark}\n".encode()] * 300:
            raise Foreign(f"{self.mark} got by COPY {rows[:3]}")

    def _copy_in(self) -> None:
        self.serial += 1
        note = f"always {self.mark} {self.serial}"
        data = pgbytes.copy_data(f"{self.number}\t{note}\n".encode())
        self.client.send(pgbytes.query("COPY public.sink FROM STDIN") + data + pgbytes.COPY_DONE)
        self._read()
        self.crowd.committed.add(note)

    def _transaction(self) -> None:
        self.serial += 1
        note = f"always {self.mark} {self.serial}"
        insert = f"INSERT INTO public.sink VALUES ({self.number}, '{note}')"
        self._say(pgbytes.query("BEGIN"))
        self._say(pgbytes.query(insert))
        self._say(pgbytes.query("COMMIT"))
        self.crowd.committed.add(note)

    def _notify(self) -> None:
        self._say(pgbytes.query(f"NOTIFY {self.user}_{self.crowd.name}, '{self.mark}'"))

    def _cancelled(self) -> None:
        seconds = self.random.choice((0.0, 0.01, 0.1))
        self.asked_cancel = True
        self.client.send(pgbytes.query(f"SELECT '{self.mark}', pg_sleep({seconds})"))
        self.client.cancel()
        self._own(self._read(), 1)

    def _idle_cancel(self) -> None:
        """It must not strike what we ask for next."""
        self.client.cancel()
        self.crowd.note("idle cancels")

    def _start_over(self) -> None:
        """What a driver's own pool says: the start-up packet's settings are there again."""
        self._say(pgbytes.query(self.random.choice(("RESET ALL", "DISCARD ALL"))))
        sql = "SELECT current_setting('TimeZone'), current_setting('application_name')"
        found = self._values(self._say(pgbytes.query(sql)))
        if found != [(self.client.parameters["TimeZone"], f"{self.user}|{self.mark}")]:
            raise Foreign(f"{self.mark} has {found} after a reset")

    WORK: tuple[Callable[[_Person], None], ...] = (
        _simple, _simple, _extended, _extended, _error, _copy_out, _copy_in, _transaction,
        _notify, _cancelled, _idle_cancel, _start_over,
    )  # fmt: skip

    # -- what is left behind

    def _deposit(self) -> None:
        own = f"{self.user}_{self.crowd.name}"
        left = [
            f"SET my.mark = '{self.mark}'",
            "SET work_mem = '77MB'",
            "SET search_path = pg_catalog",
            "SET TimeZone = 'Africa/Cairo'",
            "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL SERIALIZABLE",
            f"CREATE TEMP TABLE own AS SELECT '{self.mark}'::text AS note",
            f"SELECT pg_advisory_lock({self.number})",
            f"LISTEN {own}",
            f"PREPARE p AS SELECT '{self.mark}'",
            f"BEGIN; DECLARE held CURSOR WITH HOLD FOR SELECT '{self.mark}'; COMMIT",
        ]
        if self.crowd.dblink and self.crowd.fresh:
            # What DISCARD ALL leaves is in docs/security.md; without it nothing may be left.
            there = self.crowd.database
            login = f"dbname={DATABASE} user={SERVICE} password={there.passwords[SERVICE]}"
            place = f"host={there.host} port={there.port} {login}"
            left.append(f"SELECT public.dblink_connect('c', '{place}')")
        chosen = self.random.sample(left, self.random.randint(0, 4))
        self.listening = f"LISTEN {own}" in chosen
        if self.random.random() < 0.2:
            chosen.append("SET ROLE clerk")
        for statement in chosen:
            self._say(pgbytes.query(statement))
            self.crowd.note("left " + " ".join(statement.split()[:2]))
        if self.listening:
            self._notify()
        if self.random.random() < 0.3:
            secret = pgbytes.parse(f"SELECT '{self.mark}'") + pgbytes.parse("SELECT 1", "s")
            self._say(secret + pgbytes.SYNC)

    # -- ways to go

    @property
    def _never(self) -> str:
        return f"INSERT INTO public.sink VALUES ({self.number}, 'never {self.mark}')"

    def _goodbye(self) -> None:
        self.client.leave()

    def _closed(self) -> None:
        self.client.close()

    def _reset(self) -> None:
        self.client.kill()

    def _half_closed(self) -> None:
        self.client.send(pgbytes.query(f"SELECT '{self.mark}'"))
        if self.client.context is None:
            self.client.half_close()
        self._own(self._read(), 1)

    def _in_transaction(self) -> None:
        """What the client began is rolled back."""
        self._say(pgbytes.query("BEGIN; DECLARE c CURSOR FOR SELECT 'c'"))
        self._say(pgbytes.query(self._never))
        self.random.choice((self.client.leave, self.client.close, self.client.kill))()

    def _in_query(self) -> None:
        self.client.send(pgbytes.query(f"SELECT '{self.mark}', pg_sleep(20)"))
        self.random.choice((self.client.close, self.client.kill))()

    def _in_message(self) -> None:
        self.client.send(pgbytes.query(self._never + "; SELECT 1")[:-3])
        self.random.choice((self.client.close, self.client.kill))()

    def _in_batch(self) -> None:
        """A batch without its Sync must never be committed."""
        self.client.send(pgbytes.extended(self._never) + pgbytes.FLUSH)
        self.random.choice((self.client.leave, self.client.close, self.client.kill))()

    def _in_copy(self) -> None:
        row = f"{self.number}\tnever {self.mark}\n".encode()
        self.client.send(pgbytes.query("COPY public.sink FROM STDIN") + pgbytes.copy_data(row))
        self.random.choice((self.client.leave, self.client.close, self.client.kill))()

    def _with_a_cancel(self) -> None:
        """The cancel is on its way while the next client already waits."""
        self.client.send(pgbytes.query(f"SELECT '{self.mark}', pg_sleep(20)"))
        other = WireClient(self.client.host, self.client.port)
        other.send(pgbytes.cancel(self.client.pid, self.client.key))
        self.client.kill()
        other.close()

    def _unread(self) -> None:
        """A result that nobody reads."""
        self.client.send(
            pgbytes.query(f"SELECT repeat('{self.mark}', 200) FROM generate_series(1, 2000)")
        )
        self.random.choice((self.client.leave, self.client.kill))()

    ENDINGS: tuple[Callable[[_Person], None], ...] = (
        _goodbye, _closed, _reset, _half_closed, _in_transaction, _in_query, _in_message,
        _in_batch, _in_copy, _with_a_cancel, _unread,
    )  # fmt: skip
