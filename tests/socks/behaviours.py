"""
What a SOCKS server does, one behaviour after the other, on real sockets.

Each is a function that blocks and says in a word what it saw; what should be
seen stands beside it. The same table is run on other servers for comparison.
"""

from __future__ import annotations

import hashlib
import os
import select
import socket
import struct
from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass

from tests.net.peers import exchange
from tests.socks.scene import Targets, connect, reply, request, take, through

SHORT = 10.0
"""Seconds after which a server that has said nothing has said nothing; a good one never waits."""


@dataclass(frozen=True, slots=True)
class Place:
    """
    Where a server is, and what is behind it.

    @param port: without a login
    @param login_port: where C{ann} logs in by C{secret}; 0: there is none
    @param deadline: seconds after which it should hang up on a silent client
    """

    port: int
    login_port: int
    targets: Targets
    six: Targets | None
    refused: int
    deadline: float


Check = Callable[[Place], str]


def _echoes(sock: socket.socket, data: bytes = b"hello") -> str:
    sock.sendall(b"E" + data)
    return "ok" if take(sock, len(data)) == data else "LOST"


def _end_of(sock: socket.socket, seconds: float = SHORT) -> str:
    """How a connection ends: FIN, RST, or not (open)."""
    sock.settimeout(seconds)
    try:
        while sock.recv(65536):
            pass
    except ConnectionResetError:
        return "RST"
    except TimeoutError:
        return "open"
    return "FIN"


def plain(place: Place) -> str:
    """CONNECT to an IPv4 address."""
    sock, code = through(place.port, "127.0.0.1", place.targets.port)
    with sock:
        return str(code) if code else _echoes(sock)


def fragmented(place: Place) -> str:
    """One byte at a time."""
    with connect(place.port) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for part in (b"\5\1\0", request("127.0.0.1", place.targets.port)):
            for byte in part:
                sock.sendall(bytes((byte,)))
                select.select([], [], [], 0.005)
        if take(sock, 2) != b"\5\0":
            return "FAIL"
        code = reply(sock)[0]
        return str(code) if code else _echoes(sock)


def coalesced(place: Place) -> str:
    """Greeting and request in one write."""
    with connect(place.port) as sock:
        sock.settimeout(SHORT)
        sock.sendall(b"\5\1\0" + request("127.0.0.1", place.targets.port))
        try:
            if take(sock, 2) != b"\5\0":
                return "FAIL"
            code = reply(sock)[0]
            return str(code) if code else _echoes(sock)
        except (TimeoutError, ConnectionResetError):
            return "FAIL"


def early(place: Place) -> str:
    """The target's first bytes in the same write as the request."""
    with connect(place.port) as sock:
        sock.settimeout(SHORT)
        sock.sendall(b"\5\1\0")
        take(sock, 2)
        sock.sendall(request("127.0.0.1", place.targets.port) + b"Ehello")
        try:
            code = reply(sock)[0]
            if code:
                return str(code)
            return "ok" if take(sock, 5) == b"hello" else "LOST"
        except (TimeoutError, ConnectionResetError):
            return "LOST"


def name(place: Place) -> str:
    """A name, looked up by the server."""
    sock, code = through(place.port, "localhost", place.targets.port)
    with sock:
        return str(code) if code else _echoes(sock)


def six(place: Place) -> str:
    """An IPv6 address."""
    if place.six is None:
        return "ok"
    sock, code = through(place.port, "::1", place.six.port)
    with sock:
        return str(code) if code else _echoes(sock)


def refused(place: Place) -> str:
    """A port where nobody listens."""
    sock, code = through(place.port, "127.0.0.1", place.refused)
    sock.close()
    return _code(code)


def no_name(place: Place) -> str:
    """A name that there is not."""
    sock, code = through(place.port, "no-such-name.invalid", 80)
    sock.close()
    return _code(code)


def long_name(place: Place) -> str:
    """A name of 255 bytes."""
    sock, code = through(place.port, "a" * 255, 80)
    sock.close()
    return _code(code)


def metadata(place: Place) -> str:
    """The cloud's metadata address, which nobody allowed."""
    sock, code = through(place.port, "169.254.169.254", 80)
    sock.close()
    return _code(code)


def port_nought(place: Place) -> str:
    """Port 0."""
    sock, code = through(place.port, "127.0.0.1", 0)
    sock.close()
    return _code(code)


def _code(code: int) -> str:
    return "EOF" if code < 0 else str(code)


def _answer(place: Place, data: bytes) -> str:
    """The code of the answer to such a request."""
    with connect(place.port) as sock:
        sock.settimeout(SHORT)
        sock.sendall(b"\5\1\0")
        take(sock, 2)
        sock.sendall(data)
        try:
            return _code(reply(sock)[0])
        except TimeoutError:
            return "open"
        except ConnectionResetError:
            return "RST"


def bind(place: Place) -> str:
    """BIND, which is not served unless the configuration says so."""
    return _answer(place, request("127.0.0.1", place.targets.port, 2))


