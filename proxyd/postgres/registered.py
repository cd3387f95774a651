"""
Databases that were registered while proxyd runs: what clients know as C{db_<id>}.

A DSN that comes from outside is not trusted as the configuration's are: it says
what an allow-list lets it say, names no file of this machine and no UNIX
socket, and its hosts must be such as proxyd may dial for strangers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from urllib.parse import quote, urlencode

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from proxyd.config.dsn import ParsedDsn, parse_dsn
from proxyd.config.model import Connection, Dsn
from proxyd.config.secrets import Secret
from proxyd.config.values import BadValue
from proxyd.interfaces import IStore
from proxyd.records import Change, DatabaseRecord, Invalid, Kind
from proxyd.store.seal import Seal, Unsealed
from proxyd.target import Target

_log = Logger()

ALLOWED = frozenset(
    {
        "application_name",
        "channel_binding",
        "client_encoding",
        "fallback_application_name",
        "keepalives",
        "keepalives_count",
        "keepalives_idle",
        "keepalives_interval",
        "load_balance_hosts",
        "max_protocol_version",
        "min_protocol_version",
        "options",
        "require_auth",
        "ssl_max_protocol_version",
        "ssl_min_protocol_version",
        "sslnegotiation",
        "sslrootcert",
        "sslsni",
        "target_session_attrs",
    }
)
"""What a DSN may say beside place, user, password, C{sslmode} and C{connect_timeout}."""

LONGEST_NAME = 200
LONGEST_DSN = 4096
LONGEST_PASSWORD = 65_535
_MOST_IDLE = 2

Denies = Callable[[Target], str | None]
"""Says why a target is not dialled for a registered database; None: it may be."""


@dataclass(frozen=True, slots=True)
class RegisteredDatabase:
    """
    A registered database as whoever manages it sees it.

    @param dsn: without the password
    """

    database_id: int
    name: str
    dsn: str
    created_at: int

    @property
    def client_name(self) -> str:
        """What clients ask for."""
        return client_name(self.database_id)


def client_name(database_id: int) -> str:
    """The name that clients know a registered database by."""
    return f"db_{database_id}"


class Registered:
    """The registered databases, kept in the store, and as connections in memory."""

    def __init__(
        self,
        clock: IReactorTime,
        store: IStore,
        seal: Seal,
        denies: Denies,
        pool_size: int = Connection("", Dsn(())).max_open_connections,
    ) -> None:
        """
        @param seal: encrypts passwords for the store
        @param denies: which hosts may not be named
        @param pool_size: C{max_open_connections} of each
        """
        self._clock = clock
        self._store = store
        self._seal = seal
        self._denies = denies
        self._pool_size = pool_size
        self._connections: dict[str, Connection] = {}
        self._changed: list[Callable[[], object]] = []

    @property
    def connections(self) -> Mapping[str, Connection]:
        """As they are now, by the name that clients ask for."""
        return self._connections

    def watch(self, changed: Callable[[], object]) -> None:
        """Be called when L{connections} has changed."""
        self._changed.append(changed)

    def adopt(self, pool_size: int) -> None:
        """Give each of them so many server connections from now on, those too that are served."""
        if pool_size == self._pool_size:
            return
        self._pool_size = pool_size
        self._connections = {
            name: _sized(connection, pool_size) for name, connection in self._connections.items()
        }
        self._tell()

    def load(self) -> Deferred[None]:
        """
        Learn what the store knows, and follow it from now on.

        Fails with a L{StoreError<proxyd.records.StoreError>}.
        """
        self._store.watch(self._follow)
        return Deferred.fromCoroutine(self._load())

    def register(self, name: str, dsn: str, password: str | None) -> Deferred[RegisteredDatabase]:
        """
        Register a database.

        @param name: what its owner calls it; unique
        @param dsn: a connection string that names user and database
        @param password: where the DSN has none
        @return: fails with C{Invalid} (its text says what is wrong), C{Conflict}
            (the name is taken) or C{StoreLost}
        """
        return Deferred.fromCoroutine(self._register(name, dsn, password))

    def listed(self) -> Deferred[list[RegisteredDatabase]]:
        """All of them, by id; fails with C{StoreLost}."""
        return self._store.databases().addCallback(lambda all: [_shown(one) for one in all])

    def remove(self, database_id: int) -> Deferred[None]:
        """
        Forget a database: its tokens die, its sessions end, its pool closes.

        Fails with C{Unknown} or C{StoreLost}.
        """
        return self._store.remove_database(database_id)

    async def _register(self, name: str, dsn: str, password: str | None) -> RegisteredDatabase:
        if not 0 < len(name) <= LONGEST_NAME or not name.isprintable():
            raise Invalid(f"name: 1 to {LONGEST_NAME} printable characters")
        parsed = checked_dsn(dsn, self._denies)
        if password and parsed.password is not None:
            raise Invalid("password: the dsn has one, too: leave one of them out")
        secret = password or parsed.password or ""
        if len(secret) > LONGEST_PASSWORD or "\0" in secret:
            raise Invalid("password: at most 64 KiB, and no NUL")
        text = written(parsed)
        data = secret.encode("utf-8", "surrogateescape")
        sealed = self._seal.close(data, text) if data else b""
        now = int(self._clock.seconds())
        return _shown(await self._store.add_database(name, text, sealed, now))

    async def _load(self) -> None:
        found = await self._store.databases()
        self._connections = {
            connection.name: connection
            for connection in map(self._connection_of, found)
            if connection is not None
        }
        self._tell()

    def _follow(self, change: Change) -> Deferred[None] | None:
        if change.kind is Kind.ALL:
            return Deferred.fromCoroutine(self._load())
        if change.kind is not Kind.DATABASE:
            return None
        assert isinstance(change.key, int)
        self._connections.pop(client_name(change.key), None)
        if isinstance(change.record, DatabaseRecord):
            connection = self._connection_of(change.record)
            if connection is not None:
                self._connections[connection.name] = connection
        self._tell()
        return None

    def _tell(self) -> None:
        for changed in self._changed:
            changed()

    def _connection_of(self, record: DatabaseRecord) -> Connection | None:
        """A connection with the settings of all registered ones; None: it can't be used."""
        try:
            parsed = parse_dsn(record.dsn, {})
            password = self._seal.open(record.sealed, record.dsn) if record.sealed else None
        except (BadValue, Unsealed) as error:
            _log.error(
                "database {id} ({name}) is not served: {reason}",
                id=record.database_id,
                name=record.name,
                reason=str(error),
            )
            return None
        text = None if password is None else password.decode("utf-8", "surrogateescape")
        usual = Connection("", Dsn(()))
        connection = Connection(
            client_name(record.database_id),
            parsed.dsn,
            password=None if text is None else Secret(text, literal=True),
            auth=("token",),
            connect_timeout=parsed.connect_timeout or usual.connect_timeout,
        )
        return _sized(connection, self._pool_size)


