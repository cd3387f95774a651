"""Tests for L{proxyd.wire.socks.socks5}."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from proxyd.errors import LocalProtocolError, ProtocolError
from proxyd.wire.socks.socks5 import Socks5
from proxyd.wire.socks.words import Asked, Command, Event, Login, Refusal, State, packed_address
from tests.wire.cuts import cut, places

OPEN = b"\5\1\0"
HTTP = b"\5\1\0\1\x0a\0\0\1\0\x50"
"""CONNECT 10.0.0.1:80."""

hosts = (
    st.ip_addresses(v=4).map(str)
    | st.ip_addresses(v=6).map(str)
    | st.text("abcdefghij.-", min_size=1, max_size=255)
)


def login(user: bytes, password: bytes) -> bytes:
    """The login of RFC 1929."""
    return b"\1" + bytes((len(user),)) + user + bytes((len(password),)) + password


def run(machine: Socks5, chunks: list[bytes]) -> list[Event]:
    """Hand in chunks, and let every login pass."""
    events: list[Event] = []
    for chunk in chunks:
        for event in machine.receive_data(chunk):
            events.append(event)
            if isinstance(event, Login):
                events += machine.login_good()
    return events


class GreetingTests(SynchronousTestCase):
    """Which way to log in is chosen."""

    def test_methods(self) -> None:
        """Only a method that the client offered is chosen."""
        for needed, offered, chosen in (
            (False, b"\0", 0),
            (False, b"\0\2", 0),
            (False, b"\2\0", 0),
            (False, b"\2", 2),
            (False, b"\x80", 0xFF),
            (False, b"", 0xFF),
            (True, b"\0", 0xFF),
            (True, b"\0\2", 2),
            (True, b"\1\x80", 0xFF),
        ):
            machine = Socks5(needed)
            greeting = bytes((5, len(offered))) + offered
            if chosen == 0xFF:
                self.assertRaises(ProtocolError, machine.receive_data, greeting)
                self.assertEqual(machine.state, State.FAILED)
            else:
                self.assertEqual(machine.receive_data(greeting), [])
            self.assertEqual(machine.data_to_send(), bytes((5, chosen)))

    def test_version(self) -> None:
        """Another version is not answered."""
        machine = Socks5(False)
        self.assertRaises(ProtocolError, machine.receive_data, b"\4")
        self.assertEqual(machine.data_to_send(), b"")
        self.assertEqual(machine.receive_data(OPEN), [])

    def test_login(self) -> None:
        """A good login is followed by the request, also one that was sent ahead."""
        machine = Socks5(True)
        events = machine.receive_data(b"\5\1\2" + login(b"ann", b"x") + HTTP)
        self.assertEqual(events, [Login(b"ann", b"x")])
        self.assertEqual(machine.data_to_send(), b"\5\2")
        self.assertEqual(machine.login_good(), [Asked(Command.CONNECT, "10.0.0.1", 80)])
        self.assertEqual(machine.data_to_send(), b"\1\0")
        self.assertNotIn("ann", repr(events))

    def test_bad_login(self) -> None:
        """A bad one is told, and nothing more is read."""
        machine = Socks5(True)
        machine.receive_data(b"\5\1\2" + login(b"", b""))
        machine.login_bad()
        self.assertEqual(machine.data_to_send(), b"\5\2\1\1")
        self.assertEqual(machine.receive_data(HTTP), [])
        other = Socks5(True)
        self.assertRaises(ProtocolError, other.receive_data, b"\5\1\2\5")
        self.assertEqual(other.data_to_send(), b"\5\2\1\1")


class RequestTests(SynchronousTestCase):
    """What is asked for, and answered."""

    @given(
        hosts, st.integers(0, 65535), st.sampled_from(Command), st.binary(max_size=99),
        st.booleans(), places,
    )  # fmt: skip
    def test_cuts(
        self, host: str, port: int, command: Command, early: bytes, needed: bool, where: list[int]
    ) -> None:
        """However TCP cuts it, the same is asked, and early data is kept."""
        greeting = b"\5\2\0\2" + (login(b"u" * 255, b"p") if needed else b"")
        request = bytes((5, command, 0)) + packed_address(host, port)
        machine = Socks5(needed)
        events = run(machine, cut(greeting + request + early, where))
        self.assertEqual(events[-1], Asked(command, host, port))
        self.assertEqual(len(events), 2 if needed else 1)
        self.assertEqual(machine.trailing_data, early)
        self.assertEqual(machine.state, State.ASKED)

    @given(st.booleans(), st.lists(st.binary(max_size=300), max_size=6))
    def test_noise(self, needed: bool, chunks: list[bytes]) -> None:
        """Noise never raises anything but ProtocolError, nor anything after it."""
        machine = Socks5(needed)
        try:
            run(machine, [b"\5\1\2" if needed else OPEN, *chunks])
        except ProtocolError:
            self.assertEqual(machine.receive_data(b"x"), [])

    def test_wrong(self) -> None:
        """A command or an address type that there is not is told by its own code."""
        for request, code in (
            (b"\5\x09\0\1\0\0\0\0\0\0", 7),
            (b"\5\1\0\2", 8),
            (b"\5\1\0\3\0\0\0", 8),
            (b"\4\1\0\1", 1),
        ):
            machine = Socks5(False)
            machine.receive_data(OPEN)
            machine.data_to_send()
            self.assertRaises(ProtocolError, machine.receive_data, request + bytes(2))
            self.assertEqual(machine.data_to_send(), bytes((5, code, 0, 1)) + bytes(6))

    def test_answers(self) -> None:
        """Accepted with our own address, in its family; refused with the code."""
        for host, packed in (
            ("10.0.0.9", b"\1\x0a\0\0\x09"),
            ("fe80::1%eth0", b"\4" + IPv6Address("fe80::1").packed),
        ):
            machine = Socks5(False)
            machine.receive_data(OPEN + HTTP + b"early")
            machine.data_to_send()
            machine.accept(host, 258)
            self.assertEqual(machine.data_to_send(), b"\5\0\0" + packed + b"\1\2")
            self.assertEqual(machine.trailing_data, b"early")
            self.assertRaises(LocalProtocolError, machine.refuse, Refusal.DENIED)
        for why in Refusal:
            machine = Socks5(False)
            machine.receive_data(OPEN + HTTP)
            machine.data_to_send()
            machine.refuse(why)
            self.assertEqual(machine.data_to_send()[:4], bytes((5, why, 0, 1)))

    def test_bind(self) -> None:
        """BIND is answered twice, the second time perhaps by a no."""
        machine = Socks5(False)
        machine.receive_data(OPEN + b"\5\2" + HTTP[2:])
        machine.data_to_send()
        machine.accept("10.0.0.9", 1)
        machine.accept("10.0.0.1", 2)
        self.assertEqual(
            machine.data_to_send(), b"\5\0\0\1\x0a\0\0\x09\0\1" + b"\5\0\0\1\x0a\0\0\1\0\2"
        )
        machine.refuse(Refusal.TIMEOUT)
        self.assertEqual(machine.data_to_send()[1], 6)

    def test_out_of_turn(self) -> None:
        """What is said too early is our own fault."""
        machine = Socks5(True)
        self.assertRaises(LocalProtocolError, machine.accept, str(IPv4Address(0)), 0)
        self.assertRaises(LocalProtocolError, machine.login_good)
