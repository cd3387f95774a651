"""
Peers that mean no good, on real sockets: openings that never end, WebSockets that are not
read, messages too long, somebody else's users. Those that need no socket are in
C{tests/wire/agent}; the whole table is in C{docs/security.md}.
"""

from __future__ import annotations

import base64
from typing import Any

from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.protocol import Factory

from proxyd.agents.websocket import AgentServerFactory
from proxyd.wire.agent import frames
from proxyd.wire.agent.frames import MESSAGE_LIMIT, Kind, frame
from tests.agents.scene import Target, reactor
from tests.agents.test_registry import RegistryTestCase
from tests.support.streams import Party, until


class HostileTests(RegistryTestCase):
    """Each costs its sender the connection, and nobody else anything."""

    async def setUp(self) -> None:
        """A good agent beside it, whose port must serve to the end."""
        await super().setUp()
        await self.agent("good")
        self.good = await self.reverse(self.listen(Target()), ("good",))

    async def party(self, port: int) -> Any:
        """Somebody who comes to a port."""
        endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", port)  # type: ignore[no-untyped-call]
        return await endpoint.connect(Factory.forProtocol(Party))

    async def others_are_well(self) -> None:
        """The good agent's users are served."""
        user = await self.party(self.good.settings.local_port)
        user.transport.write(b"hello")
        await until(lambda: user.received == 5, "the echo")
        user.transport.abortConnection()

    async def refused_frames(self, *messages: bytes) -> None:
        """What comes of frames that break the rules: the session ends."""
        token = await self.registry.add("bad")
        raw = await self.raw(token, protocols=[frames.SUBPROTOCOL])
        for message in messages:
            raw.sendMessage(message, isBinary=True)
        await until(lambda: raw.closed is not None, "it to be sent away")
        self.assertFalse(self.registry.is_here(["bad"]))
        await self.others_are_well()

    async def test_forged_stream(self) -> None:
        """Data for a stream of another agent's session."""
        await self.refused_frames(frame(Kind.DATA, 2, b"x"))

    async def test_opens(self) -> None:
        """An agent that wants the server to dial."""
        await self.refused_frames(frame(Kind.OPEN, 1, b'{"remote_host":"10.0.0.1"}'))

    async def test_credit_overrun(self) -> None:
        """An agent that sends a user more than there is credit for: he does not read."""
        token = await self.registry.add("bad")
        raw = await self.raw(token, protocols=[frames.SUBPROTOCOL])
        port = await self.reverse(9, ("bad",))
        user = await self.party(port.settings.local_port)
        user.transport.pauseProducing()
        await until(lambda: any(isinstance(one, bytes) for one in raw.messages), "the opening")
        raw.sendMessage(frame(Kind.OPEN_OK, 2, frames.number_payload(1 << 20)), isBinary=True)
        for _ in range(80):
            raw.sendMessage(frame(Kind.DATA, 2, bytes(60_000)) * 8, isBinary=True)
        await until(lambda: raw.closed is not None, "it to be sent away")
        await self.others_are_well()
        user.transport.abortConnection()

    async def test_long_message(self) -> None:
        """More than a message may be, in one frame."""
        await self.refused_frames(bytes(MESSAGE_LIMIT + 1))

    async def test_long_message_in_pieces(self) -> None:
        """More than a message may be, in frames that are each short."""
        token = await self.registry.add("bad")
        raw = await self.raw(token)
        raw.beginMessage()
        piece = b" " * 4096
        for _ in range(MESSAGE_LIMIT // len(piece) + 2):
            if raw.closed is None:
                raw.sendMessageFrame(piece)
        await until(lambda: raw.closed is not None, "it to be sent away")
        await self.others_are_well()

    async def test_deep_json(self) -> None:
        """JSON that is nested without end."""
        token = await self.registry.add("bad")
        raw = await self.raw(token)
        raw.sendMessage(b"[" * 100_000)
        await until(lambda: raw.closed is not None, "it to be sent away")
        await self.others_are_well()

    async def test_strangers_user(self) -> None:
        """Data for another agent's user: it does not arrive."""
        user = await self.party(self.good.settings.local_port)
        user.transport.write(b"hello")
        await until(lambda: user.received == 5, "the echo")
        (number,) = self.good.users
        token = await self.registry.add("bad")
        raw = await self.raw(token)
        raw.say(
            type="proxy_data",
            proxy_id=self.good.proxy_id,
            user_id=f"user-{self.good.settings.local_port}-{number}",
            data=base64.b64encode(b"evil").decode(),
        )
        raw.say(type="proxy_disconnect", proxy_id=self.good.proxy_id, user_id=str(number))
        raw.sendPing(b"1")
        await self.others_are_well()
        user.transport.write(b"!")
        await until(lambda: user.received == 6, "the echo")
        user.transport.abortConnection()
        raw.dropConnection(abort=True)

    async def test_never_reads(self) -> None:
        """An agent that takes nothing: its users are held back, and the others are well."""
        token = await self.registry.add("bad")
        raw = await self.raw(token, protocols=[frames.SUBPROTOCOL])
        port = await self.reverse(9, ("bad",))
        raw.transport.pauseProducing()
        pouring = await self.party(port.settings.local_port)
        pouring.transport.write(bytes(32 * 1024 * 1024))
        await self.others_are_well()
        (user,) = port.users.values()
        self.assertLess(user.relay.inward, 1024 * 1024)
        pouring.transport.abortConnection()
        raw.dropConnection(abort=True)

    async def test_slow_opening(self) -> None:
        """A WebSocket that is not open in time is closed, however it trickles."""
        port = reactor.listenTCP(
            0,
            AgentServerFactory(self.registry.admit, self.registry.opened, 10),
            interface="127.0.0.1",
        )
        self.addCleanup(port.stopListening)
        port.factory.openHandshakeTimeout = 0.2
        slow = await self.party(port.getHost().port)
        slow.transport.write(b"GET /agent HTTP/1.1\r\nHost: x\r\nX: ")
        await until(lambda: slow.lost, "it to be closed")
        await self.others_are_well()

    async def test_many_openings(self) -> None:
        """More WebSockets than may be are turned away."""
        port = reactor.listenTCP(
            0,
            AgentServerFactory(self.registry.admit, self.registry.opened, 1),
            interface="127.0.0.1",
        )
        self.addCleanup(port.stopListening)
        first = await self.party(port.getHost().port)
        second = await self.party(port.getHost().port)
        lines = (
            "GET /agent HTTP/1.1",
            "Host: x",
            "Upgrade: websocket",
            "Connection: Upgrade",
            "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
        )
        second.transport.write("\r\n".join((*lines, "", "")).encode())
        await until(lambda: second.lost or "read" in second.events, "it to be turned away")
        self.assertIn(b" 503 ", second.kept)
        second.transport.loseConnection()
        first.transport.abortConnection()
