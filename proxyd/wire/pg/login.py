"""
Logging in to a PostgreSQL server, as its client.

The machine begins where the transport is as secure as it will be, and ends at
the first ReadyForQuery. It gives a password away only in the ways that were
allowed, and believes a server only when that proved what it has to prove: a
server is as hostile as any peer.

Source: PostgreSQL, "Frontend/Backend Protocol", chapters "Message Flow",
section "Start-up", and "SASL Authentication"; libpq's C{require_auth}.
"""

from __future__ import annotations

from collections.abc import Mapping

from proxyd.errors import LocalProtocolError, ProtocolError
from proxyd.wire.pg import messages
from proxyd.wire.pg.errors import ServerMessage, parse_error
from proxyd.wire.pg.framing import MessageReader
from proxyd.wire.pg.login_events import (
    DeriveKey,
    LoginDone,
    LoginEvent,
    LoginRefused,
    LoginState,
    Unchallenged,
)
from proxyd.wire.pg.negotiation import negotiated_minor
from proxyd.wire.pg.passwords import md5_password
from proxyd.wire.pg.scram import SCRAM_SHA_256, SCRAM_SHA_256_PLUS, ScramClient

__all__ = [
    "DEFAULT",
    "LOGIN_LIMIT",
    "DeriveKey",
    "LoginDone",
    "LoginEvent",
    "LoginRefused",
    "LoginState",
    "ServerLogin",
    "Unchallenged",
]

DEFAULT = frozenset({"none", "md5", "scram-sha-256"})
"""The ways that are allowed when nothing else is said: all but a password in clear."""

LOGIN_LIMIT = 256 * 1024
"""Bytes that a server may send until it is ready."""

NOTICES_KEPT = 100
"""How many of a server's notices are remembered."""

_BINDING = "tls-server-end-point"

_OTHER_METHODS = {2: "Kerberos", 6: "SCM credentials", 7: "GSSAPI", 9: "SSPI"}


