"""PostgreSQL clients in the registry of live sessions, and what is counted of all of them."""

from __future__ import annotations

from collections.abc import Iterator

from proxyd.figures import Figure
from proxyd.net.sessions import Session
from proxyd.postgres.client_session import ClientSession
from proxyd.postgres.listener import PostgresListener
from proxyd.postgres.pools import Pools

_COUNTERS = {
    "acquire_count": ("pool_acquires", "Server connections asked for"),
    "acquire_waited": ("pool_acquires_waited", "of which these had to be waited for"),
    "acquire_timeouts": ("pool_acquire_timeouts", "and these in vain"),
    "opened": ("pool_opened", "Server connections opened"),
    "open_failures": ("pool_open_failures", "Server connections that could not be opened"),
    "reset_failures": ("pool_reset_failures", "Closed, as they could not be reset"),
    "lost": ("pool_lost", "Died while nobody used them"),
    "max_lifetime_closed": ("pool_max_lifetime_closed", "Closed, as their lifetime was over"),
    "max_idle_time_closed": ("pool_max_idle_time_closed", "Closed, as they were idle too long"),
    "max_idle_closed": ("pool_max_idle_closed", "Closed, as there were idle ones enough"),
}
"""How each counter of a pool is called, and what it counts."""


class PostgresSessions:
    """The sessions of a listener, as the registry wants to see them."""

    kind = "postgres"

    def __init__(self, listener: PostgresListener) -> None:
        self._listener = listener

    def count(self) -> int:
        """How many clients are logged in."""
        return self._listener.session_count

    def live(self) -> Iterator[Session]:
        """Each of them, as it is now."""
        return map(_shown, self._listener.sessions)


def _shown(session: ClientSession) -> Session:
    term = session.term
    return Session(
        number=session.number,
        kind=PostgresSessions.kind,
        principal=session.principal,
        target=session.database,
        state=session.state.name.lower(),
        token_id=None if term is None else term.grant.token_id,
        received=session.end.received,
        sent=session.end.sent,
        began=session.began,
        kill=session.revoke,
    )


def listener_figures(listener: PostgresListener) -> Iterator[Figure]:
    """What a listener counts."""
    sessions = list(listener.sessions)
    received = listener.received + sum(session.end.received for session in sessions)
    sent = listener.sent + sum(session.end.sent for session in sessions)
    about = "Logins that were refused"
    yield Figure("postgres_logins_refused", about, listener.refusals, only_grows=True)
    about = "Connections that were closed, as too many said nothing"
    yield Figure("postgres_connections_shed", about, listener.shed, only_grows=True)
    about = "Cancel requests with a wrong key"
    yield Figure("postgres_cancel_keys_wrong", about, listener.guesses.wrong, only_grows=True)
    about = "Cancel requests that nobody looked at, as too many wrong ones came from there"
    yield Figure("postgres_cancels_dropped", about, listener.guesses.dropped, only_grows=True)
    about = "Bytes between clients and proxyd"
    for direction, count in (("received", received), ("sent", sent)):
        labels = {"direction": direction}
        yield Figure("postgres_client_bytes", about, count, labels, only_grows=True)


def pool_figures(pools: Pools) -> Iterator[Figure]:
    """What pools hold and have counted, by connection: databases are not told apart."""
    held: dict[tuple[str, str], int] = {}
    for pool in pools:
        opening = pool.total - pool.idle - pool.in_use
        states = {"idle": pool.idle, "in_use": pool.in_use, "opening": opening}
        for state, count in states.items():
            key = (pool.settings.name, state)
            held[key] = held.get(key, 0) + count
    about = "Server connections"
    for (name, state), count in held.items():
        yield Figure("pool_connections", about, count, {"connection": name, "state": state})
    for word, about in (
        ("waiting", "Clients that wait for a server connection"),
        ("clients", "Clients that are logged in"),
    ):
        found: dict[str, int] = {}
        for pool in pools:
            found[pool.settings.name] = found.get(pool.settings.name, 0) + getattr(pool, word)
        for name, count in found.items():
            yield Figure(f"pool_{word}", about, count, {"connection": name})
    yield from _age_figures(pools)
    totals = pools.totals()
    for word, (called, about) in _COUNTERS.items():
        for name, counters in totals.items():
            value = getattr(counters, word)
            yield Figure(called, about, value, {"connection": name}, only_grows=True)


def _age_figures(pools: Pools) -> Iterator[Figure]:
    """How old the connections and the tokens they came by are, by connection."""
    for word, called, about, over in (
        ("oldest", "pool_oldest_connection_seconds", "Age of the oldest connection", max),
        ("leased_over_lifetime", "pool_leased_over_lifetime", "In use beyond their lifetime", sum),
        ("token_age", "pool_token_age_seconds", "Age of the last token when it was used", max),
    ):
        found: dict[str, list[float]] = {}
        for pool in pools:
            found.setdefault(pool.settings.name, []).append(getattr(pool, word))
        for name, values in found.items():
            yield Figure(called, about, float(over(values)), {"connection": name})
    about = "Tokens (or kept passwords) had for logins"
    made = {pool.settings.name: pool.tokens_made for pool in pools}
    for name, count in made.items():
        yield Figure("pool_tokens_made", about, count, {"connection": name}, only_grows=True)