def bad_command(place: Place) -> str:
    """A command that there is not."""
    return _answer(place, request("127.0.0.1", place.targets.port, 9))


def bad_address(place: Place) -> str:
    """A type of address that there is not."""
    return _answer(place, b"\5\1\0\2\0\0\0\0\0\0")


def empty_name(place: Place) -> str:
    """A name of no bytes."""
    return _answer(place, b"\5\1\0\3\0\0\x50")


def a_path(place: Place) -> str:
    """The path of a UNIX socket for a name."""
    return _answer(place, request("/run/docker.sock", 80))


def _greeted(port: int, methods: bytes) -> str:
    with connect(port) as sock:
        sock.settimeout(SHORT)
        sock.sendall(bytes((5, len(methods))) + methods)
        try:
            answer = take(sock, 2)
        except (TimeoutError, ConnectionResetError):
            return "none"
        return f"{answer[1]:02X}" if len(answer) == 2 else "EOF"


def no_common_method(place: Place) -> str:
    """Only a method that the server does not know."""
    return _greeted(place.port, b"\x80")


def no_method(place: Place) -> str:
    """No method at all."""
    return _greeted(place.port, b"")


def login_demanded(place: Place) -> str:
    """No login offered, where one is needed."""
    return _greeted(place.login_port, b"\0") if place.login_port else "-"


def _logged_in(place: Place, user: bytes, password: bytes) -> str:
    if not place.login_port:
        return "-"
    with connect(place.login_port) as sock:
        sock.sendall(b"\5\2\0\2")
        if take(sock, 2) != b"\5\2":
            return "not asked"
        sock.sendall(b"\1%c%s%c%s" % (len(user), user, len(password), password))
        answer = take(sock, 2)
        if answer != b"\1\0":
            return f"no, {_end_of(sock)}" if len(answer) == 2 else "EOF"
        sock.sendall(request("127.0.0.1", place.targets.port))
        code = reply(sock)[0]
        return str(code) if code else _echoes(sock)


def good_login(place: Place) -> str:
    """User and password."""
    return _logged_in(place, b"ann", b"secret")


def wrong_password(place: Place) -> str:
    """A wrong password is told, and hung up on."""
    return _logged_in(place, b"ann", b"wrong")


def long_login(place: Place) -> str:
    """A user and a password of 255 bytes."""
    return _logged_in(place, b"a" * 255, b"b" * 255)


def half_close_up(place: Place) -> str:
    """The client has said all, and waits for the answer."""
    sock, code = through(place.port, "127.0.0.1", place.targets.port)
    with sock:
        if code:
            return str(code)
        sock.sendall(b"H" + bytes(100_000))
        sock.shutdown(socket.SHUT_WR)
        try:
            return "ok" if take(sock, 6) == b"100000" else "LOST"
        except ConnectionResetError:
            return "LOST"


def half_close_down(place: Place) -> str:
    """The target has said all, and the client goes on."""
    sock, code = through(place.port, "127.0.0.1", place.targets.port)
    with sock:
        if code:
            return str(code)
        sock.sendall(b"F")
        before = len(place.targets.after)
        if take(sock, 3) != b"bye" or sock.recv(1) != b"":
            return "LOST"
        try:
            for _ in range(10):
                sock.sendall(b"x" * 1000)
                select.select([], [], [], 0.01)
            sock.shutdown(socket.SHUT_WR)
        except OSError:
            return "LOST"
        for _ in range(1000):
            if len(place.targets.after) > before:
                break
            select.select([], [], [], 0.01)
        return "ok" if b"x" * 10_000 in place.targets.after[before:] else "LOST"


def target_reset(place: Place) -> str:
    """A reset by the target, as the client sees it."""
    sock, code = through(place.port, "127.0.0.1", place.targets.port)
    with sock:
        if code:
            return str(code)
        sock.sendall(b"R")
        return _end_of(sock, SHORT)


