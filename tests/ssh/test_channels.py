"""Tests for L{proxyd.ssh.channels}: a server that obeys the test, and a real one."""

from __future__ import annotations

import os
import pwd
import tempfile
from struct import pack
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import UNIXServerEndpoint
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.protocol import Factory
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from proxyd.config.times import LAST_BYTES
from proxyd.errors import DialError, DialFailure, ProtocolError
from proxyd.ssh import channels as kinds
from proxyd.ssh.channels import Channels
from proxyd.ssh.stream import FIRST_WINDOW, MOST_WINDOW, PACKET
from proxyd.target import Target
from tests.ssh.scene import Echo, SshCase
from tests.support.streams import Party, until

BOX = Target("box.example", 5432)


class FakeClient:
    """A connection that only notes what is sent."""

    def __init__(self) -> None:
        self.sent: list[tuple[int, bytes]] = []

    def sendPacket(self, kind: int, payload: bytes) -> None:
        """Note it."""
        self.sent.append((kind, payload))

    sealed = 0

    def seal(self, head: bytes, data: bytes | memoryview) -> None:
        """Note it."""
        self.sent.append((head[0], head[1:] + bytes(data)))

    def flush(self) -> None:
        """All has been noted."""

    def take(self, kind: int) -> list[bytes]:
        """All messages of a kind since the last call for it."""
        found = [payload for one, payload in self.sent if one == kind]
        self.sent = [one for one in self.sent if one[0] != kind]
        return found


