"""Tests for L{proxyd.wire.agent.mux}: two ends in memory, and peers that break the rules."""

from __future__ import annotations

import random
from collections import deque
from struct import pack

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from proxyd.errors import LocalProtocolError, ProtocolError
from proxyd.wire.agent import events as told
from proxyd.wire.agent.frames import Code, Kind, frame, number_payload, open_payload
from proxyd.wire.agent.giving_way import MEMORY
from proxyd.wire.agent.mux import Mux
from proxyd.wire.agent.outbox import HIGH, QUANTUM
from proxyd.wire.agent.stream import EAGER, USUAL, Limits
from tests.support.seeds import SOAK, printed_seed

MIB = 1024 * 1024


class Pair:
    """A server's and an agent's end, with nothing lost between them."""

    def __init__(self, limits: Limits = USUAL, delay: float = 0.0) -> None:
        self.server = Mux(opener=True, limits=limits)
        self.agent = Mux(opener=False, limits=limits)
        self.now = 0.0
        self.delay = delay
        self.seen: dict[Mux, list[told.Event]] = {self.server: [], self.agent: []}
        self.received: dict[tuple[Mux, int], bytearray] = {}
        self.consume = True
        self.messages = 0

    def deliver(self, source: Mux, target: Mux) -> bool:
        """Carry one message."""
        message = source.next_message()
        self.seen[source] += source.take_events()
        if not message:
            return False
        self.messages += 1
        self.now += self.delay
        target.receive_message(message, self.now)
        for event in target.take_events():
            self.seen[target].append(event)
            if isinstance(event, told.Data):
                self.received.setdefault((target, event.stream), bytearray()).extend(event.data)
                if self.consume:
                    target.consumed(event.stream, len(event.data), self.now)
            elif isinstance(event, told.OpenRequested):
                target.accept(event.stream, self.now)
        return True

    def settle(self) -> None:
        """Carry until both are silent."""
        while self.deliver(self.server, self.agent) | self.deliver(self.agent, self.server):
            pass

    def opened(self) -> int:
        """A stream that is there."""
        number = self.server.open({"remote_host": "db", "remote_port": 5432}, self.now)
        self.settle()
        return number

    def got(self, end: Mux, number: int) -> bytes:
        """What an end was given of a stream."""
        return bytes(self.received.get((end, number), b""))


