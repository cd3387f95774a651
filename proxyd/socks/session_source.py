"""SOCKS clients in the registry of live sessions, and what is counted of all of them."""

from __future__ import annotations

from collections.abc import Iterator

from proxyd.figures import Figure
from proxyd.net.sessions import Session
from proxyd.socks.client import SocksClient
from proxyd.socks.listener import SocksListener


class SocksSessions:
    """The sessions of a listener, as the registry wants to see them."""

    kind = "socks5"

    def __init__(self, listener: SocksListener) -> None:
        self._listener = listener

    def count(self) -> int:
        """How many clients have asked for something and are here still."""
        return len(list(self._listener.sessions))

    def live(self) -> Iterator[Session]:
        """Each of them, as it is now."""
        return map(_shown, self._listener.sessions)


def _shown(client: SocksClient) -> Session:
    way = "" if client.passage is None else f" by {client.passage.way}"
    return Session(
        number=client.number,
        kind=SocksSessions.kind,
        principal=client.principal,
        target=f"{client.place}{way}",
        state=client.state,
        token_id=None,
        received=client.up,
        sent=client.down,
        began=client.began,
        kill=client.kill,
    )


def listener_figures(listener: SocksListener) -> Iterator[Figure]:
    """What a listener counts: by route, since a user's name is nobody's business there."""
    sessions = list(listener.sessions)
    yield Figure("socks_sessions", "SOCKS5 clients that are connected to a target", len(sessions))
    for name, about, value in (
        ("socks_requests", "Requests of SOCKS5 clients", listener.opened),
        ("socks_requests_failed", "of which these were refused", listener.failed),
        ("socks_turned_away", "Clients that did not get so far", listener.turned_away),
    ):
        yield Figure(name, about, value, only_grows=True)
    up = sum(client.up for client in sessions)
    down = sum(client.down for client in sessions)
    for direction, count in (("up", listener.up + up), ("down", listener.down + down)):
        labels = {"direction": direction}
        about = "Bytes between SOCKS5 clients and their targets"
        yield Figure("socks_bytes", about, count, labels, only_grows=True)
    for one in listener.allowances.all():
        if one.name.startswith("user "):
            continue
        labels = {"route": one.name}
        yield Figure("socks_route_connections", "Connections by a route", one.open, labels)
        about = "Connections made by a route"
        yield Figure("socks_route_opened", about, one.opened, labels, only_grows=True)
