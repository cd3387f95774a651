"""
The agents: who may come, who is here, and by which of them a stream is opened.

An agent is known by its id and a token, of which only the SHA-256 is kept. A
newer connection of the same agent takes over at once: nobody waits until the
old one is found to be dead.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from autobahn.websocket.types import ConnectionDeny, ConnectionRequest
from twisted.application.service import Service
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from proxyd import __version__
from proxyd.agents.session import AgentSession
from proxyd.agents.stream import AgentStream
from proxyd.agents.websocket import SUBPROTOCOLS, AgentServerProtocol
from proxyd.config.agents_model import Agents as Settings
from proxyd.errors import DialError, DialFailure
from proxyd.interfaces import IStore
from proxyd.net.clock import hour
from proxyd.records import AgentRecord, Change, Conflict, Kind, Unknown
from proxyd.target import Target
from proxyd.wire.agent.frames import SUBPROTOCOL, Code
from proxyd.wire.agent.hello import Hello
from proxyd.wire.agent.json_session import JsonSession
from proxyd.wire.agent.mux import Mux

_log = Logger()

TOKEN_PREFIX = "pxa_"
"""How an agent's token begins, so that it is known for one where it should not be."""

_AGENT_WORD = 48
"""Bytes of chance in an agent's token."""


@dataclass(frozen=True, slots=True)
class AgentStatus:
    """
    An agent, as it is now.

    @param since: when it came, in seconds since the epoch; None: it is not here
    @param address: where from
    @param version: what it says it is
    @param protocol: C{frames} or C{json}
    @param round_trip: seconds; 0: not known
    @param streams: connections through it now
    @param received: bytes of its messages
    @param sent: bytes of ours to it
    """

    client_id: str
    since: float | None = None
    address: str = ""
    version: str = ""
    protocol: str = ""
    round_trip: float = 0.0
    streams: int = 0
    received: int = 0
    sent: int = 0


class _Here:
    """An agent that is connected."""

    __slots__ = ("address", "client_id", "session", "since", "version")

    def __init__(
        self, client_id: str, session: AgentSession, address: str, version: str, since: float
    ) -> None:
        self.client_id = client_id
        self.session = session
        self.address = address
        self.version = version
        self.since = since


