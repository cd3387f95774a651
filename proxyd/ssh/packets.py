"""
The packets of an SSH connection: sealed and sent, received and taken apart.

This half of a connection decides how fast it is. What the messages in the
packets mean is in L{proxyd.ssh.client}, which is built upon it.
"""

from __future__ import annotations

import socket
from typing import Any

from twisted.conch.ssh.transport import (
    MSG_DISCONNECT,
    MSG_KEXINIT,
    MSG_NEWKEYS,
    SSHClientTransport,
)
from twisted.internet.interfaces import IReactorTime
from twisted.internet.tcp import Client
from twisted.logger import Logger

from proxyd.errors import ProtocolError
from proxyd.net.at_once import send_at_once
from proxyd.ssh.channels import CHANNEL_DATA, Channels
from proxyd.ssh.protection import Opener, Protection, Sealer

_log = Logger()

VERSION_LIMIT = 8192
"""How many bytes a server may say before its version line (RFC 4253, section 4.2)."""

READ_SIZE = 256 * 1024
"""Bytes that are taken off a socket at once: eight packets."""

REKEY_BYTES = 1 << 30
REKEY_SECONDS = 3600.0
"""When new keys are agreed on (RFC 4253, section 9)."""

_IN_FIRST_EXCHANGE = frozenset((MSG_DISCONNECT, MSG_KEXINIT, MSG_NEWKEYS, *range(30, 50)))


