"""
One connection to an SSH server: key exchange, host key, packets, signs of life.

Conch has the arithmetic of the key exchange. Ours are the packets
(L{proxyd.ssh.packets}), what is agreed on, and what is said when that fails.
Who logs in is in L{proxyd.ssh.login}, what then flows in
L{proxyd.ssh.channels}.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from twisted.conch.ssh.common import getNS
from twisted.conch.ssh.transport import (
    DISCONNECT_BY_APPLICATION,
    DISCONNECT_HOST_KEY_NOT_VERIFIABLE,
    DISCONNECT_KEY_EXCHANGE_FAILED,
    DISCONNECT_PROTOCOL_ERROR,
    MSG_DISCONNECT,
)
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure

from proxyd.config.times import LINGER, PulseTimes
from proxyd.errors import ProtocolError
from proxyd.ssh import algorithms
from proxyd.ssh.channels import Channels
from proxyd.ssh.identities import Identity
from proxyd.ssh.known_hosts import HostKeyRefused, HostKeys, fingerprint, name_in_file
from proxyd.ssh.login import Login
from proxyd.ssh.packets import PacketTransport
from proxyd.ssh.protection import Protection
from proxyd.ssh.pulse import Heart

_log = Logger()


@dataclass(frozen=True, slots=True)
class Account:
    """
    How to log in to a server, and how to know it.

    @param name: by which its host key is known: a host name or an instance
    @param port: the port its host key is known by
    """

    name: str
    port: int
    user: str
    identities: Sequence[Identity]
    host_keys: HostKeys


class SshClient(PacketTransport):
    """
    A connection as it is made; L{ready} tells when it is of use.

    @ivar ready: fires with its L{Channels}, once; fails with L{SshError}
    """

    # The strict exchange is offered as if it were one more way to exchange keys.
    supportedKeyExchanges = [*algorithms.KEY_EXCHANGES, algorithms.STRICT_CLIENT]
    supportedCiphers = list(algorithms.CIPHERS)
    supportedMACs = list(algorithms.MACS)
    supportedCompressions = [b"none"]
    version = b"proxyd"
    ourVersionString = b"SSH-2.0-proxyd"

    def __init__(self, account: Account, pulse: PulseTimes, clock: IReactorTime) -> None:
        self.ready: Deferred[Channels] = Deferred(lambda _: self.abort("given up"))
        super().__init__(clock)
        self.supportedPublicKeys = algorithms.known_first(
            account.host_keys.types(account.name, account.port)
        )
        self._account = account
        self._failed: SshError | None = None
        self._lost = False
        self._secure = False
        self._trusted = b""
        self._closing: IDelayedCall | None = None
        self._heart = Heart(pulse, clock, self._ask_for_life, self.abort)

    # -- life

    def connectionLost(self, reason: Failure | None = connectionDone) -> None:
        """Tell everybody."""
        if self._lost:
            return
        self._lost = True
        self._heart.stop()
        if self._closing is not None:
            self._closing.cancel()
            self._closing = None
        self._fail(_ending(reason))
        assert self._failed is not None
        if self.service:
            service, self.service = self.service, None
            service.serviceStopped()  # type: ignore[no-untyped-call]
        ready = self.ready
        if not ready.called:
            ready.errback(self._failed)
        if self.channels is not None:
            self.channels.lost(str(self._failed))

    def abort(self, why: str) -> None:
        """End the connection at once; whoever uses it is told this reason."""
        self._fail(why)
        transport: Any = self.transport
        if transport is not None and not self._lost:
            transport.abortConnection()

    def close(self) -> None:
        """Say goodbye and hang up."""
        self._give_up(DISCONNECT_BY_APPLICATION, "closed by us")

    def _fail(self, why: str) -> None:
        """Keep the first reason: what comes after it are its consequences."""
        if self._failed is None:
            self._failed = SshError(why)
            self.over = True

    def heard(self) -> None:
        """A sign of life."""
        self._heart.heard_at = self._clock.seconds()

    def broken(self, why: str) -> None:
        """The server has broken the protocol."""
        self._give_up(DISCONNECT_PROTOCOL_ERROR, why)

    def _give_up(self, code: int, why: str, told: str = "") -> None:
        """
        Tell the server, and end.

        @param told: what it is told; the reason itself where this is empty
        """
        if self._lost or self._failed is not None:
            return
        self._fail(why)
        transport: Any = self.transport
        said = (told or why).encode("utf-8", "replace")[:200]
        self.sendPacket(MSG_DISCONNECT, code.to_bytes(4, "big") + _string(said) + _string(b""))
        transport.loseConnection()
        # Whoever is asked to close and does not must not hold us up.
        self._heart.stop()
        self._closing = self._clock.callLater(LINGER, self._cut)

    def _cut(self) -> None:
        self._closing = None
        transport: Any = self.transport
        transport.abortConnection()

    # -- keys

    def ssh_KEXINIT(self, packet: bytes) -> None:
        """Agree on algorithms, in words of our own where there is nothing in common."""
        problem = algorithms.mismatch(packet, self.supportedPublicKeys)
        if problem:
            self._give_up(DISCONNECT_KEY_EXCHANGE_FAILED, problem)
            return
        if not self.sessionID:
            self.strict = algorithms.STRICT_SERVER in algorithms.lists_of(packet)[0]
            if self.strict and self.incomingPacketSequence != 1:
                raise ProtocolError("a message before the first key exchange")
        self._gotNewKeys = 0
        super().ssh_KEXINIT(packet)  # type: ignore[no-untyped-call]
        agreed: Any = self.nextEncryptions
        if not isinstance(agreed, Protection):
            self.nextEncryptions = Protection(  # type: ignore[assignment]
                agreed.outCipType,
                agreed.inCipType,
                agreed.outMACType or b"",
                agreed.inMACType or b"",
            )
        if self.channels is not None:
            self.channels.hold()

    def verifyHostKey(self, hostKey: bytes, fingerprint: bytes) -> Deferred[bool]:
        """Ask the known hosts; a new exchange must show the key that the first one did."""
        if self._trusted:
            if self._trusted == hostKey:
                return succeed(True)
            why = "its host key changed in the midst of the connection"
            self._give_up(DISCONNECT_HOST_KEY_NOT_VERIFIABLE, why)
            return fail(HostKeyRefused("changed"))
        account = self._account
        try:
            new = account.host_keys.check(account.name, account.port, hostKey)
        except (HostKeyRefused, OSError) as problem:
            self._give_up(DISCONNECT_HOST_KEY_NOT_VERIFIABLE, str(problem), "host key refused")
            return fail(problem)
        self._trusted = hostKey
        if new:
            _note_new(account, hostKey)
        return succeed(True)

    def sendDisconnect(self, reason: int, desc: bytes) -> None:
        """Conch gives up."""
        self._give_up(reason, desc.decode("utf-8", "replace"))

    def ssh_DISCONNECT(self, packet: bytes) -> None:
        """The server gives up."""
        text = getNS(packet[4:])[0].decode("utf-8", "replace")
        self._fail(f"it hung up: {text[:200]}" if text else "it hung up")
        transport: Any = self.transport
        transport.loseConnection()

    def _keySetup(self, sharedSecret: bytes, exchangeHash: bytes) -> None:
        """Our side of the new keys; what we send from now on has the next numbers."""
        super()._keySetup(sharedSecret, exchangeHash)  # type: ignore[no-untyped-call]
        if self.strict:
            self.outgoingPacketSequence = 0

    def ssh_NEWKEYS(self, packet: bytes) -> None:
        """The server's side of the new keys."""
        if self.strict:
            self.incomingPacketSequence = 0
        super().ssh_NEWKEYS(packet)  # type: ignore[no-untyped-call]

    def _newKeys(self) -> None:
        """Both sides have them: use them, and send what had to wait."""
        self.use(self.nextEncryptions)  # type: ignore[arg-type]
        self._keyExchangeState = self._KEY_EXCHANGE_NONE
        waiting, self._blockedByKeyExchange = self._blockedByKeyExchange, []
        for kind, payload in waiting:
            self.sendPacket(kind, payload)
        if self.channels is not None:
            self.channels.go_on()

    def exchange_again(self) -> None:
        """Begin to agree on new keys; what is to be sent waits meanwhile."""
        if not self.exchanging and self._failed is None:
            self.sendKexInit()  # type: ignore[no-untyped-call]
            if self.channels is not None:
                self.channels.hold()

    # -- login

    def connectionSecure(self) -> None:
        """The server is who it should be: log in (again and again, for each exchange of keys)."""
        if not self._secure:
            self._secure = True
            account = self._account
            login = Login(account.user, account.identities, self._logged_in, self._not_let_in)
            self.requestService(login)

    def _not_let_in(self, why: str) -> None:
        self._give_up(DISCONNECT_BY_APPLICATION, why)

    def _logged_in(self) -> None:
        channels = Channels(self, self._clock)
        self.setService(channels)  # type: ignore[no-untyped-call]
        self.channels = channels
        channels.ask_for_life()  # to measure the round trip
        self._heart.start()
        self.ready.callback(channels)

    def _ask_for_life(self) -> None:
        """A time has passed: ask, and renew the keys if they are old."""
        if self.channels is not None:
            self.channels.ask_for_life()

    def suspect(self) -> None:
        """Somebody waits for this server in vain: see whether it is there at all."""
        if self.channels is not None and self._failed is None:
            self._heart.suspect()


def _ending(reason: Failure | None) -> str:
    """How a connection ended that nobody said goodbye on."""
    error = None if reason is None else reason.value
    if error is None or isinstance(error, ConnectionDone):
        return "it hung up"
    # Twisted's own words for a reset are a sentence.
    said = ": ".join(str(word) for word in error.args)
    return f"the connection was lost{': ' if said else ''}{said}"


class SshError(Exception):
    """A connection to an SSH server could not be made, or is lost; the text says why."""


def _string(data: bytes) -> bytes:
    """A string of SSH (RFC 4251, section 5)."""
    return len(data).to_bytes(4, "big") + data


def _note_new(account: Account, blob: bytes) -> None:
    _log.warn(
        "the host key of {name} is new and accepted, {key}; from now on no other is ({path})",
        name=name_in_file(account.name, account.port),
        key=fingerprint(blob),
        path=str(account.host_keys.path),
    )
