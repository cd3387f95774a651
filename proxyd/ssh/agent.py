"""
Keys that an ssh-agent holds, asked for over its UNIX socket.

Source: draft-miller-ssh-agent; Conch's client of it does not know the flags
that ask for RSA signatures with SHA-2, and waits for ever.
"""

from __future__ import annotations

from collections import deque

from twisted.conch.ssh.common import NS, getNS
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import UNIXClientEndpoint
from twisted.internet.error import ConnectError
from twisted.internet.interfaces import IReactorTime, IReactorUNIX
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure

from proxyd.config.times import SSH_AGENT
from proxyd.ssh.identities import Identity, IdentityError

REQUEST_IDENTITIES = 11
IDENTITIES_ANSWER = 12
SIGN_REQUEST = 13
SIGN_RESPONSE = 14

ANSWER_LIMIT = 256 * 1024
"""The longest answer that is taken, in bytes; OpenSSH's own limit (authfd.c)."""

_FLAGS = {b"rsa-sha2-256": 2, b"rsa-sha2-512": 4}


class IReactor(IReactorTime, IReactorUNIX):
    """What of the reactor an agent's client needs."""


class Agent(Protocol):
    """One conversation with an agent; L{connect_agent} begins it."""

    def __init__(self, clock: IReactorTime, path: str) -> None:
        self.path = path
        self._clock = clock
        self._buffer = b""
        self._waiting: deque[Deferred[bytes]] = deque()

    async def identities(self) -> list[Identity]:
        """
        The keys that it holds, in its order.

        @raise IdentityError: it does not say
        """
        rest = await self._ask(REQUEST_IDENTITIES, b"", IDENTITIES_ANSWER)
        count, rest = int.from_bytes(rest[:4], "big"), rest[4:]
        found: list[Identity] = []
        try:
            for _ in range(count):
                blob, comment, rest = getNS(rest, 2)
                label = comment.decode("utf-8", "replace")
                found.append(AgentIdentity(self, blob, f"{label} of the ssh-agent"))
        except Exception:
            raise self._problem("answers in another language") from None
        return found

    async def sign(self, blob: bytes, data: bytes, signature: bytes) -> bytes:
        """
        Have something signed.

        @raise IdentityError: the agent refuses, or is gone
        """
        flags = _FLAGS.get(signature, 0).to_bytes(4, "big")
        question = NS(blob) + NS(data) + flags
        answer = await self._ask(SIGN_REQUEST, question, SIGN_RESPONSE)
        made: bytes = getNS(answer)[0]
        if getNS(made)[0] != signature:
            raise self._problem(f"can't sign with {signature.decode()}")
        return made

    def close(self) -> None:
        """End the conversation; who still waits is told."""
        if self.transport is not None:
            self.transport.loseConnection()

    def dataReceived(self, data: bytes) -> None:
        """Answers come in the order of the questions."""
        self._buffer += data
        while len(self._buffer) >= 4:
            end = 4 + int.from_bytes(self._buffer[:4], "big")
            if end > ANSWER_LIMIT or not self._waiting:
                self.close()
                return
            if len(self._buffer) < end:
                return
            answer, self._buffer = self._buffer[4:end], self._buffer[end:]
            self._waiting.popleft().callback(answer)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Nobody is left waiting."""
        waiting, self._waiting = self._waiting, deque()
        for question in waiting:
            question.errback(self._problem("hung up"))

    async def _ask(self, kind: int, body: bytes, expected: int) -> bytes:
        if self.transport is None or not self.connected:
            raise self._problem("is gone")
        # One who gives up leaves its place: its answer may still come, and is thrown away.
        answered: Deferred[bytes] = Deferred()
        answered.addTimeout(SSH_AGENT, self._clock, self._too_late)
        self._waiting.append(answered)
        message = bytes((kind,)) + body
        self.transport.write(len(message).to_bytes(4, "big") + message)
        answer = await answered
        if answer[:1] != bytes((expected,)):
            raise self._problem("refuses")
        return answer[1:]

    def _too_late(self, _: object, seconds: float) -> bytes:
        self.close()
        raise self._problem(f"has not answered in {seconds:g} s")

    def _problem(self, what: str) -> IdentityError:
        return IdentityError(f"the ssh-agent at {self.path} {what}")


class AgentIdentity:
    """A key in an agent."""

    # Each signature may have to be confirmed by a person.
    ask_first = True

    def __init__(self, agent: Agent, blob: bytes, name: str) -> None:
        self._agent = agent
        self.blob = blob
        self.name = name

    def sign(self, data: bytes, signature: bytes) -> Deferred[bytes]:
        """See L{Identity<proxyd.ssh.identities.Identity>}."""
        return Deferred.fromCoroutine(self._agent.sign(self.blob, data, signature))


async def connect_agent(reactor: IReactor, path: str | None) -> Agent:
    """
    Begin a conversation with an agent.

    @param path: of its socket, as SSH_AUTH_SOCK has it
    @raise IdentityError: there is none
    """
    if not path:
        raise IdentityError("no key is configured, and SSH_AUTH_SOCK names no ssh-agent")
    endpoint = UNIXClientEndpoint(reactor, path, SSH_AGENT)  # type: ignore[no-untyped-call]
    try:
        protocol = await endpoint.connect(Factory.forProtocol(lambda: Agent(reactor, path)))  # type: ignore[no-untyped-call]
    except ConnectError as problem:
        raise IdentityError(f"the ssh-agent at {path} can't be reached: {problem}") from None
    assert isinstance(protocol, Agent)
    return protocol