class PacketTransport(SSHClientTransport):
    """
    A connection, as far as its packets go.

    @ivar strict: whether both sides keep to the strict key exchange
    @ivar channels: who gets the data of channels, once logged in
    @ivar sealed: how many packets wait for L{flush}
    @ivar over: whether what comes is of no interest any more
    """

    def __init__(self, clock: IReactorTime) -> None:
        self.strict = False
        self.channels: Channels | None = None
        self.over = False
        self.peerExtensions = {}
        self._clock = clock
        self._rest = b""
        self._sealer: Sealer
        self._opener: Opener
        self._since_keys = 0
        self._keys_at = 0.0
        self._out: list[bytes] = []
        self._socket: socket.socket | None = None
        self.sealed = 0

    # -- for whoever is built upon this

    def heard(self) -> None:
        """Bytes have come."""

    def broken(self, why: str) -> None:
        """The server has broken the protocol: end the connection."""
        raise NotImplementedError

    def exchange_again(self) -> None:
        """It is time for new keys."""
        raise NotImplementedError

    def connectionMade(self) -> None:
        """Greet the server and begin to agree on keys."""
        self._gotNewKeys = 0
        transport: Any = self.transport
        if hasattr(transport, "bufferSize"):
            transport.bufferSize = transport.SEND_LIMIT = READ_SIZE
        if type(transport) is Client and transport.TLS is False:
            self._socket = transport.getHandle()
        self.use(Protection(b"", b"", b"", b""))
        transport.write(self.ourVersionString + b"\r\n")
        self.sendKexInit()  # type: ignore[no-untyped-call]

    def use(self, protection: Protection) -> None:
        """Protect what comes and goes from now on by new keys."""
        self.currentEncryptions = protection  # type: ignore[assignment]
        self._sealer = protection.sealer
        self._opener = protection.opener
        self._since_keys = 0
        self._keys_at = self._clock.seconds()

    # -- out

    @property
    def exchanging(self) -> bool:
        """Whether keys are being exchanged, and all else has to wait."""
        return self._keyExchangeState != self._KEY_EXCHANGE_NONE

    def sendPacket(self, messageType: int, payload: bytes) -> None:
        """Send a message; what is not allowed while keys are exchanged waits."""
        if self.exchanging and not self._may_go(messageType):
            self._blockedByKeyExchange.append((messageType, payload))
            return
        self.send(bytes((messageType,)), payload)

    def _may_go(self, kind: int) -> bool:
        """Whether a message is allowed while keys are exchanged."""
        return bool(self._allowedKeyExchangeMessageType(kind))  # type: ignore[no-untyped-call]

    def send(self, head: bytes, data: bytes | memoryview) -> None:
        """Send a packet now; only while L{exchanging} is false."""
        self.seal(head, data)
        self.flush()

    def seal(self, head: bytes, data: bytes | memoryview) -> None:
        """Make a packet, which goes with the next L{flush}; no other may be sent before it."""
        sequence = self.outgoingPacketSequence
        self.outgoingPacketSequence = (sequence + 1) & 0xFFFFFFFF
        self._since_keys += len(data)
        self.sealed += 1
        self._out += self._sealer.seal(sequence, head, data)

    def flush(self) -> None:
        """Hand what is sealed to the socket."""
        if self.sealed:
            out, self._out = self._out, []
            self.sealed = 0
            transport: Any = self.transport
            if self._socket is not None and not transport.disconnecting:
                left = send_at_once(self._socket, transport, out)
                if left:
                    transport.write(left)
            else:
                transport.writeSequence(out)

    # -- in

    def dataReceived(self, data: bytes) -> None:
        """Take packets apart, and hand each on."""
        self.heard()
        start = 0
        if not self.gotVersion:
            data = self._rest + data
            start = self._read_version(data)
            if not start:
                self._rest = data
                return
        try:
            if self._rest and start == 0:
                data, start = self._complete(data)
            start = self._take_packets(data, start)
            if self.channels is not None:
                self.channels.deliver()
        except ProtocolError as problem:
            self.broken(str(problem))
        except Exception:
            # Conch stumbles over some malformed messages in this way.
            _log.failure("an SSH server's message could not be read")
            self.broken("a malformed message")
        else:
            self._rest = data[start:]

    def _complete(self, data: bytes) -> tuple[bytes, int]:
        """
        Take the packet that began in what came before.

        Only that is put together, not all that came after it.

        @return: what is to be looked at, and from where
        """
        rest = self._rest
        size = self._opener.size(rest, 0, len(rest))
        missing = size - len(rest)
        if not 0 < missing <= len(data):
            return rest + data, 0
        self._take_packets(rest + data[:missing], 0)
        return data, missing

    def _take_packets(self, data: bytes, start: int) -> int:
        """Hand on all packets that are whole; gives where the rest begins."""
        end = len(data)
        while not self.over:
            opener = self._opener
            taken = opener.take(self.incomingPacketSequence, data, start, end)
            if taken is None:
                break
            packet, start = taken
            self.incomingPacketSequence = (self.incomingPacketSequence + 1) & 0xFFFFFFFF
            first = opener.skip
            last = len(packet) - packet[first - 1]
            if last <= first:
                raise ProtocolError("a packet without a message")
            kind = packet[first]
            if kind == CHANNEL_DATA and self.channels is not None:
                self._since_keys += last - first
                self.channels.data_received(packet, first + 1, last)
                continue
            if self.channels is not None:
                self.channels.deliver()
            self._take_message(kind, packet[first + 1 : last])
        if self._since_keys > REKEY_BYTES or self._clock.seconds() - self._keys_at > REKEY_SECONDS:
            self.exchange_again()
        return start

    def _take_message(self, kind: int, payload: bytes) -> None:
        if self.strict and not self.sessionID and kind not in _IN_FIRST_EXCHANGE:
            # OpenSSH PROTOCOL, section 1.10: nothing else, not even what is to be ignored.
            raise ProtocolError(f"message {kind} in the midst of the first key exchange")
        self.dispatchMessage(kind, payload)  # type: ignore[no-untyped-call]

    def _read_version(self, data: bytes) -> int:
        """Read up to the server's version line; gives where packets begin, or nought."""
        start = 0
        while (end := data.find(b"\n", start)) >= 0:
            line = data[start:end].rstrip(b"\r")
            start = end + 1
            if line.startswith(b"SSH-"):
                if not line.startswith((b"SSH-2.0-", b"SSH-1.99-")):
                    self.broken(f"it speaks {line[:40]!r} only")
                self.gotVersion = True
                self.otherVersionString = line
                return start
        if len(data) > VERSION_LIMIT:
            self.broken("this is no SSH server")
        return 0