class ServerLogin:
    """
    One login to a server.

    Send L{data_to_send} at the start and after each call of another method.

    @param password: None when there is none to give
    @param parameters: further start-up parameters
    @param nonce: for SCRAM: printable ASCII without comma, of at least 18
        random bytes
    @param secure: whether the transport is encrypted
    @param local: whether it never leaves this host: loopback or a UNIX socket
    @param allow: which ways to log in the server may ask for, by libpq's names:
        C{none}, C{password} (in clear), C{md5}, C{scram-sha-256}; any other
        name allows nothing
    @param challenge_required: whether the login is to check the password, so
        that a server that asks for none has not answered the question
    @param binding: the server certificate's hash for C{tls-server-end-point}
        (RFC 5929 section 4.1); None: no channel binding
    @param binding_required: whether a login without it is none (libpq's
        C{channel_binding=require})
    @param minor: the protocol's minor version to ask for: 0 or 2
    @param least_minor: the lowest that will do
    """

    def __init__(
        self,
        *,
        user: str,
        database: str,
        password: bytes | None,
        parameters: Mapping[str, str],
        nonce: str,
        secure: bool,
        local: bool,
        allow: frozenset[str] = DEFAULT,
        challenge_required: bool = False,
        binding: bytes | None = None,
        binding_required: bool = False,
        minor: int = 0,
        least_minor: int = 0,
    ) -> None:
        if "user" in parameters or "database" in parameters:
            raise LocalProtocolError("user and database have arguments of their own")
        self._user = user
        self._password = password
        self._nonce = nonce
        self._secure = secure
        self._sheltered = secure or local
        # Nothing but SCRAM has a channel binding.
        self._allow = allow & {"scram-sha-256"} if binding_required else allow
        self._binding_required = binding_required
        self._minors = (least_minor, minor)
        self._challenge_required = challenge_required
        self._binding = binding
        self._scram: ScramClient | None = None
        self._negotiated = False
        self._parameters: dict[str, str] = {}
        self._notices: list[ServerMessage] = []
        self._pid: int | None = None
        self._key: bytes | None = None
        self._received = 0
        self._reader = MessageReader(LOGIN_LIMIT)
        self._state = LoginState.STARTED
        self._outgoing = messages.startup_message(
            {"user": user, "database": database, **parameters}, minor
        )

    def __repr__(self) -> str:
        return f"<ServerLogin of {self._user!r}: {self._state.value}>"

    @property
    def state(self) -> LoginState:
        """How far the login has come."""
        return self._state

    def data_to_send(self) -> bytes:
        """The bytes that are to go to the server now; each is given once."""
        data, self._outgoing = self._outgoing, b""
        return data

    def receive_data(self, data: bytes) -> list[LoginEvent]:
        """
        Take bytes from the server, in chunks of any size.

        @raise Unchallenged: it asked for no password, but had to
        @raise ProtocolError: it broke the protocol, asked for a password in a
            way that is not allowed, or failed to prove itself: hang up
        """
        if self._state in (LoginState.FAILED, LoginState.REFUSED):
            return []
        try:
            return self._receive(data)
        except ProtocolError:
            self._end(LoginState.FAILED)
            raise

    def key_derived(self, salted: bytes) -> None:
        """
        Go on after L{DeriveKey}.

        A login that the server has ended meanwhile stays ended.

        @param salted: what C{challenge.derive} gave
        @raise LocalProtocolError: no key was asked for
        """
        if self._state in (LoginState.REFUSED, LoginState.FAILED):
            return
        if self._state is not LoginState.DERIVING or self._scram is None:
            raise LocalProtocolError(f"no key was asked for: {self._state.value}")
        self._outgoing += messages.sasl_response(self._scram.prove(salted))
        self._state = LoginState.SCRAM_ANSWERED

    def _receive(self, data: bytes) -> list[LoginEvent]:
        self._received += len(data)
        if self._received > LOGIN_LIMIT:
            raise ProtocolError(
                f"the server sent more than {LOGIN_LIMIT} bytes before it was ready"
            )
        self._reader.feed(data)
        events: list[LoginEvent] = []
        while self._state is not LoginState.REFUSED and (message := self._reader.next_message()):
            event = self._message(*message)
            if event is not None:
                events.append(event)
        return events

    def _message(self, kind: int, body: bytes) -> LoginEvent | None:
        """Do what one message asks for, where the state allows it."""
        if self._state is LoginState.DONE:
            raise ProtocolError("the server went on after it was ready")
        if kind == messages.ERROR_RESPONSE:
            accepted = self._state is LoginState.ACCEPTED
            refusal = LoginRefused(parse_error(body), accepted)
            self._end(LoginState.REFUSED)
            return refusal
        if kind == messages.NOTICE_RESPONSE:
            notice = parse_error(body)
            # Each is many times as large here as on the wire.
            if len(self._notices) < NOTICES_KEPT:
                self._notices.append(notice)
            return None
        if self._state is LoginState.ACCEPTED:
            return self._settle(kind, body)
        if kind == messages.AUTHENTICATION:
            return self._authentication(body)
        if kind == messages.NEGOTIATE_PROTOCOL_VERSION and self._state is LoginState.STARTED:
            self._negotiate(body)
            return None
        raise self._unexpected(kind)

    def _settle(self, kind: int, body: bytes) -> LoginEvent | None:
        """Take what comes between AuthenticationOk and ReadyForQuery."""
        if kind == messages.PARAMETER_STATUS:
            name, value = messages.parse_parameter_status(body)
            self._parameters[name] = value
        elif kind == messages.BACKEND_KEY_DATA and self._key is None:
            self._pid, self._key = messages.parse_backend_key_data(body)
        elif kind == messages.READY_FOR_QUERY:
            if body != b"I":
                raise ProtocolError("the server is ready, but not idle, right after the login")
            if self._reader.trailing_data:
                raise ProtocolError("the server went on after it was ready")
            self._end(LoginState.DONE)
            return LoginDone(self._parameters, self._pid, self._key, tuple(self._notices))
        else:
            raise self._unexpected(kind)
        return None

    def _authentication(self, body: bytes) -> LoginEvent | None:
        """Answer an Authentication message, or refuse it."""
        code, rest = messages.parse_authentication(body)
        if code == messages.AUTH_OK:
            self._accept(rest)
        elif self._scram is not None:
            return self._continue_scram(self._scram, code, rest)
        elif self._state is not LoginState.STARTED:
            raise self._unasked(code)
        elif code == messages.AUTH_CLEARTEXT:
            self._answer(self._bare_password("password", rest, 0))
        elif code == messages.AUTH_MD5:
            password = self._bare_password("md5", rest, 4)
            self._answer(md5_password(self._user, password, rest))
        elif code == messages.AUTH_SASL:
            self._begin_scram(rest)
        else:
            name = _OTHER_METHODS.get(code, f"an unknown ({code})")
            raise ProtocolError(
                f"the server asks for {name} authentication, which is not known here"
            )
        return None

    def _accept(self, rest: bytes) -> None:
        """Believe an AuthenticationOk, or find what is missing from it."""
        if rest:
            raise ProtocolError("invalid Authentication message")
        if self._state is LoginState.STARTED:
            if self._challenge_required:
                raise Unchallenged("the server asked for no password: it trusts this address")
            if "none" not in self._allow:
                raise ProtocolError("the server asks for no password, which is not allowed")
        elif self._state not in (LoginState.ANSWERED, LoginState.PROVED):
            raise ProtocolError("the server let us in without the proof that SCRAM owes")
        elif self._outgoing:
            raise ProtocolError("the server let us in before it had our answer")
        self._state = LoginState.ACCEPTED

    def _bare_password(self, method: str, rest: bytes, length: int) -> bytes:
        """The password, where it may be given away by this method."""
        if len(rest) != length:
            raise ProtocolError("invalid Authentication message")
        if method in self._allow and not self._sheltered:
            raise ProtocolError(
                f"the server asks for {method} authentication, "
                "and the connection is neither encrypted nor local"
            )
        return self._password_for(method)

    def _password_for(self, method: str) -> bytes:
        if method not in self._allow:
            raise ProtocolError(
                f"the server asks for {method} authentication, which is not allowed"
            )
        if self._password is None:
            raise ProtocolError(
                f"the server asks for {method} authentication, and there is no password"
            )
        return self._password

    def _answer(self, secret: bytes) -> None:
        self._outgoing += messages.password_message(secret)
        self._state = LoginState.ANSWERED

    def _begin_scram(self, rest: bytes) -> None:
        """Choose a SASL mechanism and say the first words."""
        *offered, last, end = rest.split(b"\0") if rest.count(0) > 1 else (b"", b"", b"")
        if last or end or b"" in offered:
            raise ProtocolError("invalid list of SASL mechanisms")
        password = self._password_for("scram-sha-256")
        plus_offered = SCRAM_SHA_256_PLUS.encode() in offered
        if plus_offered and not self._secure:
            raise ProtocolError(
                f"the server offers {SCRAM_SHA_256_PLUS} though this connection is not"
                " encrypted: somebody in between has ended its TLS"
            )
        self._check_binding(plus_offered)
        scram = ScramClient(
            password,
            self._nonce,
            binding=None if self._binding is None else (_BINDING, self._binding),
            plus_offered=plus_offered,
        )
        if scram.mechanism.encode() not in offered:
            names = b", ".join(offered).decode("utf-8", "replace")
            raise ProtocolError(f"the server offers {names[:100]!r}, but not {SCRAM_SHA_256}")
        self._scram = scram
        self._outgoing += messages.sasl_initial_response(scram.mechanism, scram.first())
        self._state = LoginState.SCRAM_BEGUN

    def _check_binding(self, offered: bool) -> None:
        """Refuse a login without the channel binding that it must have."""
        if not self._binding_required or (offered and self._binding is not None):
            return
        if not self._secure:
            why = "the connection is not encrypted"
        elif offered:
            why = "there is none for a certificate signed like the server's (RFC 5929)"
        else:
            why = "the server does not offer it"
        raise ProtocolError(f"channel_binding=require, but {why}")

    def _continue_scram(self, scram: ScramClient, code: int, rest: bytes) -> LoginEvent | None:
        """Take the server's next word of SCRAM."""
        if code == messages.AUTH_SASL_CONTINUE and self._state is LoginState.SCRAM_BEGUN:
            challenge = scram.read_challenge(rest)
            self._state = LoginState.DERIVING
            return DeriveKey(challenge)
        if code == messages.AUTH_SASL_FINAL and self._state is LoginState.SCRAM_ANSWERED:
            scram.verify(rest)
            self._state = LoginState.PROVED
            return None
        raise self._unasked(code)

    def _negotiate(self, body: bytes) -> None:
        """Read NegotiateProtocolVersion, of which there is one at most."""
        if self._negotiated:
            raise ProtocolError("the server negotiates the version twice")
        least, asked = self._minors
        negotiated_minor(body, asked, least)
        self._negotiated = True

    def _unasked(self, code: int) -> ProtocolError:
        return ProtocolError(f"unexpected authentication request {code} while {self._state.value}")

    def _unexpected(self, kind: int) -> ProtocolError:
        return ProtocolError(f"unexpected message {chr(kind)!a} while {self._state.value}")

    def _end(self, state: LoginState) -> None:
        """Come to an end, and forget what is secret."""
        self._state = state
        self._password = None
        self._scram = None
        self._outgoing = b""
