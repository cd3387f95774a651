"""
Logging in to an SSH server, by public keys and nothing else (RFC 4252).

Conch's own client signs RSA with SHA-1, and where the keys are refused it asks
for passwords again and again until the server hangs up. Here each key is
offered once, and then the answer is no.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from twisted.conch.ssh.common import NS, getNS
from twisted.conch.ssh.service import SSHService
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger

from proxyd.net.tasks import spawn
from proxyd.ssh.identities import Algorithm, Identity, IdentityError, algorithms_for

_log = Logger()

USERAUTH_REQUEST = 50

_CONNECTION = b"ssh-connection"
_SIGNED = b"\1"
_ONLY_ASKED = b"\0"


class Login(SSHService):
    """
    One login; the transport starts it.

    @param user: whom to log in as
    @param identities: keys, in the order in which they are tried
    @param succeeded: called once, when the server lets us in
    @param refused: called once with the reason when it does not
    """

    name = b"ssh-userauth"
    protocolMessages = {
        51: "MSG_FAILURE",
        52: "MSG_SUCCESS",
        53: "MSG_BANNER",
        60: "MSG_PK_OK",
    }

    def __init__(
        self,
        user: str,
        identities: Sequence[Identity],
        succeeded: Callable[[], None],
        refused: Callable[[str], None],
    ) -> None:
        self._user = user
        self._left = list(identities)
        self._succeeded = succeeded
        self._refused = refused
        self._trying: tuple[Identity, Algorithm] | None = None
        self._tried: list[str] = []
        self._work: Deferred[None] | None = None

    def serviceStarted(self) -> None:
        """The server listens: try the first key."""
        self._try_next("")

    def serviceStopped(self) -> None:
        """Logged in, or the connection is lost: nothing is signed any more."""
        self._left.clear()
        if self._work is not None:
            self._work.cancel()

    def ssh_FAILURE(self, packet: bytes) -> None:
        """The key is refused, or it is good and another is wanted too."""
        methods, rest = getNS(packet)
        offered: str = methods.decode("ascii", "replace")
        if b"publickey" not in methods.split(b","):
            self._give_up(f"it wants {offered or 'nothing we have'}; we log in by key only")
            return
        if rest[:1] == b"\1":
            self._tried.clear()  # a key was good: what comes is asked for beside it
        self._try_next(offered)

    def ssh_SUCCESS(self, packet: bytes) -> None:
        """We are in."""
        self._succeeded()

    def ssh_BANNER(self, packet: bytes) -> None:
        """A text for people."""
        text = getNS(packet)[0].decode("utf-8", "replace")
        _log.debug("an SSH server's banner: {text}", text=text[:500])

    def ssh_PK_OK(self, packet: bytes) -> None:
        """The key that was asked about is good: sign with it."""
        if self._trying is not None:
            self._sign(*self._trying)

    def _try_next(self, offered: str) -> None:
        """Offer the next key, if the server takes its kind."""
        accepted = _signatures(self.transport)
        while self._left:
            identity = self._left.pop(0)
            algorithms = algorithms_for(identity.blob, accepted)
            if not algorithms:
                self._tried.append(f"{identity.name} (a kind of key that it does not take)")
                continue
            self._tried.append(identity.name)
            self._trying = (identity, algorithms[0])
            if identity.ask_first:
                self._send(_ONLY_ASKED, *self._trying)
            else:
                self._sign(*self._trying)
            return
        tried = ", ".join(self._tried) or "none: there is no other key"
        self._give_up(f"login as {self._user} refused; tried {tried}")

    def _sign(self, identity: Identity, algorithm: Algorithm) -> None:
        self._work = spawn(self._prove(identity, algorithm), _log, "signing a login")

    async def _prove(self, identity: Identity, algorithm: Algorithm) -> None:
        """Show that the key is ours (RFC 4252, section 7)."""
        transport: Any = self.transport
        request = self._request(_SIGNED, identity, algorithm)
        data = NS(transport.sessionID) + bytes((USERAUTH_REQUEST,)) + request
        try:
            signature = await identity.sign(data, algorithm.signature)
        except CancelledError:
            raise
        except IdentityError as problem:
            self._tried[-1] = str(problem)
            self._try_next("")
            return
        transport.sendPacket(USERAUTH_REQUEST, request + NS(signature))

    def _send(self, kind: bytes, identity: Identity, algorithm: Algorithm) -> None:
        transport: Any = self.transport
        transport.sendPacket(USERAUTH_REQUEST, self._request(kind, identity, algorithm))

    def _request(self, kind: bytes, identity: Identity, algorithm: Algorithm) -> bytes:
        fields = (self._user.encode(), _CONNECTION, b"publickey")
        start = b"".join(NS(field) for field in fields)
        key: bytes = NS(algorithm.name) + NS(identity.blob)
        return start + kind + key

    def _give_up(self, why: str) -> None:
        self._left.clear()
        self._refused(why)


def _signatures(transport: Any) -> list[bytes]:
    """The signatures that the server says it takes (RFC 8308, section 3.1)."""
    names: bytes = transport.peerExtensions.get(b"server-sig-algs", b"")
    return names.split(b",") if names else []
