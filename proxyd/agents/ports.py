"""
A reverse port: a local port whose users reach a host behind an agent.

It stays open over a short absence of its agents; new users wait that long. What
becomes of a user's dial is told as TCP tells it: a refused target is a reset.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator
from ipaddress import ip_address
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.internet.interfaces import IAddress, IListeningPort, IReactorTime
from twisted.internet.protocol import Factory, connectionDone
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from proxyd.agents.registry import AgentRegistry
from proxyd.agents.relay import Relay, StreamSide, TcpSide
from proxyd.agents.stream import AgentStream
from proxyd.config.agents_model import ReversePort
from proxyd.config.model import Listener
from proxyd.errors import DialError
from proxyd.net.listening import open_port
from proxyd.net.pace import Rate
from proxyd.net.sessions import Session
from proxyd.rules.hosts import plain
from proxyd.target import Principal, Target
from proxyd.wire.proxy_protocol import header

_log = Logger()


class User(TcpSide):
    """
    One user of a port.

    @ivar number: its session's number
    @ivar source: where it comes from, C{HOST:PORT}
    @ivar began: when, by the clock
    """

    def __init__(self, port: Port, address: Any) -> None:
        super().__init__(Relay(port.clock, self._ended, port.rates[0], port.rates[1]))
        self.port = port
        self.number = port.next_number()
        self.host = str(getattr(address, "host", ""))
        self.address = address
        host = f"[{self.host}]" if ":" in self.host else self.host
        self.source = f"{host}:{getattr(address, 'port', 0)}"
        self.began = port.clock.seconds()
        self._opening: Deferred[None] | None = None
        self._joined = False

    def connectionMade(self) -> None:
        """Find the way; nothing is read meanwhile."""
        super().connectionMade()
        self.port.users[self.number] = self
        self._opening = Deferred.fromCoroutine(self._reach())
        self._opening.addErrback(self._not_reached)

    async def _reach(self) -> None:
        stream = await self.port.stream(self)
        self._opening = None
        self._joined = True
        self.relay.join(self.transport, stream)
        greeting = self.port.greeting(self)
        if greeting:
            stream.write(greeting)
        stream.attach(StreamSide(self.relay))

    def _not_reached(self, failure: Failure) -> None:
        self._opening = None
        error = failure.value
        if isinstance(error, DialError):
            self.port.failed(error)
            self._ended(str(error))
        elif not isinstance(error, CancelledError):
            _log.failure("a user of {port}", failure, port=self.port.name)
            self._ended("a fault of ours")
        if self.transport is not None:
            self.transport.abortConnection()  # type: ignore[attr-defined]

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The user is gone."""
        if self._joined:
            super().connectionLost(reason)
        elif self._opening is not None:
            self._opening.cancel()
            self._ended("the user left before the target answered")

    def kill(self, reason: str) -> None:
        """End it now."""
        if self._joined:
            self.relay.abort(reason)
        elif self._opening is not None:
            self._opening.cancel()
            self._ended(reason)
            self.transport.abortConnection()  # type: ignore[union-attr]

    def _ended(self, reason: str) -> None:
        self.port.ended(self, reason)


