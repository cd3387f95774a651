"""
Servers that mean no good to an agent, on real sockets: it dials what is on its own list and
nothing else, and what breaks the protocol costs the server the connection. The agent comes
again, and serves a server that behaves. The whole table is in C{docs/security.md}.
"""

from __future__ import annotations

import socket
import zlib
from typing import Any

from autobahn.twisted.websocket import WebSocketServerFactory, WebSocketServerProtocol

from proxyd.agents.hush import Hush
from proxyd.wire.agent import frames
from proxyd.wire.agent.frames import MESSAGE_LIMIT, Code, Flag, Kind, frame, open_payload
from tests.agents.scene import AgentsTestCase, Echo, Target, free_port, reactor
from tests.support.streams import until


class Evil(WebSocketServerProtocol):  # type: ignore[misc]  # autobahn has no types
    """One connection of an agent, at a server that says what a test wants."""

    log = Hush()

    def __init__(self) -> None:
        super().__init__()
        self.heard: list[tuple[int, int, bytes]] = []
        self.lost = False

    def onConnect(self, request: Any) -> Any:
        """Speak what the test wants spoken."""
        return self.factory.speaks

    def onOpen(self) -> None:
        """An agent is here."""
        self.factory.agents.append(self)

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        """Keep the frames, and not the HELLO."""
        found = frames.frames_in(payload if isBinary else b"")
        self.heard += [(kind, number, bytes(data)) for kind, _, number, data in found]

    def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:
        """It is gone."""
        super().onClose(wasClean, code, reason)
        self.lost = True

    def say(self, *given: bytes) -> None:
        """Send frames, as one message."""
        self.sendMessage(b"".join(given), isBinary=True)

    def answers(self, number: int) -> list[tuple[int, bytes]]:
        """What was said of a stream."""
        return [(kind, data) for kind, stream, data in self.heard if stream == number]


class Unread(Echo):
    """A target that reads nothing."""

    def connectionMade(self) -> None:
        """Not now."""
        self.transport.pauseProducing()  # type: ignore[union-attr]


def opening(number: int, port: int, host: str = "127.0.0.1") -> bytes:
    """Please dial."""
    return frame(Kind.OPEN, number, open_payload({"remote_host": host, "remote_port": port}))