class StreamTests(SynchronousTestCase):
    """What goes in at one end comes out at the other."""

    def setUp(self) -> None:
        self.pair = Pair()

    def test_open(self) -> None:
        """The other side learns where to; the opener that it is there."""
        pair = self.pair
        number = pair.opened()
        (asked,) = pair.seen[pair.agent]
        assert isinstance(asked, told.OpenRequested)
        self.assertEqual(asked.fields, {"remote_host": "db", "remote_port": 5432})
        self.assertEqual(pair.seen[pair.server], [told.Opened(number)])

    def test_refused(self) -> None:
        """A refusal brings its code and text, and the stream is gone."""
        server, agent = self.pair.server, self.pair.agent
        number = server.open({}, 0.0)
        agent.receive_message(server.next_message(), 0.0)
        agent.refuse(number, Code.REFUSED, "nobody there")
        server.receive_message(agent.next_message(), 0.0)
        self.assertEqual(
            server.take_events(), [told.OpenFailed(number, Code.REFUSED, "nobody there")]
        )
        self.assertEqual((server.streams_open, agent.streams_open), (0, 0))

    def test_both_ways(self) -> None:
        """A megabyte each way at once, in order and whole."""
        pair = self.pair
        number = pair.opened()
        there, back = random.Random(1).randbytes(MIB), random.Random(2).randbytes(MIB)
        pair.server.send(number, there)
        pair.agent.send(number, back)
        pair.settle()
        self.assertEqual(pair.got(pair.agent, number), there)
        self.assertEqual(pair.got(pair.server, number), back)

    def test_half_close(self) -> None:
        """One direction ends, the other goes on; when both have, the stream is gone."""
        pair = self.pair
        number = pair.opened()
        pair.server.send(number, b"request")
        pair.server.finish(number)
        pair.settle()
        self.assertIn(told.Finished(number), pair.seen[pair.agent])
        self.assertEqual(pair.agent.streams_open, 1)
        pair.agent.send(number, b"answer")
        pair.agent.finish(number)
        pair.settle()
        self.assertEqual(pair.got(pair.server, number), b"answer")
        self.assertEqual(pair.seen[pair.server][-2:], [told.Finished(number), told.Closed(number)])
        self.assertIn(told.Closed(number), pair.seen[pair.agent])
        self.assertEqual((pair.server.streams_open, pair.agent.streams_open), (0, 0))

    def test_reset(self) -> None:
        """A stream that is given up is gone at both ends; what still comes for it is ignored."""
        pair = self.pair
        number = pair.opened()
        pair.agent.send(number, b"late")
        late = pair.agent.next_message()
        pair.server.reset(number, Code.SLOW, "too slow")
        pair.server.receive_message(late, 0.0)
        self.assertEqual(pair.server.take_events(), [])
        pair.settle()
        self.assertEqual(pair.seen[pair.agent][-1], told.WasReset(number, Code.SLOW, "too slow"))
        self.assertEqual((pair.server.streams_open, pair.agent.streams_open), (0, 0))

    def test_eager(self) -> None:
        """Some bytes go before the answer, and no more; after it the rest does."""
        server, agent = self.pair.server, self.pair.agent
        number = server.open({}, 0.0)
        server.send(number, b"x" * (3 * EAGER))
        server.finish(number)
        agent.receive_message(server.next_message(), 0.0)
        events = agent.take_events()
        sizes = [len(event.data) for event in events if isinstance(event, told.Data)]
        self.assertEqual(sum(sizes), EAGER)
        self.assertEqual(server.next_message(), b"")
        agent.accept(number, 0.0)
        self.pair.settle()
        rest = self.pair.got(agent, number)
        self.assertEqual(len(rest), 2 * EAGER)
        self.assertIn(told.Finished(number), self.pair.seen[agent])

    def test_compressed(self) -> None:
        """What can be compressed goes as less; what can't goes as it is."""
        for data, smaller in (
            (b"hello, world. " * 20_000, True),
            (random.Random(3).randbytes(MIB), False),
        ):
            pair = Pair()
            number = pair.server.open({}, 0.0, compress=True)
            pair.settle()
            pair.server.send(number, data)
            sent = 0
            while message := pair.server.next_message():
                sent += len(message)
                pair.agent.receive_message(message, 0.0)
                for event in pair.agent.take_events():
                    assert isinstance(event, told.Data)
                    pair.received.setdefault((pair.agent, number), bytearray()).extend(event.data)
                    pair.agent.consumed(number, len(event.data), 0.0)
                pair.deliver(pair.agent, pair.server)
            self.assertEqual(pair.got(pair.agent, number), data)
            self.assertEqual(sent < len(data) / 4, smaller)

    def test_ping(self) -> None:
        """How long it takes there and back."""
        pair = Pair(delay=0.05)
        pair.server.ping(pair.now)
        pair.settle()
        alive = pair.seen[pair.server][0]
        assert isinstance(alive, told.Alive)
        self.assertAlmostEqual(alive.round_trip, 0.1)

    def test_go_away(self) -> None:
        """A session that ends says why."""
        self.pair.server.go_away(Code.REPLACED, "a newer one is here")
        self.pair.settle()
        gone = told.GoneAway(Code.REPLACED, "a newer one is here")
        self.assertEqual(self.pair.seen[self.pair.agent], [gone])

    def test_datagram(self) -> None:
        """Datagrams keep their borders."""
        number = self.pair.opened()
        for data in (b"one", b"", b"three"):
            self.pair.server.datagram(number, data)
        self.pair.settle()
        got = [
            one.data for one in self.pair.seen[self.pair.agent] if isinstance(one, told.Datagram)
        ]
        self.assertEqual(got, [b"one", b"", b"three"])

    def test_later_version(self) -> None:
        """Frames of an unknown kind are skipped, flags and fields too."""
        number = self.pair.opened()
        later = frame(Kind.DATA, number, b"a")
        self.pair.agent.receive_message(pack("!BBHI", 99, 7, 3, 12345) + b"abc" + later, 0.0)
        self.assertEqual(self.pair.agent.take_events(), [told.Data(number, (b"a",))])


