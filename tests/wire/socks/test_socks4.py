"""Tests for L{proxyd.wire.socks.socks4}."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from proxyd.errors import LocalProtocolError, ProtocolError
from proxyd.wire.socks.socks4 import Socks4
from proxyd.wire.socks.words import Asked, Command, Event, Refusal, State
from tests.wire.cuts import cut, places

PLAIN = b"\4\1\0\x50\x0a\0\0\1ann\0"
NAMED = b"\4\1\0\x50\0\0\0\1ann\0db.internal\0"


class Socks4Tests(SynchronousTestCase):
    """SOCKS4 and 4A."""

    @given(st.binary(max_size=50), places)
    def test_cuts(self, early: bytes, where: list[int]) -> None:
        """However TCP cuts it, the same is asked, and early data is kept."""
        for request, host in ((PLAIN, "10.0.0.1"), (NAMED, "db.internal")):
            machine = Socks4(False)
            events: list[Event] = []
            for chunk in cut(request + early, where):
                events += machine.receive_data(chunk)
            self.assertEqual(events, [Asked(Command.CONNECT, host, 80)])
            self.assertEqual(machine.trailing_data, early)

    @given(st.lists(st.binary(max_size=300), max_size=4))
    def test_noise(self, chunks: list[bytes]) -> None:
        """Noise never raises anything but ProtocolError."""
        machine = Socks4(False)
        try:
            for chunk in [b"\4", *chunks]:
                machine.receive_data(chunk)
        except ProtocolError:
            self.assertEqual(machine.state, State.FAILED)

    def test_answers(self) -> None:
        """Granted with our own address, or rejected."""
        machine = Socks4(False)
        machine.receive_data(PLAIN)
        machine.accept("10.0.0.9", 258)
        self.assertEqual(machine.data_to_send(), b"\0\x5a\1\2\x0a\0\0\x09")
        self.assertRaises(LocalProtocolError, machine.refuse, Refusal.DENIED)
        machine = Socks4(False)
        machine.receive_data(PLAIN)
        machine.refuse(Refusal.REFUSED)
        self.assertEqual(machine.data_to_send(), b"\0\x5b" + bytes(6))
        machine = Socks4(False)
        machine.receive_data(NAMED)
        machine.accept("fe80::1", 258)
        self.assertEqual(machine.data_to_send(), b"\0\x5a\1\2" + bytes(4))

    def test_bind(self) -> None:
        """BIND is answered twice."""
        machine = Socks4(False)
        machine.receive_data(b"\4\2" + PLAIN[2:])
        machine.accept("10.0.0.9", 1)
        machine.accept("10.0.0.1", 2)
        self.assertEqual(len(machine.data_to_send()), 16)

    def test_login(self) -> None:
        """Where a login is asked for, nobody gets in by a protocol that has none."""
        machine = Socks4(True)
        self.assertEqual(machine.receive_data(PLAIN), [])
        self.assertEqual(machine.data_to_send(), b"\0\x5d" + bytes(6))
        self.assertEqual(machine.state, State.FAILED)
        self.assertRaises(LocalProtocolError, machine.login_good)
        self.assertRaises(LocalProtocolError, machine.login_bad)

    def test_refused(self) -> None:
        """Other commands, texts without end, empty names."""
        for request in (
            b"\4\3" + PLAIN[2:],
            b"\4\1\0\x50\x0a\0\0\1" + b"u" * 300,
            b"\4\1\0\x50\0\0\0\1\0\0",
            b"\5",
        ):
            machine = Socks4(False)
            self.assertRaises(ProtocolError, machine.receive_data, request)
            self.assertEqual(machine.data_to_send(), b"\0\x5b" + bytes(6))