class HostileServerTests(AgentsTestCase):
    """An agent that may dial one port, and a server that wants more."""

    async def setUp(self) -> None:
        """The server, and the agent, which is connected."""
        await super().setUp()
        self.evil: Any = WebSocketServerFactory(  # type: ignore[no-untyped-call]
            protocols=[frames.SUBPROTOCOL]
        )
        self.evil.protocol = Evil
        self.evil.noisy = False
        self.evil.log = Hush()
        self.evil.speaks = frames.SUBPROTOCOL
        self.evil.agents = []
        port = reactor.listenTCP(0, self.evil, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        self.place = f"ws://127.0.0.1:{port.getHost().port}/agent"
        self.echo = self.listen(Target())
        await self.agent("pc1", [f"127.0.0.1:{self.echo}"], here=False)
        await until(lambda: self.evil.agents, "the agent")
        self.there: Evil = self.evil.agents[0]

    async def is_served(self, there: Evil, number: int = 2) -> None:
        """The agent dials what it may, and says it."""
        there.say(opening(number, self.echo))
        await until(lambda: there.answers(number), "the answer")
        self.assertEqual(there.answers(number)[0][0], Kind.OPEN_OK)

    async def costs_the_connection(self, *messages: bytes) -> None:
        """What comes of it: the agent leaves, comes again, and serves."""
        count = len(self.evil.agents)
        there = self.there
        for message in messages:
            if not there.lost:
                there.sendMessage(message, isBinary=True)
        await until(lambda: there.lost, "the agent to leave")
        await until(lambda: len(self.evil.agents) > count, "the agent to come again")
        await self.is_served(self.evil.agents[-1])

    async def test_dial_outside(self) -> None:
        """What is not on the list is not dialled, however it is written; the session goes on."""
        spied = Target()
        other = self.listen(spied)
        asked = [
            ("127.0.0.1", other),
            ("localhost", other),
            ("127.1", other),
            ("::ffff:127.0.0.1", other),
            ("[::1]", other),
            ("169.254.169.254", 80),
            ("10.0.0.1", self.echo),
        ]
        for number, (host, port) in enumerate(asked, 1):
            self.there.say(opening(2 * number, port, host))
        for number in range(1, len(asked) + 1):
            await until(lambda n=number: self.there.answers(2 * n), "the answer")  # type: ignore[misc]
            ((kind, data),) = self.there.answers(2 * number)
            self.assertEqual(kind, Kind.OPEN_FAIL)
            self.assertIn(frames.parse_reason(data)[0], (Code.DENIED, Code.NAME), asked[number - 1])
        self.assertEqual(spied.there, [])
        await self.is_served(self.there, 2 * len(asked) + 2)

    async def test_forged_stream(self) -> None:
        """Data for a stream that never was."""
        await self.costs_the_connection(frame(Kind.DATA, 2, b"x"))

    async def test_forged_answer(self) -> None:
        """An answer to an opening that the agent never made: agents open none."""
        await self.costs_the_connection(frame(Kind.OPEN_OK, 1, frames.number_payload(1 << 20)))

    async def test_same_stream_twice(self) -> None:
        """An id that is taken."""
        await self.costs_the_connection(opening(2, self.echo), opening(2, self.echo))

    async def test_credit_overrun(self) -> None:
        """More than there is credit for, to a target that does not read."""
        port = reactor.listenTCP(0, Target(Unread), interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        port.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        slow = port.getHost().port
        agent = await self.agent("pc2", [f"127.0.0.1:{slow}"], here=False)
        await until(lambda: agent.session is not None, "the second agent")
        self.there = self.evil.agents[-1]
        self.there.say(opening(2, slow))
        await until(lambda: self.there.answers(2), "the answer")
        there, block = self.there, frame(Kind.DATA, 2, bytes(60_000))
        for _ in range(80):
            there.say(*[block] * 8)
        await until(lambda: there.lost, "the agent to leave")

    async def test_too_much_credit(self) -> None:
        """More credit than there can be."""
        credit = frame(Kind.CREDIT, 2, frames.number_payload(2**31 - 1))
        await self.costs_the_connection(opening(2, self.echo), credit, credit)

    async def test_long_message(self) -> None:
        """A message longer than one may be."""
        await self.costs_the_connection(bytes(MESSAGE_LIMIT + 1))

    async def test_bomb(self) -> None:
        """A frame that becomes more than a frame may be."""
        bomb = zlib.compress(bytes(4 * 1024 * 1024))[2:-4]
        data = frame(Kind.DATA, 2, bomb, Flag.COMPRESSED)
        await self.costs_the_connection(opening(2, self.echo), data)

    async def test_nonsense(self) -> None:
        """An opening whose fields are none."""
        await self.costs_the_connection(frame(Kind.OPEN, 2, b"[" * 60_000))

    async def test_text(self) -> None:
        """JSON beside frames is not what the agent does as it is told: it is ignored."""
        spied = Target()
        other = self.listen(spied)
        self.there.sendMessage(
            b'{"type":"proxy_connect","proxy_id":"a","user_id":"b","remote_host":"127.0.0.1",'
            b'"remote_port":%d,"protocol":"tcp"}' % other
        )
        await self.is_served(self.there)
        self.assertEqual(spied.there, [])

    async def test_speaks_otherwise(self) -> None:
        """A server that speaks no frames is left, and asked again."""
        self.evil.speaks = None
        self.there.sendClose(1000)
        await until(lambda: len(self.evil.agents) > 1, "the agent to come again")
        wrong = self.evil.agents[1]
        await until(lambda: wrong.lost, "the agent to leave")
        self.evil.speaks = frames.SUBPROTOCOL
        await until(lambda: not self.evil.agents[-1].lost, "the agent to stay")
        await self.is_served(self.evil.agents[-1])

    async def test_refused_port(self) -> None:
        """What the list allows and nobody serves is a refusal, and nothing else."""
        port = free_port(self.echo)
        agent = await self.agent("pc2", [f"127.0.0.1:{port}"], here=False)
        await until(lambda: agent.session is not None, "the second agent")
        there = self.evil.agents[-1]
        there.say(opening(2, port))
        await until(lambda: there.answers(2), "the answer")
        ((kind, data),) = there.answers(2)
        self.assertEqual((kind, frames.parse_reason(data)[0]), (Kind.OPEN_FAIL, Code.REFUSED))