def _sized(connection: Connection, pool_size: int) -> Connection:
    """The same, with a pool of this size."""
    return replace(
        connection,
        max_open_connections=pool_size,
        max_idle_connections=pool_size,
        min_idle_connections=min(_MOST_IDLE, pool_size),
    )


def checked_dsn(text: str, denies: Denies) -> ParsedDsn:
    """
    A DSN from outside.

    @raise Invalid: it can't be read, or says what it may not
    """
    if len(text) > LONGEST_DSN:
        raise Invalid(f"dsn: at most {LONGEST_DSN} characters")
    try:
        parsed = parse_dsn(text, {})
    except BadValue as error:
        raise Invalid(f"dsn: {error}") from None
    dsn = parsed.dsn
    for name, value in dsn.parameters.items():
        if name not in ALLOWED or (name == "sslrootcert" and value != "system"):
            raise Invalid(f"dsn: {name} is for DSNs of the configuration file only")
    if not dsn.user or not dsn.database:
        raise Invalid("dsn: must name user and database: postgresql://USER@HOST:PORT/DATABASE")
    for host in dsn.hosts:
        if host.is_unix:
            raise Invalid("dsn: a UNIX socket is for DSNs of the configuration file only")
        if host.address:
            raise Invalid("dsn: hostaddr is for DSNs of the configuration file only")
        reason = denies(host)
        if reason is not None:
            raise Invalid(f"dsn: {host} is not dialled: {reason}")
    return parsed


def written(parsed: ParsedDsn) -> str:
    """A DSN as a URI, without its password."""
    dsn = parsed.dsn
    words = {"sslmode": dsn.sslmode, **dict(sorted(dsn.parameters.items()))}
    if parsed.connect_timeout is not None:
        words["connect_timeout"] = f"{parsed.connect_timeout:g}"
    user, database = quote(dsn.user or "", safe=""), quote(dsn.database or "", safe="")
    # The zone of an IPv6 address begins with a %.
    hosts = ",".join(str(host).replace("%", "%25") for host in dsn.hosts)
    return f"postgresql://{user}@{hosts}/{database}?{urlencode(words, quote_via=quote)}"


def _shown(record: DatabaseRecord) -> RegisteredDatabase:
    return RegisteredDatabase(record.database_id, record.name, record.dsn, record.created_at)
