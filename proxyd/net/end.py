"""
An End: one socket of the link, as whoever works with it sees it.

It *talks* (its bytes go to its L{Subject}: start-up, login, idle in the pool),
is *joined* to another End (L{proxyd.net.relay}), or *lingers* (its last words
are on their way).
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from OpenSSL import SSL

from proxyd.net.first_look import FirstLook
from proxyd.net.line import (
    ASKED,
    BROKEN,
    BUFFER,
    ENDED,
    FAST,
    FULL,
    IN,
    OUT,
    TALK_CHUNK,
    VIEW,
    Line,
)
from proxyd.net.pace import Pace, Rate
from proxyd.net.secure import Secure
from proxyd.net.subject import Carrier, Owner, Relayed, Subject

if TYPE_CHECKING:
    from proxyd.net.link import Link


class End(FirstLook):
    """
    One socket of the link, which talks, is joined to another, or lingers.

    @ivar received: bytes received from the peer, after TLS
    """

    __slots__ = (
        "_flow",
        "_held",
        "_joined_at",
        "_pace",
        "_peer",
        "_scan",
        "_sent",
    )

    def __init__(
        self,
        link: Link,
        sock: socket.socket,
        owner: Owner | None,
        subject: Subject,
        paused: bool = False,
        carrier: Carrier | None = None,
    ) -> None:
        """
        Take a connected, non-blocking socket, which talks to C{subject} from now on.

        @param owner: closes the socket in the end; None: nobody else owns it
        @param paused: don't read before L{resume}
        @param carrier: receives and sends; None: the socket itself
        """
        # As super() does, at less cost: there is one for each connection.
        Line.__init__(self, link, sock, owner, subject, paused)
        if carrier is not None:
            self._carrier = carrier
        self._once: Callable[..., None] | None = None
        self._held = b""
        self._pace: Pace | None = None
        self._peer: End | None = None
        self._scan: Callable[..., int] | None = None
        self._flow: Relayed | None = None
        self._sent = 0
        self._joined_at = 0
        self.received = 0
        self._handler = self._on_talk
        link._add(self._fd, self._events, self)

    # What the door offers

    @property
    def sent(self) -> int:
        """Bytes sent to the peer, before TLS."""
        peer = self._peer
        relayed = 0 if peer is None else peer.received - peer._joined_at
        return self._sent + relayed - len(self._out)

    @property
    def held(self) -> int:
        """How many bytes of an unfinished message header were received and not sent on."""
        return len(self._held)

    @property
    def clear(self) -> bool:
        """Whether nothing waits in it: to be sent, or as an unfinished message header."""
        return not (self._out or self._held)

    def take_held(self) -> bytes:
        """Take the unfinished message header, which is held no more."""
        held, self._held = self._held, b""
        return held

    def talk(self, subject: Subject) -> None:
        """Give what is received to C{subject} from now on; an end is told to it anew."""
        if self._fd < 0:
            return
        if subject is not self.subject:
            self._paused &= ~ENDED
        self.subject = subject
        self._handler = self._on_talk

    def tls(self, context: SSL.Context, server: str | None, secured: Callable[[], None]) -> None:
        """
        Begin TLS on the descriptor.

        @param server: the name of the server we are a client of; None: we are the server
        @param secured: called when the handshake is done; a handshake that
            fails is told to the subject as C{gone}
        """
        if server is None:
            self._secure = Secure.server(context, self._socket)
        else:
            self._secure = Secure.client(context, self._socket, server)
        self._once = secured
        self._handler = self._on_handshake
        self._on_handshake(0)

    def write(self, data: bytes) -> None:
        """Send a few bytes of our own, behind what waits already."""
        if self.subject is None:
            return
        size = len(data)
        self._sent += size
        if self._out:
            self._out += data
            return
        try:
            sent = self._carrier.send(data)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            self._lost(error)
            return
        if sent < size and self.subject is not None:
            self._out = bytes(data[sent:])
            self._watch()
            if self._peer is not None:
                self._peer._paused |= FULL

    def limit(self, rate: float | Rate | Sequence[Rate] | None) -> None:
        """
        Read no more than so many bytes a second while joined; from the next join on.

        @param rate: bytes a second, or rates that others count against, too;
            None: as fast as the peer takes them
        """
        if self._pace is not None:
            self._pace.stop()
            self._paused &= ~FAST
        self._pace = None if rate is None else Pace(rate, self._link.clock)

    def carry(self, data: bytes) -> None:
        """Joined: send on, as if they had come just now, bytes that were received before."""
        assert self._peer is not None
        self._peer._sent += len(data)
        self._pass_on(memoryview(data), len(data))

    def take_in(self, data: bytes) -> bool:
        """
        Joined: send on bytes that came by another way than the socket, and would have come by it.

        @return: whether that was done; if not, they have to come by the socket
        """
        if self._peer is None or self._paused or self._pace is not None or self._secure is not None:
            return False
        self.received += len(data)
        try:
            self._pass_on(memoryview(data), len(data))
        except Exception:
            # It is this session's, and not of those who share the way.
            self._link._bug(self)
        return True

    def part(self, subject: Subject, other: Subject | None = None) -> None:
        """
        End the join of this End: it talks to C{subject}, and is paused.

        @param other: whom its peer talks to; None: the same
        """
        peer = self._peer
        self._leave_peer(subject)
        if peer is not None and peer._peer is self:
            peer._leave_peer(other or subject)

    def _leave_peer(self, subject: Subject | None) -> None:
        """One side's part of it: forget the peer, but not what was carried from it."""
        peer = self._peer
        if peer is not None:
            self._sent += peer.received - peer._joined_at
            self._peer = None
            self._scan = self._flow = None
        if self.subject is not None:
            # As L{talk} and L{pause}, in one: every session ends by this.
            kept = ~FULL if subject is self.subject else ~(FULL | ENDED)
            self._paused = self._paused & kept | ASKED
            self.subject = subject
            self._handler = self._on_talk

    def close(self, last_words: bytes = b"") -> None:
        """
        Close in order: what waits is sent first, then C{last_words}, then FIN.

        The peer's own last bytes are read and thrown away until it closes too,
        so that they don't turn our last words into a reset; a deadline ends it.
        """
        if self.subject is None:
            return
        if last_words:
            self.write(last_words)
        subject = self.subject
        if self.closed or subject is None:
            return
        self.part(subject)
        self.subject = None
        self._paused = 0
        self._handler = self._on_linger
        self._link._lingering.add(self)
        if not self._out:
            self._finish()
        self._watch()

    # Events of the socket

    def _on_talk(self, events: int) -> None:
        """Events while talking."""
        if events & ~IN and not self._flushed(events):
            return
        if self._paused:
            self._watch()
            return
        if not events & (IN | BROKEN):
            return
        try:
            count = self._carrier.recv_into(BUFFER, TALK_CHUNK)
        except BlockingIOError:
            return
        except OSError as error:
            self._lost(error)
            return
        subject = self.subject
        if subject is None:
            return
        if count:
            self.received += count
            subject.received(self, bytes(VIEW[:count]))
        else:
            self._no_more()

    def _no_more(self) -> None:
        """The peer will send no more."""
        if self._broken is not None:
            self._lost(self._broken)
            return
        self._paused |= ENDED
        if self.subject is not None:
            self.subject.finished(self)

    def _pass_on(self, data: memoryview, count: int) -> None:
        """Send to the peer what came from this End's socket, when there is more to it than that."""
        peer, scan = self._peer, self._scan
        assert peer is not None
        allowed = count
        if scan is not None:
            if self._held:
                held = self._held + data[:count]
                data, count = memoryview(held), len(held)
                self._held = b""
            allowed = scan(data, count)
            if allowed != count:
                self._held = bytes(data[allowed : min(count, allowed + 4)])
        try:
            sent = peer._carrier.send(data[:allowed]) if not peer._out and allowed else 0
        except BlockingIOError:
            sent = 0
        except OSError as error:
            peer._send_failed(error)
            return
        if sent != allowed:
            peer._out += bytes(data[sent:allowed])
            self._paused |= FULL
            peer._watch()
        self._look_for_alert()

    def _look_for_alert(self) -> None:
        flow = self._flow
        if flow is not None and flow.alert and self.subject is not None:
            flow.alert = False
            self.subject.alerted(self)

    def _on_handshake(self, events: int) -> None:
        """Events during the TLS handshake."""
        secure = self._secure
        assert secure is not None
        try:
            wants = secure.handshake()
        except OSError as error:
            self._lost(error)
            return
        if wants:
            self._set_events(OUT if wants == "write" else IN)
            return
        self._carrier = secure
        secured, self._once = self._once, None
        self._handler = self._on_talk
        self._watch()
        assert secured is not None
        secured()

    # What the line tells

    def _took(self, sent: int) -> None:
        """The socket took so much of what waits; whoever it comes from waits for the rest."""
        super()._took(sent)
        if self._out and self._peer is not None:
            self._peer._paused |= FULL

    def _send_failed(self, error: OSError) -> None:
        """Nothing can be sent any more, so nothing is read that would be."""
        if self._peer is not None:
            self._peer._paused |= FULL
        super()._send_failed(error)

    def _drained(self) -> None:
        """All that waited is sent: the peer may be read again."""
        peer = self._peer
        if peer is not None:
            peer._paused &= ~FULL
            peer._watch()

    def _lost(self, error: OSError) -> None:
        """The socket broke."""
        subject = self.subject
        self.abort()
        if subject is not None:
            subject.gone(self, error.strerror or str(error))

    def _spend(self, count: int) -> None:
        """So many bytes were read: wait, if that was too fast."""
        pace = self._pace
        if pace is not None and not self.closed and (wait := pace.spend(count)):
            self._paused |= FAST
            pace.wait(wait, self._may_go_on)

    def _may_go_on(self) -> None:
        self._paused &= ~FAST
        self._watch()

    def _end(self, close: Callable[[], object]) -> None:
        if self._pace is not None:
            self._pace.stop()
        peer = self._peer
        if peer is not None:
            self._leave_peer(self.subject)
            if peer._peer is self:
                peer._leave_peer(peer.subject)
        super()._end(close)
