"""A whole proxyd and whole agents, for the tests of this folder that have them."""

from __future__ import annotations

import hashlib
import http.client
import json
import random
import socket
import threading
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

from tests.support.agent import AgentProcess, Place
from tests.support.blackbox import BlackBoxTestCase, configuration, open_service
from tests.support.daemon import Daemon
from tests.support.database import DATABASE
from tests.support.deadlines import wait_until
from tests.support.sshd import own_port

SECONDS = 30.0


class AgentsTestCase(BlackBoxTestCase):
    """
    A proxyd that takes agents, and what is done with them by its API.

    @ivar door: the port that agents come to
    @ivar api: that of the API
    """

    deadline = 240.0

    def begin(self, agents: dict[str, Any] | None = None, **sections: Any) -> Daemon:
        """Start it."""
        self.door, self.api = own_port(), own_port()
        section = {"listen": [f"127.0.0.1:{self.door}"], **(agents or {})}
        connections = sections.pop("connections", None)
        if connections is None:
            connections = {DATABASE: open_service(self.database, min_idle_connections=0)}
        self.daemon = self.start_daemon(
            configuration(
                connections,
                agents=section,
                api={"listen": [f"127.0.0.1:{self.api}"]},
                drain_timeout="1s",
                **sections,
            )
        )
        return self.daemon

    @property
    def admin_token(self) -> str:
        """The token of the API."""
        (file,) = self.daemon.folder.rglob("admin.token")
        return file.read_text().strip()

    def call(self, method: str, path: str, body: object = None, status: int = 200) -> Any:
        """A call of the API, which has to end so."""
        headers = {"Authorization": f"Bearer {self.admin_token}"}
        connection = http.client.HTTPConnection("127.0.0.1", self.api, timeout=SECONDS)
        try:
            data = None if body is None else json.dumps(body)
            connection.request(method, path, data, headers)
            answer = connection.getresponse()
            value = json.loads(answer.read())
        finally:
            connection.close()
        self.assertEqual(answer.status, status, value)
        return value

    def new_agent(self, client_id: str) -> tuple[str, str]:
        """A new agent's token, and the pin."""
        made = self.call("POST", "/api/agents", {"client_id": client_id}, 201)
        return made["token"], made["pin"]

    def agent(
        self,
        client_id: str = "pc1",
        *options: str,
        token: str = "",
        url: str = "",
        here: bool = True,
    ) -> AgentProcess:
        """A running agent; waits until it is here."""
        agent = AgentProcess(
            url or f"ws://127.0.0.1:{self.door}/agent",
            token or self.new_agent(client_id)[0],
            *("--id", client_id, "--allow", "127.0.0.1:*", *options),
        )
        self.addCleanup(agent.remove)
        self.addCleanup(agent.stop)
        agent.start()
        if here:
            self.wait_here(client_id, agent)
        return agent

    def wait_here(self, client_id: str, agent: AgentProcess | None = None) -> None:
        """Wait until an agent is here."""

        def is_here() -> bool:
            if agent is not None:
                agent.check()
            return self.since(client_id) is not None

        wait_until(is_here, SECONDS, f"agent {client_id} to be here")

    def since(self, client_id: str) -> str | None:
        """Since when it is here."""
        for one in self.call("GET", "/api/agents")["agents"]:
            if one["client_id"] == client_id:
                since: str | None = one["connected_since"]
                return since
        return None

    def place(self, serve: Callable[[socket.socket], None]) -> int:
        """A server behind the agents; gives its port."""
        place = Place(serve)
        self.addCleanup(place.close)
        return place.port

    def reverse(self, remote: int, client_id: object = "pc1", **more: Any) -> int:
        """A reverse port that leads to a port of loopback."""
        local = own_port()
        wanted = {"remote_host": "127.0.0.1", "remote_port": remote, "local_port": local}
        self.call("POST", "/api/proxy/create", {"client_id": client_id, **wanted, **more}, 201)
        return local

    def proxy(self, local: int) -> dict[str, Any]:
        """What the API says of a port."""
        for one in self.call("GET", "/api/proxy/list")["proxies"]:
            if one["local_port"] == local:
                found: dict[str, Any] = self.call("GET", f"/api/proxy/{quote(one['proxy_id'])}")
                return found
        self.fail(f"no port {local}")

    def wait_left(self, local: int) -> None:
        """Wait until a port has no user."""
        wait_until(lambda: not self.proxy(local)["users"], SECONDS, "the user to be gone")

    def user(self, port: int) -> socket.socket:
        """Somebody who comes to a port."""
        user = socket.create_connection(("127.0.0.1", port), SECONDS)
        self.addCleanup(user.close)
        return user

    def says_back(self, port: int, word: bytes = b"hello") -> None:
        """The echo behind a port answers."""
        user = self.user(port)
        user.sendall(word)
        self.assertEqual(read(user, len(word)), word)
        user.close()


def read(user: socket.socket, count: int) -> bytes:
    """So many bytes, or what came before the end."""
    data = bytearray()
    while len(data) < count and (more := user.recv(min(65536, count - len(data)))):
        data += more
    return bytes(data)


def there_and_back(user: socket.socket, count: int, seed: int) -> tuple[str, str]:
    """Send noise to an echo, end, and read to the end; the hashes of both ways."""
    noise = random.Random(seed).randbytes(count)
    sender = threading.Thread(target=_send, args=(user, noise))
    sender.start()
    came = hashlib.sha256()
    while data := user.recv(65536):
        came.update(data)
    sender.join()
    return hashlib.sha256(noise).hexdigest(), came.hexdigest()


def _send(user: socket.socket, noise: bytes) -> None:
    user.sendall(noise)
    user.shutdown(socket.SHUT_WR)
