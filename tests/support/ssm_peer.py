"""
AWS's Session Manager on loopback: its API, its relay, and agents of instances.

The API is real HTTP for the real botocore, the relay a real WebSocket, and
behind the agents are real TCP targets. What goes wrong on the line is said by
L{Weather}, what goes wrong at an instance by L{Manners}.
"""

from __future__ import annotations

import itertools
import json
import random
import secrets
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from socket import AF_INET
from socket import socket as Listener
from threading import Event
from typing import Any

from autobahn.twisted.websocket import WebSocketServerFactory, WebSocketServerProtocol
from autobahn.websocket.types import ConnectionDeny
from twisted.internet import reactor
from twisted.internet.interfaces import IReactorSocket, IReactorTCP, IReactorTime

from proxyd.wire.ssm import message as wire
from tests.support.fake_aws import FakeAws
from tests.support.ssm_agent import AgentSession, Manners


@dataclass
class Weather:
    """What the relay does to frames, from nought to one; C{delay} and C{late} in seconds."""

    loss: float = 0.0
    repeat: float = 0.0
    reorder: float = 0.0
    delay: float = 0.0
    late: float = 0.02


CALM = Weather()


class RelaySocket(WebSocketServerProtocol):
    """A client's WebSocket."""

    session: AgentSession | None = None

    def connectionMade(self) -> None:
        """A connection: nothing small waits for an acknowledgement."""
        self.transport.setTcpNoDelay(True)
        super().connectionMade()  # type: ignore[no-untyped-call]

    def onConnect(self, request: Any) -> None:
        """Look at how it is opened."""
        peer = self.factory.peer
        peer.upgrades.append((self.http_request_uri, dict(request.headers)))
        signed = "authorization" in request.headers
        if peer.refuse == "all" or (peer.refuse == "signed" and signed):
            raise ConnectionDeny(403, "Forbidden")  # type: ignore[no-untyped-call]

    def onOpen(self) -> None:
        """It is open."""
        self.transport.registerProducer(self, True)
        self.factory.peer.sockets.append(self)

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        """A message of the client's."""
        if isBinary:
            if self.session is not None:
                self.factory.peer.from_client(self.session, payload)
            return
        said = json.loads(payload)
        session = self.factory.peer.admitted(said["TokenValue"])
        if session is None:
            self.dropConnection(abort=True)
            return
        self.session = session
        session.client_clogged = False
        session.begin()

    def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:
        """It is gone."""
        peer = self.factory.peer
        if self in peer.sockets:
            peer.sockets.remove(self)

    def say(self, data: bytes) -> None:
        """Send a frame, if it is still open."""
        if self.state == self.STATE_OPEN:
            self.sendMessage(data, True)  # type: ignore[no-untyped-call]

    def pauseProducing(self) -> None:
        """The client does not read."""
        if self.session is not None:
            self.session.client_clogged = True

    def resumeProducing(self) -> None:
        """It does again."""
        if self.session is not None:
            self.session.client_clogged = False
            self.session.pump()

    def stopProducing(self) -> None:
        """It is gone."""


class SsmApi(FakeAws):
    """
    The API.

    @ivar errors: how the next calls fail: status, code, text
    @ivar goes_on: answers to C{StartSession} wait for it
    """

    def __init__(self, peer: SsmPeer, port: int = 0) -> None:
        self.errors: list[tuple[int, str, str]] = []
        self.goes_on = Event()
        self.goes_on.set()
        self.authorization: list[str] = []
        self._peer = peer
        super().__init__(port)

    def answer(self, path: str, headers: Mapping[str, str], body: bytes) -> tuple[int, bytes]:
        """One call."""
        target = headers.get("x-amz-target", "")
        if not target.startswith("AmazonSSM."):
            return super().answer(path, headers, body)
        action = target.rpartition(".")[2]
        self.authorization.append(headers.get("authorization", ""))
        if self.errors:
            self.asked.append(action)
            status, code, text = self.errors.pop(0)
            return status, json.dumps({"__type": code, "message": text}).encode()
        if self.trouble:
            return super().answer(path, headers, body)
        self.asked.append(action)
        if action == "StartSession":
            self.goes_on.wait(60)
        status, said = self._peer.called(action, json.loads(body))
        return status, json.dumps(said).encode()


