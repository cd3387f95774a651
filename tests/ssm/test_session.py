"""Tests for L{proxyd.ssm.session}: resumed, ended, and what a hostile relay can do."""

from __future__ import annotations

import json
import random
import struct
from typing import Any

from proxyd.errors import DialError, DialFailure
from proxyd.target import Target
from proxyd.wire.ssm import message as wire
from tests.ssm.scene import SsmCase
from tests.support.seeds import SOAK, printed_seed
from tests.support.ssm_peer import Weather
from tests.support.streams import until


def output(number: int, payload: bytes, payload_type: int = wire.DATA) -> bytes:
    """A frame as of the agent."""
    return wire.build(wire.OUTPUT, number, 0, bytes(16), 1, payload_type, payload)


def closed(text: str) -> bytes:
    """A forged end."""
    said = json.dumps({"Output": text}).encode()
    return wire.build(wire.CHANNEL_CLOSED, 0, 0, bytes(16), 1, 0, said)


class SessionTests(SsmCase):
    """Its life."""

    async def test_resumed_again_and_again(self) -> None:
        """Each cut is survived, with bytes under way in both directions."""
        peer = self.peer()
        near = await self.through(self.forwarding(peer), await self.target())
        expected = 0
        for turn in range(6):
            near.stream.write(bytes(20_000))
            expected += 20_000
            peer.cut()
            await until(lambda expected=expected: near.received == expected, "the echo")
            self.assertGreaterEqual(peer.api.asked.count("ResumeSession"), turn + 1)
        self.assertEqual(len(peer.sessions), 1)

    async def test_not_resumed(self) -> None:
        """A session that AWS has ended meanwhile ends its streams, with the reason."""
        peer = self.peer()
        near = await self.through(self.forwarding(peer), await self.target())
        peer.forgets = True
        peer.cut()
        await self.ended(near)
        self.assertIn("timed out, or was ended", str(near.reason))

    async def test_resume_is_tried_often_enough(self) -> None:
        """AWS that can't be asked for a while costs time, and no stream."""
        peer = self.peer()
        near = await self.through(self.forwarding(peer), await self.target())
        peer.api.errors = [(400, "ThrottlingException", "Rate exceeded")] * 4
        peer.cut()
        await self.says_back(near, b"hello")
        self.assertEqual(peer.api.errors, [])

    async def test_pause(self) -> None:
        """While the relay asks for a pause nothing new goes; then all of it."""
        peer = self.peer()
        near = await self.through(self.forwarding(peer), await self.target())
        await self.says_back(near, b"x")
        await until(lambda: not self._under_way(peer), "all to be acknowledged")
        peer.weather = Weather(loss=1.0)  # an acknowledgement would end the pause
        ours = near.stream._carrier.session.channel
        peer.pause(True)
        await until(lambda: ours.paused, "the pause")
        session = next(iter(peer.sessions.values()))
        before = session.channel.counts.received
        near.stream.write(b"held back")
        self.assertEqual((near.stream.pending, near.stream.queued), (9, True))
        self.assertEqual(session.channel.counts.received, before)
        peer.weather = Weather()
        peer.pause(False)
        await until(lambda: near.received == 10, "the echo")

    def _under_way(self, peer: Any) -> int:
        return sum(one.channel.under_way for one in peer.sessions.values())

    async def test_odd_but_right(self) -> None:
        """Wrong digests, unknown types and an old agent's versions change nothing."""
        for words in ({"wrong_digests": True}, {"version": "3.1.1000.0"}, {"version": "x"}):
            peer = self.peer(**words)
            near = await self.through(self.forwarding(peer), await self.target())
            peer.inject(wire.build("interactive_shell", 0, 0, bytes(16), 1, 0, b"{}"))
            await self.says_back(near, b"hello")

    async def test_declined(self) -> None:
        """A session that wants what we don't do is ended with the reason."""
        action = {"ActionType": "KMSEncryption", "ActionParameters": {"KMSKeyId": "k"}}
        peer = self.peer(request=[action])
        problem = await self.dial_fails(self.through(self.forwarding(peer), Target("127.0.0.1", 1)))
        self.assertEqual(problem.failure, DialFailure.BROKEN)

    async def test_closed_by_the_service(self) -> None:
        """What the service says at the end is what a user's log says."""
        peer = self.peer()
        near = await self.through(self.forwarding(peer), await self.target())
        peer.inject(closed("Your session timed out due to inactivity and has been terminated."))
        await self.ended(near)
        self.assertIn("it was idle for too long", str(near.reason))