class CreditTests(SynchronousTestCase):
    """Nobody is sent more than he can take, and nobody waits for somebody else."""

    def test_slow_reader(self) -> None:
        """One that never reads costs its window; the sender is told to stop; others go on."""
        limits = Limits(window=256 * 1024)
        pair = Pair(limits)
        slow, quick = pair.opened(), pair.opened()
        pair.consume = False
        self.assertFalse(pair.server.send(slow, b"s" * MIB))
        pair.settle()
        self.assertEqual(len(pair.got(pair.agent, slow)), limits.window)
        pair.consume = True
        pair.server.send(quick, b"q" * MIB)
        pair.settle()
        self.assertEqual(len(pair.got(pair.agent, quick)), MIB)
        self.assertEqual(len(pair.got(pair.agent, slow)), limits.window)
        pair.agent.consumed(slow, limits.window, 0.0)
        pair.settle()
        self.assertEqual(len(pair.got(pair.agent, slow)), MIB)

    def test_full(self) -> None:
        """A stream that is full says when it is no longer."""
        pair = Pair()
        number = pair.opened()
        self.assertTrue(pair.server.send(number, b"x" * HIGH))
        self.assertFalse(pair.server.send(number, b"x"))
        pair.settle()
        self.assertIn(told.Writable(number), pair.seen[pair.server])
        self.assertTrue(pair.server.send(number, b"x"))

    def test_nobody_reads(self) -> None:
        """Many writers to a peer that takes nothing: together they are held back in time."""
        limits = Limits(budget=4 * MIB)
        server = Mux(opener=True, limits=limits)
        numbers = [server.open({}, 0.0) for _ in range(200)]
        kept = 0
        for number in numbers:
            while server.send(number, bytes(min(server.room, 65_536))):
                kept += server.room
        self.assertLess(kept, 2 * limits.budget)
        for number in numbers[10:]:
            server.reset(number, Code.RESET)
        self.assertEqual(server.room, HIGH)

    def test_window_grows(self) -> None:
        """Where the way is long the window becomes larger, up to its limit; the budget holds."""
        limits = Limits(window=64 * 1024, most_window=MIB, budget=2 * MIB)
        pair = Pair(limits, delay=0.1)
        pair.agent.ping(0.0)
        pair.settle()
        number = pair.opened()
        pair.delay = 0.001
        pair.server.send(number, b"x" * (8 * MIB))
        pair.settle()
        self.assertEqual(len(pair.got(pair.agent, number)), 8 * MIB)
        pair.consume = False
        pair.received.clear()
        pair.server.send(number, b"y" * (8 * MIB))
        pair.settle()
        grown = len(pair.got(pair.agent, number))
        self.assertGreater(grown, 4 * limits.window)
        self.assertLessEqual(grown, limits.most_window)

    def test_window_of_who_reads_little(self) -> None:
        """What only the kernel's buffers took for a reader is no reason for a larger window."""
        pair = Pair(delay=0.1)
        pair.agent.ping(0.0)
        pair.settle()
        number = pair.opened()
        pair.delay = 0.0
        pair.server.send(number, b"x" * (5 * MIB))
        pair.settle()
        pair.consume = False
        pair.received.clear()
        pair.server.send(number, b"y" * (8 * MIB))
        pair.settle()
        self.assertLessEqual(len(pair.got(pair.agent, number)), USUAL.window)

    def on_its_way(self, pair: Pair, number: int) -> int:
        """How much of a stream comes while nothing of it is read; then it is."""
        pair.consume = False
        pair.received.clear()
        pair.server.send(number, b"y" * (16 * MIB))
        pair.settle()
        came = len(pair.got(pair.agent, number))
        pair.consume = True
        pair.agent.consumed(number, came, pair.now)
        pair.settle()
        return came

    def test_window_where_the_way_is_short(self) -> None:
        """There it does not grow, whatever a single ping that was late by chance says."""
        pair = Pair(delay=0.1)
        pair.agent.ping(pair.now)
        pair.deliver(pair.agent, pair.server)
        pair.deliver(pair.server, pair.agent)
        pair.delay = 0.0002
        pair.settle()
        number = pair.opened()
        for _ in range(3):
            self.assertLessEqual(self.on_its_way(pair, number), USUAL.window)

    def test_giving_way(self) -> None:
        """Where the way is short bulk has less on it while somebody types, and only then."""
        pair = Pair(delay=0.0001)
        pair.agent.ping(pair.now)
        pair.settle()
        bulk, typing = pair.opened(), pair.opened()
        pair.delay = 0.0
        self.assertEqual(self.on_its_way(pair, bulk), USUAL.window)
        pair.server.send(typing, b"l")
        pair.settle()
        pair.server.send(bulk, b"x" * (4 * MIB))
        pair.settle()
        self.assertLessEqual(self.on_its_way(pair, bulk), USUAL.quick_window)
        pair.now += 2 * MEMORY
        pair.server.send(bulk, b"x" * (4 * MIB))
        pair.settle()
        came = self.on_its_way(pair, bulk)
        self.assertLessEqual(came, USUAL.window)
        self.assertGreater(came, USUAL.window // 2)

    def test_giving_way_costs_no_budget(self) -> None:
        """What is withheld of a window is free again when its stream is gone."""
        limits = Limits(budget=2 * USUAL.window)
        pair = Pair(limits, delay=0.0002)
        pair.agent.ping(pair.now)
        pair.settle()
        pair.delay = 0.0
        bulk, typing = pair.opened(), pair.opened()
        for _ in range(3):
            pair.server.send(typing, b"l")
            pair.server.send(bulk, b"x" * (4 * MIB))
            pair.settle()
            pair.server.reset(bulk, Code.RESET)
            pair.settle()
            pair.now += 2 * MEMORY
            bulk = pair.opened()
            self.assertEqual(self.on_its_way(pair, bulk), limits.window)

    def test_window_stays(self) -> None:
        """A ping that waits behind bulk does not make the way longer than it is."""
        limits = Limits(window=64 * 1024, most_window=MIB)
        pair = Pair(limits, delay=0.001)
        pair.agent.ping(pair.now)
        pair.settle()
        pair.delay = 0.1
        pair.agent.ping(pair.now)
        pair.settle()
        self.assertGreater(pair.agent.round_trip, 0.1)
        pair.delay = 0.001
        number = pair.opened()
        pair.server.send(number, b"x" * (8 * MIB))
        pair.settle()
        pair.consume = False
        pair.received.clear()
        pair.server.send(number, b"y" * (8 * MIB))
        pair.settle()
        self.assertEqual(len(pair.got(pair.agent, number)), limits.window)

    def test_interactive(self) -> None:
        """A keystroke is in the next message, whatever else is waiting."""
        pair = Pair()
        bulk = [pair.opened() for _ in range(8)]
        typing = pair.opened()
        for number in bulk:
            pair.server.send(number, b"b" * MIB)
        for _ in range(3):
            pair.deliver(pair.server, pair.agent)
        pair.server.send(typing, b"l")
        pair.deliver(pair.server, pair.agent)
        self.assertEqual(pair.got(pair.agent, typing), b"l")

    def test_turns(self) -> None:
        """Streams that all have much to say get the same."""
        pair = Pair()
        bulk = [pair.opened() for _ in range(4)]
        for number in bulk:
            pair.server.send(number, b"b" * MIB)
        for _ in range(8):
            pair.deliver(pair.server, pair.agent)
        sizes = [len(pair.got(pair.agent, number)) for number in bulk]
        self.assertLessEqual(max(sizes) - min(sizes), 2 * QUANTUM)


class HostileTests(SynchronousTestCase):
    """A peer that breaks the rules ends its session, and nothing else."""

    def setUp(self) -> None:
        self.pair = Pair()
        self.number = self.pair.opened()

    def assert_broken(self, end: Mux, *messages: bytes) -> None:
        """The last of these messages is refused."""
        for message in messages[:-1]:
            end.receive_message(message, 0.0)
        self.assertRaises(ProtocolError, end.receive_message, messages[-1], 0.0)

    def test_forged_ids(self) -> None:
        """Frames for streams that never were."""
        for forged in (0, 1, 3, self.number + 2, 2**31):
            for kind in (Kind.DATA, Kind.FIN, Kind.CREDIT, Kind.RESET, Kind.OPEN_OK):
                self.assert_broken(self.pair.server, frame(kind, forged, b"\0\0\0\1"))

    def test_credit_overrun(self) -> None:
        """More data than was allowed."""
        piece = frame(Kind.DATA, self.number, b"x" * 65_535)
        self.assert_broken(self.pair.server, piece * (USUAL.window // 65_535) + piece)

    def test_credit_overflow(self) -> None:
        """More credit than there can be."""
        much = frame(Kind.CREDIT, self.number, number_payload(2**32 - 1))
        self.assert_broken(self.pair.server, much)

    def test_agent_opens(self) -> None:
        """An agent that asks the server for a stream."""
        self.assert_broken(self.pair.server, frame(Kind.OPEN, 3, b"{}"))

    def test_old_ids(self) -> None:
        """An id is used once, and is even."""
        good = open_payload({"window": 65536})
        for number in (self.number, 5):
            self.assert_broken(self.pair.agent, frame(Kind.OPEN, number, good))

    def test_windows(self) -> None:
        """A window that can't be, in OPEN and in OPEN_OK."""
        for window in (0, -1, 2**31, "x", None, True):
            message = frame(Kind.OPEN, self.number + 2, open_payload({"window": window}))
            self.assert_broken(Pair().agent, message)
        number = self.pair.server.open({}, 0.0)
        self.assert_broken(self.pair.server, frame(Kind.OPEN_OK, number, number_payload(0)))

    def test_after_the_end(self) -> None:
        """Data or another end after the end."""
        for again in (frame(Kind.DATA, self.number, b"x"), frame(Kind.FIN, self.number)):
            pair = Pair()
            number = pair.opened()
            self.assertEqual(number, self.number)
            self.assert_broken(pair.server, frame(Kind.FIN, number), again)

    def test_two_answers(self) -> None:
        """A stream is answered once."""
        answer = frame(Kind.OPEN_OK, self.number, number_payload(65536))
        self.assert_broken(self.pair.server, answer)

    def test_malformed(self) -> None:
        """Frames that are cut, and payloads that are none."""
        for message in (
            b"\4",
            frame(Kind.DATA, self.number, b"abc")[:-1],
            frame(Kind.CREDIT, self.number, b"\0"),
            frame(Kind.RESET, self.number, b""),
            frame(Kind.GOAWAY, 0, b"abc"),
        ):
            self.assert_broken(self.pair.server, message)
        for payload in (b"", b"[]", b"{", b"\xff", b"[" * 60_000):
            self.assert_broken(self.pair.agent, frame(Kind.OPEN, 9998, payload))

    def test_compressed_bomb(self) -> None:
        """A few bytes that stand for megabytes."""
        import zlib

        packer = zlib.compressobj(9, zlib.DEFLATED, -13)
        bomb = packer.compress(b"\0" * (64 * MIB)) + packer.flush(zlib.Z_SYNC_FLUSH)
        self.assert_broken(
            self.pair.server, pack("!BBHI", Kind.DATA, 2, 60_000, self.number) + bomb[:60_000]
        )

    def test_too_many(self) -> None:
        """More streams than are allowed are refused one by one, and the session goes on."""
        limits = Limits(streams=3)
        agent = Mux(opener=False, limits=limits)
        for number in (2, 4, 6, 8):
            agent.receive_message(frame(Kind.OPEN, number, open_payload({"window": 65536})), 0.0)
        self.assertEqual(len(agent.take_events()), 3)
        self.assertIn(frame(Kind.OPEN_FAIL, 8, b"\0\6too many streams"), agent.next_message())
        server = Mux(opener=True, limits=limits)
        for _ in range(3):
            server.open({}, 0.0)
        self.assertTrue(server.full)
        self.assertRaises(LocalProtocolError, server.open, {}, 0.0)

    def test_pings_without_end(self) -> None:
        """A peer that asks and asks, and takes no answer."""
        flood = frame(Kind.PING, 0, b"12345678") * 4000
        with self.assertRaises(ProtocolError):
            for _ in range(20):
                self.pair.server.receive_message(flood, 0.0)

    @given(st.lists(st.binary(max_size=200), max_size=20), st.booleans())
    def test_noise(self, messages: list[bytes], opener: bool) -> None:
        """Noise never raises anything but ProtocolError."""
        pair = Pair()
        pair.opened()
        end = pair.server if opener else pair.agent
        try:
            for message in messages:
                end.receive_message(message, 0.0)
                end.take_events()
                end.next_message()
        except ProtocolError:
            pass

    @given(
        st.lists(
            st.tuples(
                st.integers(0, 12),
                st.integers(0, 3),
                st.integers(0, 10),
                st.binary(max_size=60),
            ),
            max_size=60,
        ),
        st.booleans(),
    )
    @settings(max_examples=300)
    def test_frames(self, frames: list[tuple[int, int, int, bytes]], opener: bool) -> None:
        """Well-formed frames in any order, too."""
        pair = Pair()
        pair.opened()
        end = pair.server if opener else pair.agent
        try:
            for kind, flags, number, payload in frames:
                message = pack("!BBHI", kind, flags, len(payload), number) + payload
                end.receive_message(message, 0.0)
                for event in end.take_events():
                    if isinstance(event, told.OpenRequested):
                        end.accept(event.stream, 0.0)
                end.next_message()
        except ProtocolError:
            pass


class AnythingTests(SynchronousTestCase):
    """Random users on one session: each gets what was sent to it, whole, and in order."""

    def test_schedules(self) -> None:
        """Opens, data of all sizes, ends, resets, pauses, in an order that a seed decides."""
        seed = printed_seed("tests.wire.agent.test_mux")
        for run in range(20_000 if SOAK else 150):
            with self.subTest(run=run, seed=seed):
                self.one(random.Random(f"{seed} {run}"))

    def one(self, chance: random.Random) -> None:
        """One schedule."""
        limits = Limits(
            window=chance.choice((64, 256)) * 1024, most_window=MIB, budget=2 * MIB, streams=50
        )
        ends = Mux(opener=True, limits=limits), Mux(opener=False, limits=limits)
        way: tuple[deque[bytes], deque[bytes]] = (deque(), deque())
        sent: dict[tuple[int, int], bytearray] = {}
        got: dict[tuple[int, int], bytearray] = {}
        live: list[set[int]] = [set(), set()]
        ended: list[set[int]] = [set(), set()]
        resets: set[int] = set()
        owed: list[dict[int, int]] = [{}, {}]

        def step(side: int) -> None:
            mux = ends[side]
            if way[1 - side]:
                mux.receive_message(way[1 - side].popleft(), 0.0)
            if chance.random() < 0.7 and (
                message := mux.next_message(chance.choice((1, 1000, 65536)))
            ):
                way[side].append(message)
            for event in mux.take_events():
                number = getattr(event, "stream", 0)
                if isinstance(event, told.OpenRequested):
                    mux.accept(number, 0.0, compress=chance.random() < 0.3)
                    live[side].add(number)
                elif isinstance(event, told.Data):
                    got.setdefault((side, number), bytearray()).extend(event.data)
                    owed[side][number] = owed[side].get(number, 0) + len(event.data)
                elif isinstance(event, told.WasReset):
                    live[side].discard(number)
                    resets.add(number)
            for number, count in list(owed[side].items()):
                if chance.random() < 0.5:
                    mux.consumed(number, count, 0.0)
                    del owed[side][number]

        for _ in range(300):
            side = chance.randrange(2)
            mux, dice = ends[side], chance.random()
            if dice < 0.1 and not mux.full and side == 0:
                live[0].add(mux.open({}, 0.0, compress=chance.random() < 0.3))
            elif dice < 0.4 and live[side]:
                number = chance.choice(sorted(live[side]))
                if number not in ended[side]:
                    data = chance.randbytes(1) * chance.choice((1, 100, 5_000, 70_000))
                    mux.send(number, data)
                    sent.setdefault((side, number), bytearray()).extend(data)
            elif dice < 0.45 and live[side]:
                number = chance.choice(sorted(live[side]))
                if number not in ended[side]:
                    mux.finish(number)
                    ended[side].add(number)
            elif dice < 0.47 and live[side]:
                number = chance.choice(sorted(live[side]))
                if not (number in ended[0] and number in ended[1]):
                    mux.reset(number, Code.RESET)
                    live[side].discard(number)
                    ended[side].add(number)
                    resets.add(number)
            else:
                step(side)
        quiet = 0
        while quiet < 60:
            before = sum(map(len, got.values()))
            for side in (0, 1):
                step(side)
            busy = (
                way[0]
                or way[1]
                or before != sum(map(len, got.values()))
                or ends[0].pending
                or ends[1].pending
            )
            quiet = 0 if busy else quiet + 1
        for (side, number), data in sent.items():
            received = got.get((1 - side, number), bytearray())
            if number in resets:
                self.assertTrue(data.startswith(received))
            else:
                self.assertEqual(received, data)