class SsmPeer:
    """
    All of it, stopped by L{stop}.

    @ivar url: the API's C{endpoint_url}
    @ivar instances: the instances there are, by id
    @ivar sessions: all sessions that were started, by id
    @ivar sockets: the WebSockets that are open
    @ivar upgrades: how they were opened: path with query, and headers
    @ivar refuse: who gets 403: C{signed}, C{all}, or nobody
    @ivar forgets: resuming a session says that it is over
    @ivar factory: makes the WebSockets' far ends, for another door to the relay
    @ivar base: what addresses of sessions begin with
    """

    def __init__(
        self,
        *,
        seed: int = 0,
        api_port: int = 0,
        socket: type[RelaySocket] = RelaySocket,
        listener: Listener | None = None,
    ) -> None:
        """@param listener: where the relay is, if it is not on loopback; closed here"""
        self.instances: dict[str, Manners] = {}
        self.sessions: dict[str, AgentSession] = {}
        self.sockets: list[RelaySocket] = []
        self.upgrades: list[tuple[str, dict[str, str]]] = []
        self.weather = Weather()
        self.refuse = ""
        self.forgets = False
        self._dice = random.Random(seed)
        self._tokens: dict[str, str] = {}
        self._numbers = itertools.count(1)
        self._clock = IReactorTime(reactor)
        self._later: set[Any] = set()
        factory = WebSocketServerFactory(reactor=reactor)  # type: ignore[no-untyped-call]
        factory.protocol = socket
        factory.peer = self
        factory.noisy = False
        # Its timers would outlive a test.
        factory.setProtocolOptions(  # type: ignore[no-untyped-call]
            openHandshakeTimeout=0, closeHandshakeTimeout=0
        )
        if listener is None:
            listening = IReactorTCP(reactor).listenTCP(0, factory, interface="127.0.0.1")
        else:
            listener.setblocking(False)
            sockets = IReactorSocket(reactor)
            listening = sockets.adoptStreamPort(listener.fileno(), AF_INET, factory)
            listener.close()
        self._listening = listening
        self.host: str = listening.getHost().host
        self.port: int = listening.getHost().port
        self.factory = factory
        self.base = f"ws://{self.host}:{self.port}"
        self.api = SsmApi(self, api_port)
        self.url = self.api.url

    async def stop(self) -> None:
        """Nothing is left."""
        for call in list(self._later):
            call.cancel()
        for session in self.sessions.values():
            session.end()
        await self._listening.stopListening()
        for socket in list(self.sockets):
            socket.dropConnection(abort=True)
        self.api.stop()

    # -- misbehaviour on command

    def cut(self) -> None:
        """All clients' sockets are gone, without a goodbye."""
        for socket in list(self.sockets):
            socket.transport.abortConnection()

    def cut_agents(self, seconds: float = 0.3) -> None:
        """
        All agents' own sockets are gone for a while.

        What is sent meanwhile is lost, and the relay asks the client to pause.
        """
        for session in self.sessions.values():
            if not session.over:
                session.away = True
                self._deliver_later(seconds, partial(self._agent_back, session))

    def _agent_back(self, session: AgentSession) -> None:
        session.away = False
        self._to_client(session, wire.build(wire.START, 0, 0, bytes(16), 1, 0, b"{}"))
        session.resumed()

    def kill(self, instance: str) -> None:
        """An instance is gone, and its sessions with it."""
        self.instances[instance].alive = False
        for session in self.sessions.values():
            if session.manners is self.instances[instance] and not session.over:
                session.close("the instance is gone")

    def pause(self, on: bool) -> None:
        """Ask all clients to pause, or to go on."""
        kind = wire.PAUSE if on else wire.START
        self.inject(wire.build(kind, 0, 0, bytes(16), 1, 0, b"{}"))

    def inject(self, data: bytes) -> None:
        """Send every client something."""
        for socket in list(self.sockets):
            socket.say(data)

    # -- the API's calls: in threads

    def called(self, action: str, said: Mapping[str, Any]) -> tuple[int, Mapping[str, Any]]:
        """Status and answer of a call."""
        if action == "StartSession":
            instance = self.instances.get(said["Target"])
            if instance is None or not instance.alive:
                text = f"{said['Target']} is not connected."
                return 400, {"__type": "TargetNotConnected", "message": text}
            session_id = f"ann-{next(self._numbers):017x}"
            parameters = {name: values[0] for name, values in said["Parameters"].items()}
            self.sessions[session_id] = AgentSession(
                session_id, said["DocumentName"], parameters, instance, self._to_client
            )
            return 200, self._ticket(session_id)
        session_id = said["SessionId"]
        session = self.sessions.get(session_id)
        if action == "TerminateSession":
            if session is not None:
                reactor.callFromThread(session.close, "")  # type: ignore[attr-defined]
            return 200, {"SessionId": session_id}
        if session is None:
            return 400, {"__type": "DoesNotExistException", "message": session_id}
        if session.over or self.forgets:
            return 200, {"SessionId": session_id, "TokenValue": "", "StreamUrl": ""}
        return 200, self._ticket(session_id)

    def _ticket(self, session_id: str) -> Mapping[str, str]:
        token = secrets.token_urlsafe(32)
        self._tokens[token] = session_id
        return {
            "SessionId": session_id,
            "TokenValue": token,
            "StreamUrl": f"{self.base}/v1/data-channel/{session_id}"
            "?role=publish_subscribe&cell-number=AAEAAdAv6B6/fyea7+x==",
        }

    # -- the line between client and agent

    def admitted(self, token: str) -> AgentSession | None:
        """Whose token it is; it is good once."""
        return self.sessions.get(self._tokens.pop(token, ""))

    def from_client(self, session: AgentSession, *frames: bytes) -> None:
        """Frames on their way to an agent."""
        if session.away:
            pause = wire.build(wire.PAUSE, 0, 0, bytes(16), 1, 0, b"{}")
            for socket in self.sockets:
                if socket.session is session:
                    socket.say(pause)
            return
        if self.weather == CALM:
            session.receive(*frames)
            return
        for data in frames:
            self._carry(lambda data=data: session.receive(data))  # type: ignore[misc]

    def _to_client(self, session: AgentSession, data: bytes) -> None:
        """A frame on its way to a client; one that is not there does not get it."""
        if session.away:
            return
        for socket in self.sockets:
            if socket.session is session:
                closing = data[4:18] == b"channel_closed"
                if closing or self.weather == CALM:
                    socket.say(data)
                else:
                    self._carry(lambda socket=socket: socket.say(data))  # type: ignore[misc]

    def _carry(self, deliver: Any) -> None:
        weather, chance = self.weather, self._dice.random
        for _ in range(2 if chance() < weather.repeat else 1):
            if chance() < weather.loss:
                continue
            delay = weather.delay
            if chance() < weather.reorder:
                delay += weather.late * chance()
            if delay:
                self._deliver_later(delay, deliver)
            else:
                deliver()

    def _deliver_later(self, delay: float, deliver: Any) -> None:
        def now() -> None:
            self._later.discard(call)
            deliver()

        call: Any = self._clock.callLater(delay, now)
        self._later.add(call)


def main(words: list[str], socket: type[RelaySocket] = RelaySocket) -> None:
    """
    Run it by itself, for the demo and the benchmarks: C{[--paced] PORT INSTANCE...}.

    The API is at C{http://127.0.0.1:PORT}; it runs until it is killed.
    """
    paced = words[:1] == ["--paced"]
    port, *names = words[paced:]
    peer = SsmPeer(api_port=int(port), socket=socket)
    for name in names:
        peer.instances[name] = Manners(paced=paced)
    reactor.run()  # type: ignore[attr-defined]


if __name__ == "__main__":
    main(sys.argv[1:])