class AgentRegistry(Service):
    """
    All agents.

    @ivar lost: how many connections of agents have ended so far
    """

    name = "agents"

    def __init__(self, clock: IReactorTime, store: IStore, settings: Settings) -> None:
        self.settings = settings
        self.lost = 0
        self._clock = clock
        self._store = store
        self._digests: dict[str, bytes] = {}
        self._here: dict[str, _Here] = {}
        self._confirming: set[str] = set()
        self._generations: Counter[str] = Counter()
        self._adding: set[str] = set()
        self._waiting: list[tuple[Sequence[str], Deferred[_Here]]] = []
        store.watch(self._changed)

    # Who may come

    async def load(self) -> None:
        """Learn from the store who may come."""
        self._digests = {one.client_id: one.digest for one in await self._store.agents()}

    async def add(self, client_id: str) -> str:
        """
        A new agent may come; gives its token, which is shown this once.

        @raise Conflict: there is one of this id
        @raise StoreError: it could not be kept
        """
        if client_id in self._digests or client_id in self._adding:
            raise Conflict(f"there is an agent {client_id} already")
        token = TOKEN_PREFIX + secrets.token_urlsafe(_AGENT_WORD)
        self._adding.add(client_id)
        try:
            await self._store.put_agent(AgentRecord(client_id, _digest(token), int(hour())))
        finally:
            self._adding.discard(client_id)
        _log.info("agent {client_id} may come from now on", client_id=client_id)
        return token

    async def remove(self, client_id: str) -> None:
        """
        An agent may not come any more; if it is here it goes, and all its streams.

        @raise Unknown: there is none of this id
        """
        if client_id not in self._digests:
            raise Unknown(f"there is no agent {client_id}")
        await self._store.remove_agent(client_id)

    def known(self, client_id: str) -> bool:
        """Whether there is such an agent, here or not."""
        return client_id in self._digests

    def _changed(self, change: Change) -> Deferred[None] | None:
        if change.kind is Kind.AGENT and isinstance(change.key, str):
            if isinstance(change.record, AgentRecord):
                self._digests[change.key] = change.record.digest
            else:
                self._digests.pop(change.key, None)
                self._send_away(change.key, "its token was revoked")
        elif change.kind is Kind.ALL:
            return Deferred.fromCoroutine(self._load_again())
        return None

    async def _load_again(self) -> None:
        await self.load()
        for client_id in set(self._here) - set(self._digests):
            self._send_away(client_id, "its token was revoked")

    def _send_away(self, client_id: str, reason: str) -> None:
        here = self._here.get(client_id)
        if here is not None:
            here.session.end(reason, Code.DENIED)

    # Coming and going

    def admit(
        self, protocol: AgentServerProtocol, request: ConnectionRequest
    ) -> tuple[str | None, Mapping[str, str]]:
        """
        Let an agent in: its token says who it is.

        @raise ConnectionDeny: 401 without a good token, 403 for another id
        """
        word, _, token = str(request.headers.get("authorization", "")).partition(" ")
        client_id = self._owner(token.strip()) if word.lower() == "bearer" else None
        if client_id is None:
            raise ConnectionDeny(401, "no good token: proxyctl agents add gives one")  # type: ignore[no-untyped-call]
        wanted = request.params.get("client_id", [client_id])
        if wanted != [client_id]:
            raise ConnectionDeny(403, f"the token of {client_id} belongs to another client_id")  # type: ignore[no-untyped-call]
        spoken = next((name for name in SUBPROTOCOLS if name in request.protocols), None)
        protocol.who = client_id
        protocol.speaks = spoken
        protocol.agent_version = str(request.headers.get("user-agent", ""))[:100]
        return spoken, {}

    def _owner(self, token: str) -> str | None:
        """Whose token it is; all are looked at, so that the time tells nothing."""
        digest, owner = _digest(token), None
        for client_id, kept in self._digests.items():
            if hmac.compare_digest(digest, kept):
                owner = client_id
        return owner

    def opened(self, protocol: AgentServerProtocol) -> None:
        """An agent's WebSocket is open."""
        client_id: str = protocol.who
        machine: Mux | JsonSession
        if protocol.speaks == SUBPROTOCOL:
            machine = Mux(opener=True)
        else:
            machine = JsonSession(confirms=client_id in self._confirming)
        here: _Here
        session = AgentSession(
            machine,
            protocol,
            self._clock,
            self.settings.times.keepalive,
            gone=lambda reason: self._gone(here, reason),
        )
        here = _Here(
            client_id,
            session,
            str(protocol.peer),
            protocol.agent_version,
            hour(),
        )
        before = self._here.get(client_id)
        self._here[client_id] = here
        protocol.begin(session)
        if protocol.speaks == SUBPROTOCOL:
            self._generations[client_id] += 1
            generation = self._generations[client_id]
            protocol.send(Hello(secrets.token_hex(8), generation, __version__).text())
        _log.info(
            "agent {client_id} is here, from {address} ({version})",
            client_id=client_id,
            address=here.address,
            version=here.version or "unknown",
        )
        if before is not None:
            before.session.end("a newer connection of this agent is here", Code.REPLACED)
        self._serve_waiting()

    def _gone(self, here: _Here, reason: str) -> None:
        self.lost += 1
        machine = here.session.machine
        if isinstance(machine, JsonSession) and machine.confirms:
            self._confirming.add(here.client_id)
        if self._here.get(here.client_id) is here:
            del self._here[here.client_id]
            _log.info(
                "agent {client_id} is gone after {seconds:.0f} s: {reason}",
                client_id=here.client_id,
                seconds=hour() - here.since,
                reason=reason,
            )

    def stopService(self) -> None:
        """Send all agents home."""
        super().stopService()  # type: ignore[no-untyped-call]
        for here in list(self._here.values()):
            here.session.end("proxyd stops", Code.STOPPING)
        for _, waiting in list(self._waiting):
            waiting.cancel()

    # What is reached through them

    def is_here(self, client_ids: Iterable[str]) -> bool:
        """Whether one of these agents is connected."""
        return any(client_id in self._here for client_id in client_ids)

    def status(self, client_ids: Iterable[str] | None = None) -> list[AgentStatus]:
        """The agents that may come, or these, as they are now."""
        wanted = sorted(self._digests) if client_ids is None else list(client_ids)
        return [self._status(client_id) for client_id in wanted]

    def _status(self, client_id: str) -> AgentStatus:
        here = self._here.get(client_id)
        if here is None:
            return AgentStatus(client_id)
        session = here.session
        return AgentStatus(
            client_id,
            here.since,
            here.address,
            here.version,
            "frames" if session.has_credit else "json",
            session.round_trip,
            session.streams,
            session.received,
            session.sent,
        )

    def open(
        self,
        client_ids: Sequence[str],
        target: Target,
        fields: Mapping[str, Any],
        compress: bool = False,
        confirmed: bool = False,
    ) -> Deferred[AgentStream]:
        """
        A stream to a target behind one of these agents: the least loaded that is here.

        Where none is here it waits as long as C{grace} for one. An agent that
        fails by itself, and not by its target, is followed by the next.

        @param confirmed: only an agent will do that tells whether its dial went well
        @return: fails with L{DialError}; may be cancelled
        """
        return Deferred.fromCoroutine(self._open(client_ids, target, fields, compress, confirmed))

    async def _open(
        self,
        client_ids: Sequence[str],
        target: Target,
        fields: Mapping[str, Any],
        compress: bool,
        confirmed: bool,
    ) -> AgentStream:
        tried: set[AgentSession] = set()
        problem: DialError | None = None
        while True:
            here = self._best(client_ids, tried)
            if here is None and problem is not None:
                raise problem
            if here is None:
                here = await self._one_of(client_ids, target)
            tried.add(here.session)
            machine = here.session.machine
            if confirmed and isinstance(machine, JsonSession) and not machine.confirms:
                problem = DialError(
                    DialFailure.BROKEN,
                    f"agent {here.client_id} never says proxy_connected: it can't be an upstream",
                )
                continue
            try:
                dialling = here.session.open(target, fields, compress)
                dialling.addTimeout(self.settings.times.dial, self._clock, _too_late(target))
                return await dialling
            except DialError as error:
                if error.failure not in (DialFailure.BROKEN, DialFailure.LOST):
                    raise
                problem = error

    def _best(self, client_ids: Sequence[str], tried: set[AgentSession]) -> _Here | None:
        found = [
            here
            for client_id in client_ids
            if (here := self._here.get(client_id)) is not None and here.session not in tried
        ]
        return min(found, key=lambda here: here.session.streams, default=None)

    def _one_of(self, client_ids: Sequence[str], target: Target) -> Deferred[_Here]:
        """The first of these agents that comes, within C{grace}."""
        here = self._best(client_ids, set())
        if here is not None:
            return succeed(here)
        waiting: Deferred[_Here] = Deferred()
        entry = (tuple(client_ids), waiting)
        self._waiting.append(entry)

        def over(result: Any) -> Any:
            self._waiting.remove(entry)
            if late.active():
                late.cancel()
            return result

        def give_up() -> None:
            names = ", ".join(client_ids)
            waiting.errback(DialError(DialFailure.BROKEN, f"{target}: agent {names} is not here"))

        late: IDelayedCall = self._clock.callLater(self.settings.grace, give_up)
        return waiting.addBoth(over)

    def _serve_waiting(self) -> None:
        for client_ids, waiting in list(self._waiting):
            here = self._best(client_ids, set())
            if here is not None and not waiting.called:
                waiting.callback(here)


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()


def _too_late(target: Target) -> Any:
    def raise_it(_: object, seconds: float) -> None:
        raise DialError(DialFailure.TIMEOUT, f"{target}: no answer in {seconds:g} s")

    return raise_it