class Port:
    """
    One reverse port.

    @ivar users: those who are here, by their session's number
    @ivar total: users that came so far
    @ivar received: bytes that users sent
    @ivar sent: bytes that users were sent
    @ivar errors: how many of each kind so far
    """

    def __init__(
        self,
        proxy_id: str,
        settings: ReversePort,
        agents: AgentRegistry,
        reactor: Any,
        next_number: Callable[[], int],
    ) -> None:
        self.proxy_id = proxy_id
        self.settings = settings
        self.agents = agents
        self.clock: IReactorTime = reactor
        self.next_number = next_number
        self.users: dict[int, User] = {}
        self.total = 0
        self.errors: Counter[str] = Counter()
        self._received = 0
        self._sent = 0
        self._reactor = reactor
        self._target = Target(settings.remote_host, settings.remote_port)
        rate = settings.bandwidth
        self.rates: tuple[tuple[Rate, ...], tuple[Rate, ...]] = ((), ())
        if rate is not None:
            self.rates = (Rate(rate, reactor),), (Rate(rate, reactor),)
        self._listening: IListeningPort | None = None
        self._ahead: deque[AgentStream] = deque()
        self._leaving: list[Deferred[None]] = []
        self._dialling: set[Deferred[None]] = set()
        self._care = LoopingCall(self._look_after)
        self._care.clock = reactor

    @property
    def name(self) -> str:
        """For the log: where it is, and where it leads."""
        settings = self.settings
        return f"{settings.bind}:{settings.local_port} -> {self._target}"

    @property
    def received(self) -> int:
        """Bytes that users sent."""
        return self._received + sum(user.relay.inward for user in self.users.values())

    @property
    def sent(self) -> int:
        """Bytes that users were sent."""
        return self._sent + sum(user.relay.outward for user in self.users.values())

    @property
    def connected(self) -> bool:
        """Whether one of its agents is here."""
        return self.agents.is_here(self.settings.client_ids)

    def open(self) -> None:
        """
        Listen.

        @raise StartError: the port can't be had
        """
        settings = self.settings
        host = f"[{settings.bind}]" if ":" in settings.bind else settings.bind
        text = f"{host}:{settings.local_port}"
        listener = Listener(text, "tcp", settings.bind, settings.local_port)
        self._listening = open_port(self._reactor, listener, _Users(self))
        self._care.start(1.0, now=True)
        _log.info(
            "port {port} by {agents} is open as {proxy_id}",
            port=self.name,
            agents=", ".join(settings.client_ids),
            proxy_id=self.proxy_id,
        )

    def drain(self) -> Deferred[None]:
        """Let nobody in any more, and fire when those that are in have left."""
        listening, self._listening = self._listening, None
        if listening is not None:
            maybeDeferred(listening.stopListening)
        done: Deferred[None] = Deferred()
        self._leaving.append(done)
        self._look_empty()
        return done

    def _look_empty(self) -> None:
        if not self.users:
            waiting, self._leaving = self._leaving, []
            for done in waiting:
                done.callback(None)

    def close(self, reason: str) -> Deferred[None]:
        """Listen no more, and end all users."""
        if self._care.running:
            self._care.stop()
        listening, self._listening = self._listening, None
        for user in list(self.users.values()):
            user.kill(reason)
        for dialling in list(self._dialling):
            dialling.cancel()
        while self._ahead:
            self._ahead.pop().abortConnection()
        _log.info("port {port} is closed: {reason}", port=self.name, reason=reason)
        done: Deferred[None] = Deferred()
        if listening is None:
            done.callback(None)
        else:
            closing: Any = listening.stopListening()
            if closing is None:
                done.callback(None)
            else:
                closing.addBoth(lambda _: done.callback(None))
        return done

    # For its users

    def lets_in(self, address: Any) -> bool:
        """Whether a user of this address may come now."""
        settings = self.settings
        if settings.max_connections is not None and len(self.users) >= settings.max_connections:
            self.errors["limit"] += 1
            return False
        if settings.allow is None:
            return True
        source = plain(ip_address(str(address.host).partition("%")[0]))
        if any(source in network for network in settings.allow):
            return True
        self.errors["not allowed"] += 1
        _log.warn("port {port}: {host} is not allowed", port=self.name, host=str(source))
        return False

    def stream(self, user: User) -> Deferred[AgentStream]:
        """A stream to the target: one that was made ahead, or a new one."""
        self.total += 1
        while self._ahead:
            ready = self._ahead.popleft()
            if ready.alive:
                done: Deferred[AgentStream] = Deferred()
                done.callback(ready)
                return done
        return self._open(str(user.number), user.source)

    def _open(self, user_id: str, source: str) -> Deferred[AgentStream]:
        fields = {
            "proxy_id": self.proxy_id,
            "user_id": f"user-{self.settings.local_port}-{user_id}",
            "source": source,
            "compress": self.settings.compress,
        }
        return self.agents.open(
            self.settings.client_ids, self._target, fields, self.settings.compress
        )

    def greeting(self, user: User) -> bytes:
        """The PROXY header for the target, if it wants one."""
        version = self.settings.proxy_protocol
        if version is None:
            return b""
        here: Any = user.transport.getHost()  # type: ignore[union-attr]
        return header(version, (user.host, user.address.port), (here.host, here.port))

    def failed(self, error: DialError) -> None:
        """A user's target was not reached."""
        self.errors[error.failure.value] += 1

    def ended(self, user: User, reason: str) -> None:
        """A user is gone."""
        if self.users.pop(user.number, None) is None:
            return
        relay = user.relay
        self._received += relay.inward
        self._sent += relay.outward
        _log.info(
            "[{source}] port {port} session {number} ended after {seconds:.1f} s: "
            "{received} bytes in, {sent} bytes out, {reason}",
            source=user.source,
            port=self.name,
            number=user.number,
            seconds=self.clock.seconds() - user.began,
            received=relay.inward,
            sent=relay.outward,
            reason=reason,
        )
        self._look_empty()

    # Once a second

    def _look_after(self) -> None:
        idle = self.settings.idle_timeout
        if idle is not None:
            now = self.clock.seconds()
            for user in list(self.users.values()):
                if now - max(user.relay.moved, user.began) > idle:
                    self.errors["idle"] += 1
                    user.kill(f"idle for {idle:g} s")
        while self._ahead and not self._ahead[0].alive:
            self._ahead.popleft()
        missing = self.settings.pool - len(self._ahead) - len(self._dialling)
        if missing > 0 and self.connected:
            for _ in range(missing):
                self._dial_ahead()

    def _dial_ahead(self) -> None:
        dialling: Deferred[None] = Deferred.fromCoroutine(self._ahead_one())
        self._dialling.add(dialling)

        def over(result: object) -> None:
            self._dialling.discard(dialling)
            if isinstance(result, Failure) and not isinstance(
                result.value, (DialError, CancelledError)
            ):
                _log.failure("dialling ahead", result)

        dialling.addBoth(over)

    async def _ahead_one(self) -> None:
        self._ahead.append(await self._open(f"ahead-{self.next_number()}", ""))


class _Users(Factory):
    """Makes a L{User} of each who may come."""

    noisy = False

    def __init__(self, port: Port) -> None:
        self._port = port

    def buildProtocol(self, addr: IAddress | None) -> User | None:
        """None: it may not come, and is closed."""
        return User(self._port, addr) if self._port.lets_in(addr) else None


class PortSessions:
    """The users of all ports, as the registry of sessions wants to see them."""

    kind = "agent"

    def __init__(self, ports: Callable[[], Iterator[Port]]) -> None:
        self._ports = ports

    def count(self) -> int:
        """How many there are now."""
        return sum(len(port.users) for port in self._ports())

    def live(self) -> Iterator[Session]:
        """Each of them, as it is now."""
        for port in self._ports():
            # A list: whoever reads this may stop for a while between two.
            for user in list(port.users.values()):
                yield Session(
                    number=user.number,
                    kind=self.kind,
                    principal=Principal("", user.source),
                    target=port.name,
                    state="joined",
                    token_id=None,
                    received=user.relay.inward,
                    sent=user.relay.outward,
                    began=user.began,
                    kill=user.kill,
                )
