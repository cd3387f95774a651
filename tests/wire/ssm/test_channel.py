"""Tests for L{proxyd.wire.ssm.channel}."""

from __future__ import annotations

import itertools
import json
import random
from collections import deque
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import TestCase

from proxyd.errors import LocalProtocolError, ProtocolError
from proxyd.wire.ssm import message as wire
from proxyd.wire.ssm.channel import LONGEST_PAUSE, PAYLOAD, WINDOW, Channel
from proxyd.wire.ssm.handshake import Handshake
from tests.support.seeds import SOAK, printed_seed
from tests.wire.ssm.simulation import Faults, Simulation, chance_session
from tests.wire.ssm.sources import sessions

SESSIONS = 100_000 if SOAK else 500


def ids() -> Any:
    """Different ids, one after the other."""
    numbers = itertools.count(1)
    return lambda: next(numbers).to_bytes(16, "big")


def channel(**words: Any) -> Channel:
    """A client's end."""
    return Channel(ids(), 1e9, **words)


def output(number: int, payload: bytes = b"x", payload_type: int = wire.DATA) -> bytes:
    """A frame of the agent's."""
    flags = 0 if number else 1
    return wire.build(wire.OUTPUT, number, flags, bytes(16), 1, payload_type, payload)


def ack(number: int) -> bytes:
    """The agent has taken a frame of ours."""
    of = wire.Message(wire.INPUT, number, 0, bytes(16), 1, 1, b"x")
    return wire.acknowledgement(of, bytes(16), 1)


def said(channel: Channel) -> list[tuple[str, int]]:
    """What it wants to send: data and acknowledgements with their numbers."""
    found = []
    for data in channel.messages_to_send():
        message = wire.parse(data)
        is_ack = message.kind == wire.ACKNOWLEDGE
        found.append((message.kind, wire.acknowledged(message) if is_ack else message.sequence))
    return found