class ChannelsCase(SynchronousTestCase):
    """Channels, and a server that obeys the test."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.client = FakeClient()
        self.channels = Channels(self.client, self.clock)  # type: ignore[arg-type]

    def open(self, party: Party | None = None) -> Deferred[Any]:
        """Ask for a channel."""
        end = party or Party()
        return self.channels.open(BOX, "192.0.2.9", Factory.forProtocol(lambda: end))  # type: ignore[arg-type]

    def opened(self, party: Party | None = None, *, window: int = 1 << 20) -> Party:
        """A channel that is open; its number on the far side is 100 more than on ours."""
        opening = self.open(party)
        number = int.from_bytes(self.client.take(kinds.CHANNEL_OPEN)[0][16:20], "big")
        self.confirm(number, window)
        end = self.successResultOf(opening)
        assert isinstance(end, Party)
        return end

    def confirm(self, number: int, window: int = 1 << 20) -> None:
        """The server opens it."""
        self.channels.ssh_CHANNEL_OPEN_CONFIRMATION(
            pack(">4L", number, number + 100, window, PACKET)
        )

    def data(self, number: int, data: bytes) -> None:
        """The server sends data."""
        packet = b"xx" + pack(">2L", number, len(data)) + data + b"padding"
        self.channels.data_received(packet, 2, len(packet) - 7)
        self.channels.deliver()


class OpenTests(ChannelsCase):
    """How a channel is opened, or not."""

    def test_message(self) -> None:
        """The message says where to, for whom, and with which window (RFC 4254, section 7.2)."""
        self.open()
        (message,) = self.client.take(kinds.CHANNEL_OPEN)
        expected = b"\0\0\0\x0cdirect-tcpip" + pack(">3L", 0, FIRST_WINDOW, PACKET)
        expected += b"\0\0\0\x0bbox.example" + pack(">L", 5432) + b"\0\0\0\x09192.0.2.9" + bytes(4)
        self.assertEqual(message, expected)

    def test_refused(self) -> None:
        """Whoever asked is told, and nothing is left."""
        opening = self.open()
        self.channels.ssh_CHANNEL_OPEN_FAILURE(
            pack(">2L", 0, 2) + b"\0\0\0\x12Connection refused" + bytes(4)
        )
        self.assertIs(self.failureResultOf(opening, DialError).value.failure, DialFailure.REFUSED)
        self.assertEqual(self.channels.count, 0)

    def test_given_up(self) -> None:
        """Who gives up has the channel closed as soon as it is open."""
        for confirmed in (True, False):
            opening = self.open()
            opening.addErrback(lambda _: None)
            opening.cancel()
            (message,) = self.client.take(kinds.CHANNEL_OPEN)
            number = int.from_bytes(message[16:20], "big")
            if confirmed:
                self.confirm(number)
                self.assertEqual(self.client.take(kinds.CHANNEL_CLOSE), [pack(">L", number + 100)])
                self.channels.ssh_CHANNEL_CLOSE(pack(">L", number))
            else:
                self.channels.ssh_CHANNEL_OPEN_FAILURE(pack(">2L", number, 2) + bytes(8))
            self.assertEqual(self.channels.count, 0)

    def test_not_wanted(self) -> None:
        """A factory that wants no protocol, or fails, has its channel closed."""

        class Unwilling(Factory):
            def buildProtocol(self, addr: object) -> None:
                return None

        class Broken(Factory):
            def buildProtocol(self, addr: object) -> None:
                raise ZeroDivisionError

        for factory, error in ((Unwilling(), DialError), (Broken(), ZeroDivisionError)):
            opening = self.channels.open(BOX, "", factory)
            self.confirm(int.from_bytes(self.client.take(kinds.CHANNEL_OPEN)[0][16:20], "big"))
            self.failureResultOf(opening, error)
            self.assertEqual(len(self.client.take(kinds.CHANNEL_CLOSE)), 1)
            self.assertEqual(self.channels.count, 0)


class BadServerTests(ChannelsCase):
    """A server that breaks the protocol."""

    def test_unknown_channels(self) -> None:
        """Messages for channels that nobody opened end the connection."""
        for message in (
            self.channels.ssh_CHANNEL_EOF,
            self.channels.ssh_CHANNEL_CLOSE,
            self.channels.ssh_CHANNEL_WINDOW_ADJUST,
            self.channels.ssh_CHANNEL_OPEN_CONFIRMATION,
            self.channels.ssh_CHANNEL_OPEN_FAILURE,
        ):
            with self.assertRaises(ProtocolError):
                message(pack(">4L", 7, 1, 1, 1))

    def test_beyond_the_window(self) -> None:
        """More data than the window allows ends the connection: memory has a bound."""
        party = self.opened()
        party.stream.pauseProducing()
        for _ in range(FIRST_WINDOW // PACKET):
            self.data(0, bytes(PACKET))
        with self.assertRaises(ProtocolError):
            self.data(0, b"x")

    def test_lengths(self) -> None:
        """Data of another length than it says is no data."""
        self.opened()
        with self.assertRaises(ProtocolError):
            self.channels.data_received(pack(">2L", 0, 5) + b"four", 0, 12)

    def test_its_wishes(self) -> None:
        """What it wants of us is answered with no."""
        self.opened()
        self.channels.ssh_CHANNEL_OPEN(b"\0\0\0\x03x11" + pack(">3L", 5, 1, 1))
        (answer,) = self.client.take(kinds.CHANNEL_OPEN_FAILURE)
        self.assertEqual(answer[:8], pack(">2L", 5, 1))
        self.channels.ssh_GLOBAL_REQUEST(b"\0\0\0\x01x\x01")
        self.channels.ssh_GLOBAL_REQUEST(b"\0\0\0\x01x\x00")
        self.assertEqual(self.client.take(kinds.REQUEST_FAILURE), [b""])
        self.channels.ssh_CHANNEL_REQUEST(pack(">L", 0) + b"\0\0\0\x01x\x01")
        self.assertEqual(self.client.take(kinds.CHANNEL_FAILURE), [pack(">L", 100)])

    def test_wishes_without_end(self) -> None:
        """A server that asks and asks and reads no answer is left: memory has a bound."""
        self.opened()
        wish = b"\0\0\0\x01x\x01"
        for _ in range(2 * kinds.MOST_ANSWERS):
            self.channels.ssh_GLOBAL_REQUEST(wish)
        self.channels.pauseProducing()
        with self.assertRaises(ProtocolError):
            for _ in range(2 * kinds.MOST_ANSWERS):
                self.channels.ssh_GLOBAL_REQUEST(wish)

    def test_late_messages(self) -> None:
        """What was under way when we closed is no fault; then the number is free of meaning."""
        party = self.opened()
        party.stream.abortConnection()
        self.data(0, b"late")
        self.channels.ssh_CHANNEL_EOF(pack(">L", 0))
        self.channels.ssh_CHANNEL_WINDOW_ADJUST(pack(">2L", 0, 5))
        self.channels.ssh_CHANNEL_CLOSE(pack(">L", 0))
        with self.assertRaises(ProtocolError):
            self.channels.ssh_CHANNEL_CLOSE(pack(">L", 0))


class WindowTests(ChannelsCase):
    """How much may be under way."""

    def granted(self) -> int:
        """What the server was told since the last call that it may send."""
        told = self.client.take(kinds.CHANNEL_WINDOW_ADJUST)
        return sum(int.from_bytes(one[4:8], "big") for one in told)

    def test_only_what_was_taken(self) -> None:
        """A reader that pauses has the window opened only as it takes."""
        party = self.opened()
        party.stream.pauseProducing()
        for _ in range(FIRST_WINDOW // PACKET):
            self.data(0, bytes(PACKET))
        self.assertEqual((self.granted(), party.received), (0, 0))
        party.stream.resumeProducing()
        self.assertEqual((self.granted(), party.received), (FIRST_WINDOW, FIRST_WINDOW))

    def test_grows_on_long_ways(self) -> None:
        """Where a round trip takes long, the window doubles up to its limit, and no further."""
        self.channels.round_trip = 0.5
        self.opened()
        given = FIRST_WINDOW
        taken = 0
        for _ in range(1000):
            self.data(0, bytes(PACKET))
            taken += PACKET
            self.clock.advance(0.001)
            given += self.granted()
        self.assertLessEqual(given - taken, MOST_WINDOW)
        self.assertGreater(given - taken, MOST_WINDOW // 2)

    def test_stays_on_short_ways(self) -> None:
        """Where it is short, the window stays as it is."""
        self.channels.round_trip = 0.0001
        self.opened()
        given = FIRST_WINDOW
        for _ in range(1000):
            self.data(0, bytes(PACKET))
            self.clock.advance(0.001)
            given += self.granted()
        self.assertLessEqual(given - 1000 * PACKET, FIRST_WINDOW)

    def test_far_window(self) -> None:
        """No more is sent than the far window takes, in packets that it takes."""
        party = self.opened(window=50_000)
        party.stream.write(bytes(200_000))
        sizes = [len(one) - 8 for one in self.client.take(kinds.CHANNEL_DATA)]
        self.assertEqual((sizes, party.stream.pending), ([PACKET, 50_000 - PACKET], 150_000))
        self.channels.ssh_CHANNEL_WINDOW_ADJUST(pack(">2L", 0, 150_000))
        self.assertEqual(sum(len(one) - 8 for one in self.client.take(kinds.CHANNEL_DATA)), 150_000)

    def test_small_pieces_are_joined(self) -> None:
        """What has to wait goes in as few packets as it takes."""
        party = self.opened(window=0)
        for _ in range(1000):
            party.stream.write(b"piece")
        self.channels.ssh_CHANNEL_WINDOW_ADJUST(pack(">2L", 0, 100_000))
        (one,) = self.client.take(kinds.CHANNEL_DATA)
        self.assertEqual(one[8:], b"piece" * 1000)


class TurnTests(ChannelsCase):
    """Who sends when the connection takes no more for a while."""

    def test_turns(self) -> None:
        """A packet each, in turns, as long as the connection takes them."""
        parties = [self.opened() for _ in range(3)]
        self.channels.pauseProducing()
        for party in parties:
            party.stream.write(bytes(2 * PACKET))
        self.assertEqual(self.client.take(kinds.CHANNEL_DATA), [])
        self.channels.resumeProducing()
        order = [int.from_bytes(one[:4], "big") for one in self.client.take(kinds.CHANNEL_DATA)]
        self.assertEqual(order, [100, 101, 102, 100, 101, 102])

    def test_end_waits_for_data(self) -> None:
        """An end and a close go behind what waits."""
        party = self.opened()
        self.channels.pauseProducing()
        party.stream.write(b"last words")
        party.stream.loseWriteConnection()
        party.stream.loseConnection()
        self.assertEqual(self.client.sent, [])
        self.channels.resumeProducing()
        kinds_sent = [kind for kind, _ in self.client.sent]
        self.assertEqual(kinds_sent, [kinds.CHANNEL_DATA, kinds.CHANNEL_EOF, kinds.CHANNEL_CLOSE])

    def test_saturation(self) -> None:
        """How long the connection has been full is known."""
        self.clock.advance(5.0)
        self.assertIsNone(self.channels.saturated_since)
        self.channels.pauseProducing()
        self.clock.advance(5.0)
        self.channels.pauseProducing()
        self.assertEqual(self.channels.saturated_since, 5.0)
        self.channels.resumeProducing()
        self.assertIsNone(self.channels.saturated_since)


class LastBytesTests(ChannelsCase):
    """What waits when its writer has closed, and the far side takes it slowly, or not at all."""

    def test_far_window_stays_shut(self) -> None:
        """A far side that takes nothing more does not keep a channel for ever."""
        party = self.opened(window=10)
        party.stream.write(b"more than it takes")
        party.stream.loseConnection()
        self.clock.advance(LAST_BYTES - 1)
        self.assertEqual((self.channels.count, self.client.take(kinds.CHANNEL_CLOSE)), (1, []))
        self.clock.advance(2)
        self.assertEqual(self.channels.count, 0)
        self.assertEqual(self.client.take(kinds.CHANNEL_CLOSE), [pack(">L", 100)])
        self.clock.advance(0)
        self.assertIsInstance(party.reason, ConnectionAborted)

    def test_slow(self) -> None:
        """One that takes a byte at a time gets them all, and the end behind them."""
        party = self.opened(window=0)
        party.stream.write(b"0123456789")
        party.stream.loseConnection()
        for _ in range(10):
            self.clock.advance(LAST_BYTES - 1)
            self.channels.ssh_CHANNEL_WINDOW_ADJUST(pack(">2L", 0, 1))
        came = b"".join(one[8:] for one in self.client.take(kinds.CHANNEL_DATA))
        self.assertEqual((came, self.channels.count), (b"0123456789", 0))
        self.clock.advance(0)
        self.assertIsInstance(party.reason, ConnectionDone)

    def test_half_closed(self) -> None:
        """One that only sends no more, but listens, may wait as long as it likes."""
        party = self.opened(window=0)
        party.stream.write(b"question")
        party.stream.loseWriteConnection()
        self.clock.advance(100 * LAST_BYTES)
        self.assertEqual((self.channels.count, party.reason), (1, None))

    def test_far_side_closed(self) -> None:
        """Nothing is waited for when the far side has closed, read or unread."""
        for closed_first in (False, True):
            party = self.opened(window=0)
            number = party.stream.number
            party.stream.pauseProducing()
            self.data(number, b"never read")
            party.stream.write(b"never taken")
            steps = [
                lambda number=number: self.channels.ssh_CHANNEL_CLOSE(pack(">L", number)),
                party.stream.loseConnection,
            ]
            for step in steps if closed_first else reversed(steps):
                step()
            self.clock.advance(0)
            lost = party.events.count("lost")
            self.assertEqual((self.channels.count, lost), (0, 1), closed_first)

    def test_lost(self) -> None:
        """With the connection, all waiting ends."""
        party = self.opened(window=0)
        party.stream.write(b"never taken")
        party.stream.loseConnection()
        self.channels.lost("gone")
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertIsInstance(party.reason, ConnectionLost)


class RealTests(SshCase):
    """What OpenSSH does with them."""

    async def test_forbidden(self) -> None:
        """A server that forbids forwarding, altogether or to this target."""
        for option in ("AllowTcpForwarding no", "PermitOpen 192.0.2.1:1"):
            channels = await self.connect(self.sshd(option))
            problem = await self.dial_fails(
                channels.open(await self.target(), "", Factory.forProtocol(Party))
            )
            self.assertIs(problem.failure, DialFailure.DENIED)

    async def test_failures(self) -> None:
        """A port that refuses, a name that is none."""
        channels = await self.connect(self.sshd())
        for target, failure in (
            (Target("127.0.0.1", 1), DialFailure.REFUSED),
            (Target("no.such.name.invalid", 1), DialFailure.NAME),
        ):
            problem = await self.dial_fails(channels.open(target, "", Factory.forProtocol(Party)))
            self.assertIs(problem.failure, failure)

    async def test_unix_target(self) -> None:
        """A UNIX socket of the far machine."""
        folder = tempfile.TemporaryDirectory(prefix="proxyd-ssh-")
        self.addCleanup(folder.cleanup)
        server = self.sshd()
        if os.getuid() == 0:
            os.chown(folder.name, pwd.getpwnam(server.user).pw_uid, 0)
        endpoint = UNIXServerEndpoint(reactor, f"{folder.name}/socket", mode=0o777)  # type: ignore[no-untyped-call]
        port = await endpoint.listen(Factory.forProtocol(Echo))
        self.addCleanup(port.stopListening)
        channels = await self.connect(server)
        party = Party()
        target = Target(f"{folder.name}/socket", 0)
        await channels.open(target, "", Factory.forProtocol(lambda: party))  # type: ignore[arg-type]
        party.stream.write(b"hello")
        await until(lambda: party.received == 5, "the echo")
        party.stream.loseConnection()
        await until(lambda: party.lost and not channels.count, "the end")

    async def test_many(self) -> None:
        """Three hundred at once in one connection, though MaxSessions is ten."""
        channels = await self.connect(self.sshd("MaxSessions 10"))
        target = await self.target()
        parties = [Party() for _ in range(300)]
        for party in parties:
            channels.open(target, "", Factory.forProtocol(lambda party=party: party))  # type: ignore[misc, arg-type]
        await until(lambda: all("made" in party.events for party in parties), "all to be open")
        for party in parties:
            party.stream.write(b"hello")
        await until(lambda: all(party.received == 5 for party in parties), "all echoes")
        for party in parties:
            party.stream.loseConnection()
        await until(lambda: not channels.count, "all to be gone")
