"""What remembers over a restart, as whoever needs it sees it."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred
from zope.interface import Attribute, Interface

from proxyd.records import (
    AgentRecord,
    Change,
    DatabaseId,
    DatabaseRecord,
    NodeRecord,
    ProxyRecord,
    TokenRecord,
)


class IStore(Interface):
    """
    What proxyd remembers over a restart, shared by nodes where it is PostgreSQL.

    Every method answers with a Deferred, in the order of the calls, and fails
    with a L{StoreError<proxyd.records.StoreError>} only: C{StoreLost} when the
    store did not answer in time, or is closed. What was answered is on disk.
    Cancelling gives up the wait, not the work.
    """

    shared: bool = Attribute("Whether other nodes may use the same store.")

    def open() -> Deferred[None]:
        """
        Open it, and bring its schema up to date.

        Fails with L{StartError<proxyd.errors.StartError>}, one clear line, when it
        is corrupt, newer than this program or out of reach; it is left as it is.
        """

    def close() -> Deferred[None]:
        """Finish what was asked for, and close it; never fails."""

    def silent_for() -> float:
        """Seconds since this node last knew that it had heard of every change."""

    def watch(told: Callable[[Change], object]) -> None:  # noqa: N805
        """
        Hear of every change from now on, of this node's own too.

        A change is told before the call that made it is answered. Whoever reads all
        again because of C{Kind.ALL} gives a Deferred for it: where that fails, a shared
        store says so again, and counts as silent meanwhile.
        """

    def databases() -> Deferred[list[DatabaseRecord]]:
        """All registered databases, by id."""

    def add_database(
        name: str,  # noqa: N805
        dsn: str,
        sealed: bytes,
        now: int,
    ) -> Deferred[DatabaseRecord]:
        """Register a database. Fails with C{Conflict} when the name is taken."""

    def remove_database(database_id: int) -> Deferred[None]:  # noqa: N805
        """Forget a database and all its tokens. Fails with C{Unknown}."""

    def tokens(database_id: DatabaseId | None = None) -> Deferred[list[TokenRecord]]:  # noqa: N805
        """All tokens, or those of one database, in the order they came."""

    def token(issuer: str, token_id: str) -> Deferred[TokenRecord | None]:  # noqa: N805
        """One token; None: it is not known."""

    def add_token(record: TokenRecord) -> Deferred[None]:  # noqa: N805
        """
        Remember a token.

        Fails with C{Conflict} when the id (of this issuer) or the digest is
        known, and with C{Unknown} when its registered database is not.
        """

    def revoke_token(issuer: str, token_id: str, now: int) -> Deferred[TokenRecord]:  # noqa: N805
        """Revoke a token for ever; twice is once. Fails with C{Unknown}."""

    def remove_expired(now: int) -> Deferred[int]:  # noqa: N805
        """Forget the tokens that expired up to C{now}, and say how many."""

    def agents() -> Deferred[list[AgentRecord]]:
        """All agents, by id."""

    def put_agent(record: AgentRecord) -> Deferred[None]:  # noqa: N805
        """Remember an agent; one of the same id is replaced, and its token with it."""

    def remove_agent(client_id: str) -> Deferred[None]:  # noqa: N805
        """Forget an agent. Fails with C{Unknown}."""

    def proxies() -> Deferred[list[ProxyRecord]]:
        """All reverse ports, in the order they came."""

    def add_proxy(record: ProxyRecord) -> Deferred[None]:  # noqa: N805
        """Remember a reverse port. Fails with C{Conflict}."""

    def remove_proxy(proxy_id: str) -> Deferred[None]:  # noqa: N805
        """Forget a reverse port. Fails with C{Unknown}."""

    def join(name: str, address: str) -> Deferred[NodeRecord]:  # noqa: N805
        """
        Say that this node lives; its number stays the same as long as it says so.

        @param name: unique to this process
        @param address: where its PostgreSQL listener is reached
        """

    def leave(name: str) -> Deferred[None]:  # noqa: N805
        """Say that this node is gone."""

    def nodes() -> Deferred[list[NodeRecord]]:
        """The nodes that live, by number."""
