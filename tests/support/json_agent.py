"""
An agent that speaks JSON, written from the contract alone: nothing of proxyd is in it.

C{python json_agent.py URL} with the token in C{TOKEN}. It says C{proxy_connected}, and by
C{proxy_window} how much it still takes of each user.
"""

from __future__ import annotations

import base64
import json
import os
import sys
from typing import Any

from autobahn.twisted.websocket import (
    WebSocketClientFactory,
    WebSocketClientProtocol,
    connectWS,
)
from twisted.internet import reactor as _reactor
from twisted.internet.error import ConnectionDone, ConnectionLost, ConnectionRefusedError
from twisted.internet.protocol import ClientFactory, Protocol

reactor: Any = _reactor
WINDOW = 256 * 1024
REASONS = {ConnectionRefusedError: "ECONNREFUSED", ConnectionLost: "ECONNRESET"}


class Remote(Protocol):
    """One user's connection to the target."""

    def __init__(self, agent: Any, ids: dict[str, Any]) -> None:
        self.agent = agent
        self.ids = ids
        self.early: list[bytes] = []
        self.left = WINDOW
        self.closing = False

    def connectionMade(self) -> None:
        """The dial is done: what came meanwhile goes first."""
        transport: Any = self.transport
        transport.setTcpNoDelay(True)
        self.agent.say("proxy_connected", self.ids)
        for data in self.early:
            transport.write(data)
        if self.closing:
            transport.loseConnection()

    def dataReceived(self, data: bytes) -> None:
        """The target has sent something."""
        self.agent.say("proxy_data", self.ids, data=base64.b64encode(data).decode())

    def take(self, data: bytes) -> None:
        """The user has sent something."""
        self.left -= len(data)
        if self.connected:
            self.transport.write(data)  # type: ignore[union-attr]
        else:
            self.early.append(data)
        if self.left < WINDOW // 2:
            self.left = WINDOW
            self.agent.say("proxy_window", self.ids, bytes=WINDOW)

    def close(self) -> None:
        """The user is gone."""
        self.closing = True
        if self.connected:
            self.transport.loseConnection()  # type: ignore[union-attr]

    def connectionLost(self, reason: Any = ConnectionDone) -> None:
        """The target is gone."""
        self.agent.gone(self, REASONS.get(reason.type))


class Dial(ClientFactory):  # type: ignore[misc,unused-ignore]
    """One dial."""

    noisy = False

    def __init__(self, remote: Remote) -> None:
        self.remote = remote

    def buildProtocol(self, addr: object) -> Remote:
        """It is there."""
        return self.remote

    def clientConnectionFailed(self, connector: object, reason: Any) -> None:
        """It is not."""
        self.remote.agent.gone(self.remote, REASONS.get(reason.type, "ETIMEDOUT"))


class Agent(WebSocketClientProtocol):  # type: ignore[misc]
    """The WebSocket."""

    def onOpen(self) -> None:
        """It is open."""
        self.remotes: dict[tuple[str, str], Remote] = {}

    def say(self, kind: str, ids: dict[str, Any], **more: Any) -> None:
        """Send JSON."""
        self.sendMessage(json.dumps({"type": kind, **ids, **more}).encode())

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        """The server wants something; types that are not known are ignored."""
        message = json.loads(payload)
        ids = {key: message.get(key) for key in ("proxy_id", "user_id")}
        key = (str(ids["proxy_id"]), str(ids["user_id"]))
        remote = self.remotes.get(key)
        if message["type"] == "proxy_connect":
            remote = self.remotes[key] = Remote(self, ids)
            host, port = message["remote_host"], message["remote_port"]
            reactor.connectTCP(host, port, Dial(remote), timeout=10)
            self.say("proxy_window", ids, bytes=WINDOW)
        elif message["type"] == "proxy_data" and remote is not None:
            remote.take(base64.b64decode(message["data"]))
        elif message["type"] == "proxy_disconnect" and remote is not None:
            del self.remotes[key]
            remote.close()

    def gone(self, remote: Remote, reason: str | None) -> None:
        """A target is gone, or was not reached."""
        key = (str(remote.ids["proxy_id"]), str(remote.ids["user_id"]))
        if self.remotes.pop(key, None) is not None:
            self.say("proxy_disconnect", remote.ids, **({"reason": reason} if reason else {}))

    def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:
        """The server is gone: so are we."""
        if reactor.running:
            reactor.stop()


def main() -> None:
    """Serve until the server is gone."""
    factory: Any = WebSocketClientFactory(  # type: ignore[no-untyped-call]
        sys.argv[1], headers={"Authorization": f"Bearer {os.environ['TOKEN']}"}
    )
    factory.protocol = Agent
    connectWS(factory)
    reactor.run()


if __name__ == "__main__":
    main()
