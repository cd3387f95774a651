"""
What a pool holds, and the numbers that can be read off it.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from twisted.internet.interfaces import IReactorTime

from proxyd.config.model import Connection
from proxyd.postgres.answers import Fatal, pool_full
from proxyd.postgres.counters import Counters
from proxyd.postgres.queue import Queue
from proxyd.postgres.server import Account, Server
from proxyd.postgres.server_connection import ServerConnection


class PoolGauges:
    """
    What a pool holds, and what can be read off it.

    @ivar database: the database they are at
    @ivar counters: what was done so far
    @ivar learnt: the value that the server tells for a setting it was given,
        by C{(name, value given)}
    @ivar greetings: what clients are greeted with, by their settings, as long
        as neither of the two changes
    @ivar clients: how many clients are logged in on this pool
    @ivar token_age: seconds that the last token had when it was used
    """

    def __init__(
        self,
        server: Server,
        account: Account,
        database: str,
        clock: IReactorTime,
        keep_warm: bool,
    ) -> None:
        """
        @param account: the service user
        @param keep_warm: hold the minimum also when no client is there
        """
        self.server = server
        self.settings: Connection = server.connection
        self.database = database
        self.counters = Counters()
        self._parameters: dict[str, str] = {}
        self.learnt: dict[tuple[str, str], str] = {}
        self.greetings: dict[object, Any] = {}
        self.clients = 0
        self.last_error = ""
        self.token_age = 0.0
        self.keep_warm = keep_warm
        self._account = account
        self._clock = clock
        self._idle: deque[ServerConnection] = deque()
        self._in_use: set[ServerConnection] = set()
        self._opening = 0
        self._queue = Queue(clock, self.settings.acquire_timeout, self._waited_too_long)
        self._last_used = clock.seconds()
        self._closed = False
        self._fault: Fatal | None = None

    # What is known of it

    @property
    def parameters(self) -> dict[str, str]:
        """What a server told of itself last; empty as long as there was none."""
        return self._parameters

    @parameters.setter
    def parameters(self, parameters: dict[str, str]) -> None:
        self._parameters = parameters
        self.greetings.clear()

    @property
    def name(self) -> str:
        """What the log calls it."""
        return f"{self.settings.name}/{self.database}/{self._account.user}"

    @property
    def total(self) -> int:
        """Connections that are there or being opened."""
        return len(self._idle) + len(self._in_use) + self._opening

    @property
    def idle(self) -> int:
        """Connections that nobody uses."""
        return len(self._idle)

    @property
    def in_use(self) -> int:
        """Connections on a lease, in a reset or in a health check."""
        return len(self._in_use)

    @property
    def oldest(self) -> float:
        """Seconds since the oldest connection was logged in; 0 where there is none."""
        born = [server.created for server in (*self._idle, *self._in_use)]
        return max(0.0, self._clock.seconds() - min(born)) if born else 0.0

    @property
    def leased_over_lifetime(self) -> int:
        """Connections that are in use though their lifetime is over: never cut for their age."""
        now = self._clock.seconds()
        return sum(now >= server.expires for server in self._in_use)

    @property
    def tokens_made(self) -> int:
        """How many tokens were made for logins; 0 where there is a password."""
        return 0 if self._account.source is None else self._account.source.made

    @property
    def waiting(self) -> int:
        """Clients that wait for a connection."""
        return len(self._queue)

    @property
    def user(self) -> str:
        """The service user."""
        return self._account.user

    def unused_for(self, now: float) -> float:
        """Seconds since somebody wanted a connection; 0 while somebody has one."""
        if self._in_use or self._queue or self.clients:
            return 0.0
        return now - self._last_used

    def _waited_too_long(self) -> Fatal:
        self.counters.acquire_timeouts += 1
        # Where the server could not be reached all that time, that is the cause.
        return self._fault or pool_full(
            self.settings.acquire_timeout, self.settings.max_open_connections
        )