class ReceivingTests(TestCase):
    """Frames that come in order, twice, too early, far too early."""

    def test_in_order(self) -> None:
        """Each is handed on once, and acknowledged."""
        end = channel()
        for number in range(3):
            self.assertEqual(end.receive(output(number, b"%d" % number), 0), [(1, b"%d" % number)])
            self.assertEqual(said(end), [(wire.ACKNOWLEDGE, number)])

    def test_reordered(self) -> None:
        """What comes too early is acknowledged, kept, and handed on in its turn."""
        end = channel()
        self.assertEqual(end.receive(output(2, b"c"), 0), [])
        self.assertEqual(end.receive(output(1, b"b"), 0), [])
        self.assertEqual(end.receive(output(0, b"a"), 0), [(1, b"a"), (1, b"b"), (1, b"c")])
        self.assertEqual([number for _, number in said(end)], [2, 1, 0])

    def test_again(self) -> None:
        """An old frame is acknowledged again: its acknowledgement may have been lost."""
        end = channel()
        end.receive(output(0), 0)
        said(end)
        self.assertEqual(end.receive(output(0), 0), [])
        self.assertEqual(said(end), [(wire.ACKNOWLEDGE, 0)])
        self.assertEqual(end.counts.duplicates, 1)

    def test_bounds(self) -> None:
        """Beyond 10,000 frames, or 16 MiB, nothing is kept, and not acknowledged either."""
        end = channel()
        end.receive(output(10_001), 0)
        self.assertEqual((said(end), end.counts.dropped), ([], 1))
        payload = bytes(200_000)
        for number in range(1, 200):
            end.receive(output(number, payload), 0)
        self.assertEqual(end.counts.early, 16 * 1024 * 1024 // 200_000)
        self.assertEqual(len(said(end)), end.counts.early)

    def test_far_side_that_repeats_for_ever(self) -> None:
        """Acknowledgements that nobody fetches have a bound."""
        end = channel()
        for _ in range(10_000):
            end.receive(output(0), 0)
        self.assertLess(len(end.messages_to_send()), 5000)

    def test_refused(self) -> None:
        """A negative number; an acknowledgement of what never was sent."""
        for data in (output(-1), ack(0), ack(-1), ack(1 << 70)):
            with self.assertRaises(ProtocolError):
                channel().receive(data, 0)

    def test_closed(self) -> None:
        """The relay's last word is kept; nothing can be sent after it."""
        end = channel()
        text = json.dumps({"Output": "\n----ERROR\nno"}).encode()
        end.receive(wire.build(wire.CHANNEL_CLOSED, 0, 0, bytes(16), 1, 0, text), 0)
        self.assertEqual(end.closed, "----ERROR\nno")
        with self.assertRaises(LocalProtocolError):
            end.send_data(b"x", 0)

    def test_other_types(self) -> None:
        """What nobody knows is ignored."""
        end = channel()
        self.assertEqual(end.receive(wire.build("shell", 0, 0, bytes(16), 1, 0, b"{}"), 0), [])
        self.assertEqual(said(end), [])

    @given(st.binary(max_size=300))
    def test_noise(self, noise: bytes) -> None:
        """Noise never raises anything but ProtocolError."""
        try:
            channel().receive(noise, 0)
        except ProtocolError:
            pass


class SendingTests(TestCase):
    """Numbers, repeats, bounds."""

    def test_numbers(self) -> None:
        """They begin at 0; data goes in frames of 1024 bytes."""
        end = channel()
        end.send(wire.HANDSHAKE_RESPONSE, b"{}", 0)
        end.send_data(bytes(2 * PAYLOAD + 1), 0)
        frames = [wire.parse(data) for data in end.messages_to_send()]
        self.assertEqual([one.sequence for one in frames], [0, 1, 2, 3])
        self.assertEqual([len(one.payload) for one in frames], [2, 1024, 1024, 1])
        self.assertEqual({one.flags for one in frames}, {0})
        self.assertEqual({one.created for one in frames}, {10**12})

    def test_repeats_the_oldest(self) -> None:
        """After 200 ms the oldest frame goes again, the same bytes, and no other."""
        end = channel()
        end.send_data(b"one", 0)
        end.send_data(b"two", 0)
        first = end.messages_to_send()
        end.tick(0.2)
        self.assertEqual(end.messages_to_send(), [])
        end.tick(0.3)
        self.assertEqual(end.messages_to_send(), first[:1])
        end.tick(0.4)
        self.assertEqual(end.messages_to_send(), [])
        end.tick(0.6)
        self.assertEqual(end.messages_to_send(), first[:1])

    def test_round_trips(self) -> None:
        """The time until a repeat follows the round trips, as the real peers reckon it."""
        end = channel()
        end.send_data(b"x", 0)
        end.receive(ack(0), 0.3)
        # RTTVAR = 0.25 * |0.1 - 0.3|, SRTT = 0.875 * 0.1 + 0.125 * 0.3
        self.assertAlmostEqual(end.rto, 0.125 + 4 * 0.05)
        end.send_data(b"x", 1)
        end.receive(ack(1), 60)
        self.assertEqual(end.rto, 1.0)
        for number in range(2, 200):
            end.send_data(b"x", 100)
            end.receive(ack(number), 100.001)
        self.assertAlmostEqual(end.rto, 0.011, places=3)

    def test_selective(self) -> None:
        """Each acknowledgement is for one frame; one that comes twice does nothing."""
        end = channel()
        end.send_data(bytes(3 * PAYLOAD), 0)
        end.messages_to_send()
        end.receive(ack(2), 0.01)
        end.receive(ack(2), 0.01)
        self.assertEqual((end.under_way, end.oldest), (2 * PAYLOAD, 0))
        end.receive(ack(0), 0.01)
        end.tick(0.5)
        self.assertEqual(said(end), [(wire.INPUT, 1)])

    def test_overtaken(self) -> None:
        """What was sent well before a frame that has arrived is lost, and goes again at once."""
        end = channel()
        for number in range(6):
            end.send_data(b"x", number * 0.02)
        end.messages_to_send()
        end.receive(ack(0), 0.1)
        end.receive(ack(3), 0.16)
        # The slack is a quarter of a round trip: 3 tells of 1, not of 2.
        self.assertEqual(said(end), [(wire.INPUT, 1)])
        end.receive(ack(5), 0.17)
        self.assertEqual(said(end), [(wire.INPUT, 2)])
        end.receive(ack(4), 0.18)
        self.assertEqual(said(end), [])
        # Again, when the repeats were overtaken, too.
        end.send_data(b"x", 0.3)
        end.messages_to_send()
        end.receive(ack(6), 0.31)
        self.assertEqual(said(end), [(wire.INPUT, 1), (wire.INPUT, 2)])

    def test_late_but_in_order(self) -> None:
        """A queue on the way, however long it gets, makes no more of the frames in it."""
        end = channel()
        waiting: deque[int] = deque()
        now = 0.0
        for _ in range(5000):
            now += 0.001
            while end.room:
                waiting.append(end.next_number)
                end.send_data(bytes(PAYLOAD), now)
            end.receive(ack(waiting.popleft()), now)
            end.messages_to_send()
        self.assertEqual(end.counts.repeated, 0)

    def test_room(self) -> None:
        """What is not acknowledged has a bound of ours."""
        end = channel()
        self.assertEqual(end.room, WINDOW)
        end.send_data(bytes(WINDOW), 0)
        self.assertEqual(end.room, 0)
        end.receive(ack(7), 0)
        self.assertEqual(end.room, PAYLOAD)

    def test_pause(self) -> None:
        """Asked to pause it sends nothing new, and the oldest once a second as a probe."""
        for goes_on in (
            wire.build(wire.START, 0, 0, bytes(16), 0, 0, b"?"),
            ack(0),
            output(0),
        ):
            end = channel()
            end.send_data(b"x", 0)
            end.messages_to_send()
            end.receive(wire.build(wire.PAUSE, 0, 0, bytes(16), 0, 0, b"?"), 0)
            self.assertEqual((end.paused, end.room), (True, 0))
            end.tick(0.9)
            self.assertEqual(said(end), [])
            end.tick(1.1)
            self.assertEqual(said(end), [(wire.INPUT, 0)])
            end.receive(goes_on, 1.2)
            self.assertFalse(end.paused)
            self.assertGreater(end.room, 0)

    def test_endless_pause(self) -> None:
        """With nothing under way no repeat asks whether it is over: it is not believed long."""
        pause = wire.build(wire.PAUSE, 0, 0, bytes(16), 0, 0, b"?")
        end = channel()
        end.receive(pause, 0)
        self.assertTrue(end.waiting)
        end.tick(LONGEST_PAUSE)
        self.assertEqual((end.paused, end.room), (True, 0))
        end.receive(pause, LONGEST_PAUSE)  # said again: it begins anew
        end.tick(2 * LONGEST_PAUSE)
        self.assertTrue(end.paused)
        end.tick(2 * LONGEST_PAUSE + 0.1)
        self.assertEqual((end.paused, end.waiting, end.room), (False, False, WINDOW))

    def test_new_socket(self) -> None:
        """Numbers go on; all that is not acknowledged goes again, in order."""
        end = channel()
        end.send_data(bytes(3 * PAYLOAD), 0)
        end.receive(output(0), 0)
        end.receive(ack(1), 0)
        end.messages_to_send()
        end.resumed(5)
        self.assertEqual(said(end), [(wire.INPUT, 0), (wire.INPUT, 2)])
        self.assertEqual(end.receive(output(1), 5), [(1, b"x")])
        end.send_data(b"x", 5)
        self.assertEqual(said(end)[-1], (wire.INPUT, 3))


class SimulatedTests(TestCase):
    """Two ends, and a network that does what it likes."""

    def test_sessions(self) -> None:
        """All bytes arrive, once and in order, without a stall, in bounded memory."""
        seed = printed_seed("simulated sessions")
        for number in range(SESSIONS):
            dice = random.Random(f"{seed}/{number}")
            simulation, up, down = chance_session(dice, (0, 1, 3000, 30_000))
            # A frame that is lost nine times out of ten still comes through within seconds.
            simulation.run(600)
            client, agent = simulation.ends
            self.assertEqual(b"".join(agent.got), up, (seed, number))
            self.assertEqual(b"".join(client.got), down, (seed, number))
            self.assertLessEqual(simulation.most_under_way, WINDOW)

    def test_bulk_on_a_bad_line(self) -> None:
        """A megabyte each way at 1 % loss, 5 % reordered, 5 % twice."""
        seed = printed_seed("a bad line")
        dice = random.Random(seed)
        up, down = dice.randbytes(1_000_000), dice.randbytes(1_000_000)
        simulation = Simulation(dice, Faults(0.01, 0.05, 0.05, 0.01, 0.002), up, down)
        simulation.run(120)
        client, agent = simulation.ends
        self.assertEqual((b"".join(agent.got), b"".join(client.got)), (up, down))
        self.assertEqual(simulation.most_under_way, WINDOW)


class RecordedTests(TestCase):
    """
    Two recorded sessions of the real plugin with the real agent.

    Our end is given the agent's frames, and the data that the plugin sent at
    the point where it sent it first. What differs, and why:

      - ids and dates: chance and the hour;
      - ClientVersion: ours is newer, on purpose (L{handshake.CLIENT_VERSION});
      - repeats: the plugin sends a frame again while the agent is not ready
        for it; ours are a matter of the clock, which stands still here.
    """

    def test_replay(self) -> None:
        """It says what the plugin said: the same acknowledgements, and the same answer."""
        for name, frames in sessions().items():
            self.assertEqual(self.replayed(frames), self.recorded(frames), name)

    def recorded(self, frames: list[tuple[str, bytes]]) -> list[tuple[object, ...]]:
        """What the plugin said, without its repeats."""
        found: list[tuple[object, ...]] = []
        for who, data in frames:
            if who == "client" and (one := self.told(data)) not in found:
                found.append(one)
        return sorted(found, key=str)

    def replayed(self, frames: list[tuple[str, bytes]]) -> list[tuple[object, ...]]:
        """What our end says."""
        end, handshake = channel(), Handshake()
        out: list[bytes] = []
        for who, data in frames:
            message = wire.parse(data)
            if who == "agent":
                for payload_type, payload in end.receive(data, 0):
                    if payload_type in (wire.HANDSHAKE_REQUEST, wire.HANDSHAKE_COMPLETE):
                        answer = handshake.receive(payload_type, payload)
                        if answer is not None:
                            end.send(wire.HANDSHAKE_RESPONSE, answer, 0)
            elif message.kind == wire.INPUT and message.sequence == end.next_number:
                end.send(message.payload_type, message.payload, 0)
            out += end.messages_to_send()
        self.assertEqual(handshake.state.name, "COMPLETE")
        return sorted((self.told(data) for data in out), key=str)

    def told(self, data: bytes) -> tuple[object, ...]:
        """A frame but for what is chance."""
        message = wire.parse(data)
        payload = message.payload.replace(b"1.2.764.0", b"1.2.650.0")
        return (
            message.kind,
            message.sequence,
            message.flags,
            message.payload_type,
            payload,
        )
