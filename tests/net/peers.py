"""Who sits at the far end of an End in a test: plain sockets, moved by threads where they block."""

from __future__ import annotations

import hashlib
import select
import socket
import ssl
import struct
from collections.abc import Callable

from OpenSSL import SSL
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from proxyd.net.certificates import own_certificate
from proxyd.net.end import End
from proxyd.net.link import Link
from proxyd.net.tls import server_context

PATIENCE = 30.0
"""Seconds after which a test gives up waiting."""

_LOOK = 0.002


def until(check: Callable[[], object], what: str) -> Deferred[None]:
    """Fires when a condition holds; fails when it does not within C{PATIENCE} seconds."""
    clock = IReactorTime(reactor)
    end = clock.seconds() + PATIENCE
    done: Deferred[None] = Deferred()

    def look() -> None:
        if check():
            done.callback(None)
        elif clock.seconds() > end:
            done.errback(AssertionError(f"waited in vain for {what}"))
        else:
            clock.callLater(_LOOK, look)

    look()
    return done


def tcp_pair() -> tuple[socket.socket, socket.socket]:
    """Two connected TCP sockets on loopback: for the link (non-blocking), and for the test."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        far = socket.create_connection(listening.getsockname(), PATIENCE)
        near = listening.accept()[0]
    near.setblocking(False)
    near.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return near, far


def unix_pair() -> tuple[socket.socket, socket.socket]:
    """The same of a UNIX socket."""
    near, far = socket.socketpair()
    near.setblocking(False)
    far.settimeout(PATIENCE)
    return near, far


def reset(far: socket.socket) -> None:
    """Close by RST."""
    far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    far.close()


def fill(far: socket.socket, block: bytes) -> int:
    """Send until the socket takes no more; how much it took."""
    far.setblocking(False)
    sent = 0
    try:
        while True:
            sent += far.send(block)
    except (BlockingIOError, ssl.SSLWantWriteError):
        far.settimeout(PATIENCE)
        return sent


def readable(far: socket.socket) -> bool:
    """Whether there is something to read, or an end."""
    return bool(select.select([far], [], [], 0)[0])


def take(far: socket.socket) -> bytes:
    """What is there to read, without waiting for it."""
    return far.recv(65536) if readable(far) else b""


def read_all(far: socket.socket) -> bytes:
    """All that comes up to the end; blocks."""
    parts = []
    while part := far.recv(65536):
        parts.append(part)
    return b"".join(parts)


def exchange(far: socket.socket, data: bytes, size: int, bite: int) -> tuple[int, str]:
    """
    Send C{data} and read C{size} bytes at the same time, C{bite} bytes at a time; blocks.

    @return: how many bytes came, and their SHA-256
    """
    digest, got, view = hashlib.sha256(), 0, memoryview(data)
    far.setblocking(False)
    while got < size or view:
        # What TLS has decrypted already, select does not see.
        hidden = isinstance(far, ssl.SSLSocket) and far.pending()
        patience = 0 if hidden else PATIENCE
        readable, writable, _ = select.select([far], [far] if view else [], [], patience)
        if not readable and not writable and not hidden:
            break
        try:
            if writable:
                view = view[far.send(view[:65536]) :]
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            pass
        try:
            part = far.recv(bite)
            if not part:
                break
            digest.update(part)
            got += len(part)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            pass
    far.settimeout(PATIENCE)
    return got, digest.hexdigest()


class Recorder:
    """
    A subject that writes down what it is told.

    @ivar events: C{finished}, C{alerted}, C{gone: REASON}, each with its End
    """

    def __init__(self) -> None:
        self.data: dict[End, bytes] = {}
        self.events: list[tuple[End, str]] = []
        self.on_received: Callable[[End, bytes], None] = lambda end, data: None
        self.on_alert: Callable[[End], None] = lambda end: None
        self.on_finished: Callable[[End], None] = lambda end: None

    def received(self, end: End, data: bytes) -> None:
        """Bytes came."""
        self.data[end] = self.data.get(end, b"") + data
        self.on_received(end, data)

    def alerted(self, end: End) -> None:
        """The flow asks for attention."""
        self.events.append((end, "alerted"))
        self.on_alert(end)

    def finished(self, end: End) -> None:
        """The peer sends no more."""
        self.events.append((end, "finished"))
        self.on_finished(end)

    def gone(self, end: End, reason: str) -> None:
        """The socket is lost."""
        assert end.closed
        self.events.append((end, f"gone: {reason}"))

    def told(self, end: End) -> list[str]:
        """What was told about one End."""
        return [event for about, event in self.events if about is end]


class LinkCase(TestCase):
    """A link on the real reactor; Ends that were closed are gone by themselves, or a test fails."""

    linger = 20.0

    def setUp(self) -> None:
        self.link = Link(reactor, self.clock(), self.linger)  # type: ignore[arg-type]
        self.link.start()
        self.subject = Recorder()
        self.fars: list[socket.socket] = []
        self.ends: list[End] = []

    def clock(self) -> IReactorTime:
        """What tells the link the time."""
        return IReactorTime(reactor)

    async def tearDown(self) -> None:
        """Wait until no End is left: those still in use are dropped, closed ones must go."""
        for far in self.fars:
            far.close()
        for end in self.ends:
            if not end.closed:
                end.drop()
        try:
            await until(lambda: not self.link.ends, "the last End to be gone")
        finally:
            self.link.stop()

    def end(
        self,
        subject: Recorder | None = None,
        pair: Callable[[], tuple[socket.socket, socket.socket]] = tcp_pair,
        paused: bool = False,
    ) -> tuple[End, socket.socket]:
        """An End, and the socket at its far end."""
        near, far = pair()
        self.fars.append(far)
        self.ends.append(End(self.link, near, None, subject or self.subject, paused))
        return self.ends[-1], far

    def contexts(self) -> tuple[SSL.Context, ssl.SSLContext]:
        """For a TLS server of ours, and for a client that trusts it (by another TLS library)."""
        folder = self.mktemp()
        certificate, key = own_certificate(folder, names=(), clock=IReactorTime(reactor))
        return server_context(certificate, key), ssl.create_default_context(
            cafile=f"{folder}/ca.pem"
        )

    async def tls_end(
        self, subject: Recorder | None = None, client: ssl.SSLContext | None = None
    ) -> tuple[End, ssl.SSLSocket]:
        """An End that is the server of a TLS session, and the client's socket."""
        ours, theirs = self.contexts()
        end, far = self.end(subject)
        secured: list[bool] = []
        end.tls(ours, None, lambda: secured.append(True))
        if client is not None:
            client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
        wrapped = await deferToThread(
            (client or theirs).wrap_socket,
            far,
            server_hostname="localhost",
            suppress_ragged_eofs=False,
        )
        self.fars.append(wrapped)
        await until(lambda: secured, "the handshake")
        return end, wrapped
