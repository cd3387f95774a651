"""
The hosts of a DSN: in which order they are tried, and which of them is meant.

A host that failed lately is tried last, so that one that is down costs its
C{connect_timeout} once in a while, not at each login. Nothing is asked of a
host behind anybody's back: it is back in its place when its time is over, or
when a login there has succeeded.

Source: PostgreSQL documentation, "Database Connection Control Functions",
C{target_session_attrs}, C{load_balance_hosts}; libpq's C{PQconnectPoll}, states
C{CONNECTION_CHECK_TARGET} and C{CONNECTION_CHECK_WRITABLE}.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from twisted.internet.interfaces import IReactorTime

from proxyd.target import Target

_UNSUITED = {
    "read-write": "is read-only",
    "read-only": "is not read-only",
    "primary": "is a standby",
    "standby": "is no standby",
}

IS_STANDBY = "SELECT pg_catalog.pg_is_in_recovery()"
IS_READ_ONLY = "SHOW transaction_read_only"


class Hosts:
    """
    The hosts of one DSN.

    @ivar wanted: what one of them must be, the most wanted first: one pass
        over all hosts for each
    """

    def __init__(
        self,
        hosts: Sequence[Target],
        attributes: str,
        clock: IReactorTime,
        avoided: float,
        shuffle: Callable[[list[Target]], None] | None,
    ) -> None:
        """
        @param attributes: C{target_session_attrs}
        @param avoided: seconds for which a host that failed is tried last
        @param shuffle: brings them into another order each time; None: they
            are tried in their own
        """
        self._hosts = list(hosts)
        self._clock = clock
        self._avoided = avoided
        self._shuffle = shuffle
        self._until: dict[Target, float] = {}
        self.wanted = ("standby", "any") if attributes == "prefer-standby" else (attributes,)

    def __len__(self) -> int:
        return len(self._hosts)

    def order(self) -> list[Target]:
        """The hosts as they are to be tried now; each is in it."""
        hosts = list(self._hosts)
        if self._shuffle is not None:
            self._shuffle(hosts)
        now = self._clock.seconds()
        return sorted(hosts, key=lambda host: self._until.get(host, 0.0) > now)

    def failed(self, host: Target) -> None:
        """A host could not be reached, or is not what is wanted: try it last for a while."""
        self._until[host] = self._clock.seconds() + self._avoided

    def succeeded(self, host: Target) -> None:
        """A login at a host has succeeded."""
        self._until.pop(host, None)


def unsuited(wanted: str, parameters: Mapping[str, str]) -> str | None:
    """
    Why a server is not what is wanted, by what it told of itself.

    @return: empty when it is; None: it does not tell (PostgreSQL 13 and
        older), and must be asked by L{question}
    """
    if wanted == "any":
        return ""
    recovering = parameters.get("in_hot_standby")
    if recovering is None:
        return None
    if wanted in ("read-write", "read-only"):
        read_only = parameters.get("default_transaction_read_only")
        if read_only is None:
            return None
        return judged(wanted, "on" if "on" in (recovering, read_only) else "off")
    return judged(wanted, recovering)


def question(wanted: str) -> str:
    """What an older server is asked."""
    return IS_READ_ONLY if wanted in ("read-write", "read-only") else IS_STANDBY


def judged(wanted: str, answer: str) -> str:
    """
    Why a server that answered this is not what is wanted; empty when it is.

    @param answer: to L{question}: C{on} or C{off}, C{t} or C{f}
    """
    yes = answer in ("on", "t")
    return "" if yes is (wanted in ("read-only", "standby")) else _UNSUITED[wanted]
