"""Tests for L{proxyd.ssh.packets}: what comes from a server before there are keys."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase

from proxyd.ssh.packets import VERSION_LIMIT, PacketTransport
from proxyd.ssh.protection import PlainSealer


class Listener(PacketTransport):
    """Notes what comes, and what is wrong with it."""

    isClient = True

    def __init__(self) -> None:
        super().__init__(Clock())
        self.messages: list[tuple[int, bytes]] = []
        self.faults: list[str] = []
        self.again = 0

    def dispatchMessage(self, messageNum: int, payload: bytes) -> None:
        """A message."""
        self.messages.append((messageNum, payload))

    def broken(self, why: str) -> None:
        """A fault."""
        self.faults.append(why)
        self.over = True

    def exchange_again(self) -> None:
        """New keys are due."""
        self.again += 1


class PacketTests(SynchronousTestCase):
    """Before the keys: the version, and packets in clear."""

    def listener(self) -> Listener:
        """A connection that has begun."""
        listener = Listener()
        listener.makeConnection(StringTransport())
        return listener

    def packets(self, *messages: bytes) -> bytes:
        """A row of packets."""
        sealer = PlainSealer()
        return b"".join(b"".join(sealer.seal(0, message, b"")) for message in messages)

    def test_greeting(self) -> None:
        """We speak first: our version, and what we can."""
        sent = self.listener().transport.value()  # type: ignore[union-attr]
        self.assertTrue(sent.startswith(b"SSH-2.0-"))

    @settings(max_examples=60, deadline=None)
    @given(st.lists(st.integers(1, 40), max_size=30), st.binary(min_size=1, max_size=200))
    def test_any_cut(self, cuts: list[int], body: bytes) -> None:
        """However TCP cuts the stream, the messages are the same; lines before it don't count."""
        listener = self.listener()
        data = b"hello\r\nyou there\r\nSSH-2.0-box\r\n" + self.packets(b"\x14" + body, b"\x02x")
        for cut in cuts:
            listener.dataReceived(data[:cut])
            data = data[cut:]
        listener.dataReceived(data)
        self.assertEqual(listener.messages, [(0x14, body), (2, b"x")])
        self.assertEqual(listener.otherVersionString, b"SSH-2.0-box")

    @settings(max_examples=100, deadline=None)
    @given(st.binary(max_size=400))
    def test_noise(self, noise: bytes) -> None:
        """Noise is a fault or is waited for, and never an exception."""
        listener = self.listener()
        listener.dataReceived(b"SSH-2.0-box\n" + noise)
        listener.dataReceived(noise)
        self.assertLessEqual(len(listener.faults), 1)

    def test_no_version(self) -> None:
        """Who talks and talks without a version is no SSH server."""
        listener = self.listener()
        listener.dataReceived(b"x" * VERSION_LIMIT)
        self.assertEqual(listener.faults, [])
        listener.dataReceived(b"x")
        self.assertEqual(listener.faults, ["this is no SSH server"])

    def test_strict(self) -> None:
        """With the strict exchange nothing may come between, not even what is to be ignored."""
        for strict in (True, False):
            listener = self.listener()
            listener.strict = strict
            listener.dataReceived(b"SSH-2.0-box\n" + self.packets(b"\x02ignore me"))
            self.assertEqual(len(listener.faults), strict)

    def test_waiting(self) -> None:
        """While keys are exchanged only what belongs to it goes."""
        listener = self.listener()
        transport = listener.transport
        assert isinstance(transport, StringTransport)
        transport.clear()
        self.assertTrue(listener.exchanging)
        listener.sendPacket(90, b"open")
        self.assertEqual(transport.value(), b"")
        listener.sendPacket(1, b"goodbye")
        self.assertNotEqual(transport.value(), b"")
