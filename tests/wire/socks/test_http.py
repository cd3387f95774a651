"""Tests for L{proxyd.wire.socks.http}."""

from __future__ import annotations

from base64 import b64encode

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from proxyd.errors import LocalProtocolError, ProtocolError
from proxyd.wire.socks.http import LIMIT, HttpConnect
from proxyd.wire.socks.words import Asked, Command, Event, Login, PacAsked, Refusal, State
from tests.wire.cuts import cut, places

CONNECT = b"CONNECT db.internal:443 HTTP/1.1\r\nHost: db.internal:443\r\n\r\n"


def with_login(value: bytes) -> bytes:
    """A request with such a login."""
    return CONNECT[:-2] + b"proxy-AUTHORIZATION: " + value + b"\r\n\r\n"


class HttpTests(SynchronousTestCase):
    """CONNECT, and the PAC file."""

    @given(st.binary(max_size=50), places)
    def test_cuts(self, early: bytes, where: list[int]) -> None:
        """However TCP cuts it, the same is asked, and early data is kept."""
        machine = HttpConnect(False)
        events: list[Event] = []
        for chunk in cut(CONNECT + early, where):
            events += machine.receive_data(chunk)
        self.assertEqual(events, [Asked(Command.CONNECT, "db.internal", 443)])
        self.assertEqual(machine.trailing_data, early)

    @given(st.lists(st.binary(max_size=300) | st.sampled_from([b"\r\n", b": "]), max_size=6))
    def test_noise(self, chunks: list[bytes]) -> None:
        """Noise never raises anything but ProtocolError."""
        machine = HttpConnect(True)
        try:
            for chunk in [b"CONNECT x:1 HTTP/1.1\r\n", *chunks, b"\r\n\r\n"]:
                machine.receive_data(chunk)
        except ProtocolError:
            self.assertEqual(machine.state, State.FAILED)

    def test_targets(self) -> None:
        """HOST:PORT, with IPv6 in brackets."""
        for text, host, port in ((b"[::1]:80", "::1", 80), (b"10.0.0.1:1", "10.0.0.1", 1)):
            machine = HttpConnect(False)
            events = machine.receive_data(b"CONNECT " + text + b" HTTP/1.0\r\n\r\n")
            self.assertEqual(events, [Asked(Command.CONNECT, host, port)])

    def test_refused(self) -> None:
        """What is no such request is told so."""
        for request, status in (
            (b"GET http://x/ HTTP/1.1\r\n\r\n", b"405"),
            (b"POST / HTTP/1.1\r\n\r\n", b"405"),
            (b"CONNECT x HTTP/1.1\r\n\r\n", b"400"),
            (b"CONNECT x:70000 HTTP/1.1\r\n\r\n", b"400"),
            (b"CONNECT ::1:80 HTTP/1.1\r\n\r\n", b"400"),
            (b"CONNECT x:1 HTTP/2\r\n\r\n", b"400"),
            (b"CONNECT x:1 HTTP/1.1\r\nfold: a\r\n b\r\n\r\n", b"400"),
            (b"C" * LIMIT, b"431"),
        ):
            machine = HttpConnect(False)
            self.assertRaises(ProtocolError, machine.receive_data, request)
            self.assertEqual(machine.data_to_send().split()[1], status, request[:40])
            self.assertEqual(machine.receive_data(CONNECT), [])

    def test_answers(self) -> None:
        """Accepted, or refused with a status of its own."""
        machine = HttpConnect(False)
        machine.receive_data(CONNECT)
        machine.accept("10.0.0.9", 1)
        self.assertEqual(machine.data_to_send(), b"HTTP/1.1 200 Connection established\r\n\r\n")
        self.assertRaises(LocalProtocolError, machine.refuse, Refusal.DENIED)
        for why, status in ((Refusal.DENIED, b"403"), (Refusal.REFUSED, b"502"),
                            (Refusal.TIMEOUT, b"504"), (Refusal.COMMAND, b"501")):  # fmt: skip
            machine = HttpConnect(False)
            machine.receive_data(CONNECT)
            machine.refuse(why)
            self.assertEqual(machine.data_to_send().split()[1], status)

    def test_login(self) -> None:
        """Basic; without it, or with another, the client is asked to log in."""
        good = b"Basic " + b64encode(b"ann:a:b")
        machine = HttpConnect(True)
        self.assertEqual(machine.receive_data(with_login(good)), [Login(b"ann", b"a:b")])
        self.assertEqual(machine.login_good(), [Asked(Command.CONNECT, "db.internal", 443)])
        for request in (CONNECT, with_login(b"Bearer x"), with_login(b"Basic %%%"),
                        with_login(b"Basic " + b64encode(b"x"))):  # fmt: skip
            machine = HttpConnect(True)
            self.assertEqual(machine.receive_data(request), [])
            answer = machine.data_to_send()
            self.assertTrue(answer.startswith(b"HTTP/1.1 407 "))
            self.assertIn(b"Proxy-Authenticate: Basic", answer)
        machine = HttpConnect(True)
        machine.receive_data(with_login(good))
        machine.login_bad()
        self.assertTrue(machine.data_to_send().startswith(b"HTTP/1.1 407 "))

    def test_pac(self) -> None:
        """The PAC file, without a login; or no such page."""
        machine = HttpConnect(True)
        self.assertEqual(machine.receive_data(b"GET /proxy.pac?x HTTP/1.1\r\n\r\n"), [PacAsked()])
        machine.pac("text")
        head, _, body = machine.data_to_send().partition(b"\r\n\r\n")
        self.assertIn(b"application/x-ns-proxy-autoconfig", head)
        self.assertEqual(body, b"text")
        machine = HttpConnect(True)
        machine.receive_data(b"GET /proxy.pac HTTP/1.1\r\n\r\n")
        machine.refuse(Refusal.GENERAL)
        self.assertEqual(machine.data_to_send().split()[1], b"404")