class HostileRelayTests(SsmCase):
    """Whatever comes from the relay: a clear end, bounded memory, nobody else harmed."""

    async def test_nonsense(self) -> None:
        """Each of these ends the session; another upstream goes on."""
        other = await self.through(self.forwarding(self.peer()), await self.target())
        next_one = 2
        for name, frames in {
            "giant": [b"\xff" * 300_000],
            "giant length": [b"\xff\xff\xff\xff" + bytes(200)],
            "short": [b"\0\0\0\x74"],
            "ack of nothing": [self._ack(10**6)],
            "negative": [output(-1, b"x")],
            "smux version": [output(next_one, b"\x02\x02\0\0\3\0\0\0")],
            "smux of the agent's": [output(next_one, struct.pack("<BBHI", 1, 0, 0, 4))],
            "second hand-shake": [output(next_one, b"{}", wire.HANDSHAKE_REQUEST)],
            "no JSON": [output(next_one, b"[" * 9000, wire.HANDSHAKE_COMPLETE)],
        }.items():
            peer = self.peer()
            upstream = self.forwarding(peer)
            near = await self.through(upstream, await self.target())
            peer.weather = Weather(loss=1.0)
            for frame in frames:
                peer.inject(frame)
            if name == "giant":
                # The socket goes first; a relay that does so again and again gains nothing.
                await until(lambda peer=peer: "ResumeSession" in peer.api.asked, name)
                continue
            await self.ended(near)
            self.assertIn("made no sense", str(near.reason), name)
        await self.says_back(other, b"still here")

    def _ack(self, number: int) -> bytes:
        of = wire.Message(wire.INPUT, number, 0, bytes(16), 1, 1, b"x")
        return wire.acknowledgement(of, bytes(16), 1)

    async def test_no_web_socket(self) -> None:
        """What a WebSocket can't be costs that one: the session goes on by another."""
        peer = self.peer()
        near = await self.through(self.forwarding(peer), await self.target())
        part = b"\x7e\xff\xff" + bytes(65535)
        for number, raw in enumerate(
            (
                b"\x82\x7f\x7f" + b"\xff" * 7,  # a frame of 2**63 - 1 bytes
                b"\x02" + part + 5 * (b"\0" + part),  # a message in more pieces than it may have
                b"\x82\x81keysx",  # masked
                b"\x8b\0",  # a kind that there is not
                b"GET / HTTP/1.1\r\n\r\n",
            ),
            1,
        ):
            await self.says_back(near, b"hello")
            peer.sockets[-1].transport.write(raw)
            await until(
                lambda number=number: peer.api.asked.count("ResumeSession") >= number, "a resume"
            )
        await self.says_back(near, b"still here")
        self.assertEqual(len(peer.sessions), 1)

    async def test_bombs(self) -> None:
        """Streams nobody opened, frames from the far future, flags, endless acknowledgements."""
        peer = self.peer()
        upstream = self.forwarding(peer)
        near = await self.through(upstream, await self.target())
        await self.says_back(near, b"x")
        session = next(iter(peer.sessions.values()))
        bomb = b"".join(struct.pack("<BBHI", 1, 2, 8, n) + bytes(8) for n in range(9, 9009, 2))
        for start in range(0, len(bomb), 1024):
            session.channel.send_data(bomb[start : start + 1024], 0)
        session.flush()
        for number in range(20_000, 21_000):
            peer.inject(output(number, bytes(1000)))
        peer.inject(self._ack(0))
        await self.says_back(near, b"hello")

    async def test_fuzz(self) -> None:
        """Damaged frames never do more than end the session, or be ignored."""
        seed = printed_seed("SSM fuzz")
        dice = random.Random(seed)
        for _ in range(300 if SOAK else 10):
            peer = self.peer()
            upstream = self.forwarding(peer)
            try:
                near = await self.through(upstream, await self.target())
            except DialError:
                continue
            for _ in range(50):
                frame = bytearray(output(dice.randrange(2, 9), dice.randbytes(40)))
                for _ in range(dice.randrange(4)):
                    frame[dice.randrange(len(frame))] = dice.randrange(256)
                peer.inject(bytes(frame[: dice.choice((len(frame), dice.randrange(160)))]))
            near.stream.write(b"x")
            near.stream.abortConnection()
            await self.ended(near)
            await upstream.stopService()
        self.assertEqual(self.flushLoggedErrors(), [])