def client_reset(place: Place) -> str:
    """A reset by the client, as the target sees it."""
    sock, code = through(place.port, "127.0.0.1", place.targets.port)
    if code:
        return str(code)
    before = len(place.targets.endings)
    sock.sendall(b"Ex")
    take(sock, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()
    for _ in range(1000):
        if len(place.targets.endings) > before:
            return place.targets.endings[before]
        select.select([], [], [], 0.01)
    return "open"


def bound_address(place: Place) -> str:
    """The address in the reply is the one that the target sees."""
    with connect(place.port) as sock:
        sock.sendall(b"\5\1\0")
        take(sock, 2)
        before = len(place.targets.peers)
        sock.sendall(request("127.0.0.1", place.targets.port))
        code, host, port = reply(sock)
        if code:
            return str(code)
        _echoes(sock)
        return "ok" if (host, port) in place.targets.peers[before:] else "not real"


def socks4(place: Place) -> str:
    """SOCKS4."""
    return _socks4(place, b"\4\1%s\x7f\0\0\1user\0" % place.targets.port.to_bytes(2, "big"))


def socks4a(place: Place) -> str:
    """SOCKS4A, with a name."""
    port = place.targets.port.to_bytes(2, "big")
    return _socks4(place, b"\4\1%s\0\0\0\1user\0localhost\0" % port)


def _socks4(place: Place, data: bytes) -> str:
    with connect(place.port) as sock:
        sock.settimeout(SHORT)
        sock.sendall(data)
        try:
            answer = take(sock, 8)
            if answer[:2] != b"\0\x5a":
                return "no"
            return _echoes(sock)
        except (TimeoutError, ConnectionResetError):
            return "no"


def http_connect(place: Place) -> str:
    """HTTP CONNECT on the same port."""
    return _http(place, place.port, place.targets.port)


def http_refused(place: Place) -> str:
    """The same, to a port where nobody listens."""
    return _http(place, place.port, place.refused)


def http_login(place: Place) -> str:
    """The same, with a login."""
    if not place.login_port:
        return "-"
    coded = b64encode(b"ann:secret").decode()
    field = f"Proxy-Authorization: Basic {coded}\r\n"
    return _http(place, place.login_port, place.targets.port, field)


def _http(place: Place, port: int, target: int, field: str = "") -> str:
    with connect(port) as sock:
        sock.settimeout(SHORT)
        sock.sendall(f"CONNECT 127.0.0.1:{target} HTTP/1.1\r\n{field}\r\n".encode())
        answer = b""
        try:
            while b"\r\n\r\n" not in answer and (more := sock.recv(1)):
                answer += more
        except (TimeoutError, ConnectionResetError):
            return "no"
        if not answer.startswith(b"HTTP/1.1 "):
            return "no"
        status = answer.split()[1].decode()
        return _echoes(sock) if status == "200" else status


def udp(place: Place) -> str:
    """UDP ASSOCIATE, there and back."""
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as target,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender,
        connect(place.port) as sock,
    ):
        target.bind(("127.0.0.1", 0))
        sender.bind(("127.0.0.1", 0))
        for one in (target, sender):
            one.settimeout(SHORT)
        sock.sendall(b"\5\1\0")
        take(sock, 2)
        sock.sendall(request("0.0.0.0", 0, 3))
        code, host, port = reply(sock)
        if code:
            return _code(code)
        head = request("127.0.0.1", target.getsockname()[1])[3:]
        sender.sendto(b"\0\0\0" + head + b"hello", (host, port))
        try:
            data, peer = target.recvfrom(100)
            target.sendto(data[::-1], peer)
            answer = sender.recv(100)
        except TimeoutError:
            return "LOST"
        return "ok" if answer == b"\0\0\0" + head + b"olleh" else "wrong"


def silent(place: Place) -> str:
    """A client that says nothing."""
    with connect(place.port) as sock:
        return _end_of(sock, place.deadline)


def stalled(place: Place) -> str:
    """A client that stops in its greeting."""
    with connect(place.port) as sock:
        sock.sendall(b"\5")
        return _end_of(sock, place.deadline)


def nonsense(place: Place) -> str:
    """A client that speaks something else."""
    with connect(place.port) as sock:
        sock.sendall(b"\x16\3\1\2\0\1\0\1\xfc\3\3")
        return _end_of(sock)


def both_ways(place: Place) -> str:
    """4 MiB up and down at once, unchanged."""
    data = os.urandom(1 << 22)
    sock, code = through(place.port, "127.0.0.1", place.targets.port)
    with sock:
        if code:
            return str(code)
        sock.sendall(b"E")
        got = exchange(sock, data, len(data), 65536)
        return "ok" if got == (len(data), hashlib.sha256(data).hexdigest()) else "LOST"


TABLE: tuple[tuple[Check, str], ...] = (
    (plain, "ok"),
    (fragmented, "ok"),
    (coalesced, "ok"),
    (early, "ok"),
    (name, "ok"),
    (six, "ok"),
    (refused, "5"),
    (no_name, "4"),
    (long_name, "4"),
    (metadata, "2"),
    (port_nought, "5"),
    (bind, "7"),
    (bad_command, "7"),
    (bad_address, "8"),
    (empty_name, "8"),
    (a_path, "2"),
    (no_common_method, "FF"),
    (no_method, "FF"),
    (login_demanded, "FF"),
    (good_login, "ok"),
    (wrong_password, "no, FIN"),
    (long_login, "no, FIN"),
    (half_close_up, "ok"),
    (half_close_down, "ok"),
    (target_reset, "RST"),
    (client_reset, "RST"),
    (bound_address, "ok"),
    (socks4, "ok"),
    (socks4a, "ok"),
    (http_connect, "ok"),
    (http_refused, "502"),
    (http_login, "ok"),
    (udp, "ok"),
    (silent, "FIN"),
    (stalled, "FIN"),
    (nonsense, "FIN"),
    (both_ways, "ok"),
)
"""Each behaviour, and what should be seen."""
