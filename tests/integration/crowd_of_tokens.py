"""
Live sessions that came by tokens, in each of the five states that a session can be in.

And how long it takes, from the moment that a revocation is asked for, until the
last of them is over.
"""

from __future__ import annotations

import json
import select
import socket
import threading
import time
import urllib.request
from collections.abc import Callable, Sequence
from typing import Any

from tests.support import pgbytes
from tests.support.database import DATABASE, Database
from tests.support.wireclient import WireClient

ADMIN = "the-admin-token-of-these-tests"
STATES = ("idle", "queued", "query", "copy", "stuck")
HOLDING = ("query", "copy", "stuck")
"""States in which each session has a server connection of its own."""

ROWS = "SELECT repeat('x', 100000) FROM generate_series(1, 100000)"


def connections(database: Database, size: int) -> dict[str, dict[str, object]]:
    """
    A connection for each state; of queued sessions only the first has a server.

    @param size: how many server connections each of the others may have
    """
    found: dict[str, dict[str, object]] = {}
    for state in STATES:
        found[state] = {
            "dsn": database.dsn(database=DATABASE, sslmode="disable"),
            "password": database.passwords["svc"],
            "auth": "token",
            "max_open_connections": 1 if state == "queued" else size,
            "min_idle_connections": 0,
            "acquire_timeout": "10m",
        }
    return found


class Api:
    """A proxyd's API."""

    def __init__(self, port: int) -> None:
        self.port = port

    def call(self, method: str, path: str, body: object = None) -> Any:
        """One call; its answer."""
        data = None if body is None else json.dumps(body).encode()
        url = f"http://127.0.0.1:{self.port}{path}"
        request = urllib.request.Request(url, data, method=method)
        request.add_header("Authorization", f"Bearer {ADMIN}")
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)

    def issue(self, connection: str) -> tuple[str, str]:
        """A token and its id."""
        made = self.call("POST", "/api/tokens", {"database_id": connection})
        return made["token"], made["token_id"]

    def revoke(self, token_id: str) -> None:
        """Revoke a token."""
        self.call("DELETE", f"/api/tokens/{token_id}")


class Crowd:
    """
    Sessions in all states.

    @param port: where they connect
    @param api: of one of the nodes
    @param sockets: how many connections of clients all nodes hold
    """

    def __init__(self, port: int, api: Api, database: Database, sockets: Callable[[], int]) -> None:
        self._port = port
        self._api = api
        self._database = database
        self._sockets = sockets
        self._clients: dict[str, list[WireClient]] = {}
        self._ids: dict[str, str] = {}
        self._holder: WireClient | None = None

    def gather(self, numbers: dict[str, int]) -> None:
        """Let so many come in each state, and wait until all are in it."""
        held, _ = self._api.issue("queued")
        self._holder = self._log_in("queued", held)
        self._holder.query("BEGIN")
        for state in STATES:
            token, self._ids[state] = self._api.issue(state)
            self._clients[state] = [self._log_in(state, token) for _ in range(numbers[state])]
        for state, said in (
            ("queued", "SELECT 1"),
            ("query", "SELECT pg_sleep(600)"),
            ("copy", "COPY sink FROM STDIN"),
            ("stuck", ROWS),
        ):
            for client in self._clients[state]:
                client.send(pgbytes.query(said))
        for client in self._clients["copy"]:
            client.read_until("G")
            client.send(pgbytes.message("d", b"1\tone\n"))
        wait = self._database.wait_activity
        wait("query LIKE 'SELECT pg_sleep%' AND state = 'active'", 60, count=numbers["query"])
        wait("wait_event = 'ClientWrite'", 60, count=numbers["stuck"])

    def revoke(self, state: str) -> list[float]:
        """Revoke the token of a state; for each session the seconds until it was over."""
        clients = self._clients.pop(state)
        revoking = threading.Thread(target=self._api.revoke, args=(self._ids[state],))
        began = time.monotonic()
        revoking.start()
        # A client that does not read notices nothing, least of all behind a balancer.
        ends = self._closed(len(clients)) if state == "stuck" else _ends(clients)
        revoking.join()
        for client in clients:
            client.close()
        return [end - began for end in ends]

    def _closed(self, count: int) -> list[float]:
        """When each of so many connections, the last but the holder's, was held by no node."""
        ends: list[float] = []
        deadline = time.monotonic() + 60
        while len(ends) < count:
            left = self._sockets() - 1
            ends += [time.monotonic()] * (count - left - len(ends))
            if time.monotonic() > deadline:
                raise AssertionError(f"{left} connections were not closed")
        return ends

    def leave(self) -> None:
        """Everybody goes."""
        for clients in self._clients.values():
            for client in clients:
                client.close()
        if self._holder is not None:
            self._holder.close()

    def _log_in(self, database: str, token: str) -> WireClient:
        client = WireClient("127.0.0.1", self._port, seconds=60)
        client.login("token", database, token)
        return client


def _ends(clients: Sequence[WireClient]) -> list[float]:
    """When each of them was over, as they see it."""
    epoll = select.epoll()
    left: dict[int, socket.socket] = {}
    for client in clients:
        sock = client.socket
        sock.setblocking(False)
        left[sock.fileno()] = sock
        epoll.register(sock, select.EPOLLIN)
    ends: list[float] = []
    deadline = time.monotonic() + 60
    while left:
        if time.monotonic() > deadline:
            raise AssertionError(f"{len(left)} sessions did not end")
        for number, _ in epoll.poll(0.5):
            if _over(left[number]):
                ends.append(time.monotonic())
                epoll.unregister(number)
                del left[number]
    epoll.close()
    return ends


def _over(sock: socket.socket) -> bool:
    try:
        return not sock.recv(65536)
    except BlockingIOError:
        return False
    except ConnectionError:
        return True


def told(name: str, latencies: Sequence[float]) -> str:
    """p50, p99 and the longest, in a line."""
    ordered = sorted(latencies)

    def at(part: float) -> float:
        return ordered[min(int(len(ordered) * part), len(ordered) - 1)]

    return (
        f"revocation, {name}: {len(ordered)} sessions, p50 {at(0.5) * 1000:.0f} ms, "
        f"p99 {at(0.99) * 1000:.0f} ms, max {ordered[-1] * 1000:.0f} ms"
    )
