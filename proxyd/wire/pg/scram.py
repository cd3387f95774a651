"""
SCRAM-SHA-256 and SCRAM-SHA-256-PLUS, the client's half.

Sans I/O and without any randomness of its own; the one slow step, PBKDF2, is
a pure function that may run in a thread.

Source: RFC 5802 (SCRAM), RFC 7677 (SHA-256), RFC 5929 section 4
(tls-server-end-point), RFC 4013 (SASLprep); PostgreSQL, "SASL Authentication".
"""

from __future__ import annotations

import hashlib
import hmac
import re
import stringprep
import unicodedata
from base64 import b64decode, b64encode
from dataclasses import dataclass
from enum import Enum, unique

from proxyd.errors import LocalProtocolError, ProtocolError

SCRAM_SHA_256 = "SCRAM-SHA-256"
SCRAM_SHA_256_PLUS = "SCRAM-SHA-256-PLUS"

ITERATIONS_LIMIT = 1_000_000
"""PBKDF2 rounds that a server may ask for; more would be an attack on our time."""

CHALLENGE_LIMIT = 4096
"""Bytes of a server's challenge; PostgreSQL's has fewer than 100."""

_NONCE = re.compile(r"[\x21-\x2b\x2d-\x7e]+", re.ASCII)
_COUNT = re.compile(r"[1-9][0-9]{0,8}", re.ASCII)

# RFC 4013 section 2.3, with the unassigned code points of section 2.5.
_PROHIBITED = (
    stringprep.in_table_a1,
    stringprep.in_table_c12,
    stringprep.in_table_c21_c22,
    stringprep.in_table_c3,
    stringprep.in_table_c4,
    stringprep.in_table_c5,
    stringprep.in_table_c6,
    stringprep.in_table_c7,
    stringprep.in_table_c8,
    stringprep.in_table_c9,
)


@dataclass(frozen=True, slots=True)
class ScramChallenge:
    """What the server's first message asks for: PBKDF2 over this salt, so many rounds."""

    salt: bytes
    iterations: int

    def derive(self, password: str | bytes) -> bytes:
        """
        The salted password: 32 bytes, by HMAC-SHA-256.

        Pure, and slow by design (a second or so at the limit): call it in a
        thread when C{iterations} is large.
        """
        secret = prepare_password(password)
        return hashlib.pbkdf2_hmac("sha256", secret, self.salt, self.iterations)


@unique
class _State(Enum):
    START = "nothing said"
    FIRST_SENT = "waiting for the challenge"
    CHALLENGED = "waiting for the salted password"
    FINAL_SENT = "waiting for the server's proof"
    VERIFIED = "the server proved itself"


class ScramClient:
    """
    One SCRAM login, as a client.

    Call L{first}, send it; give the answer to L{final}, send that; give the
    last answer to L{verify}. Instead of L{final}: L{read_challenge}, then
    C{challenge.derive(password)} where it may take its time, then L{prove}.

    @param password: as the user typed it; SASLprep is done here
    @param nonce: printable ASCII without comma, fresh for this login, of at
        least 18 random bytes
    @param binding: kind and data of the channel binding, such as
        C{("tls-server-end-point", hash)}; None where there is no TLS, or it
        is not wanted
    @param plus_offered: whether the server offered the mechanism with channel
        binding; with it and a C{binding}, that mechanism is the one to choose
    @param user: the name in the SCRAM message; PostgreSQL looks at the
        start-up packet's only, and libpq sends an empty one
    """

    __slots__ = (
        "_bare",
        "_binding",
        "_gs2",
        "_nonce",
        "_password",
        "_server_signature",
        "_signed",
        "_state",
        "_without_proof",
    )

    def __init__(
        self,
        password: str | bytes,
        nonce: str,
        *,
        binding: tuple[str, bytes] | None = None,
        plus_offered: bool = False,
        user: str = "",
    ) -> None:
        if not _NONCE.fullmatch(nonce):
            raise LocalProtocolError("a SCRAM nonce is printable ASCII without comma")
        self._password = password
        self._nonce = nonce
        if binding is None:
            self._gs2, self._binding = "n,,", b""
        elif plus_offered:
            self._gs2, self._binding = f"p={binding[0]},,", binding[1]
        else:
            # "y": we could, but you did not offer it. A server that did offer
            # it knows by this that someone took the offer away.
            self._gs2, self._binding = "y,,", b""
        name = user.replace("=", "=3D").replace(",", "=2C")
        self._bare = f"n={name},r={nonce}"
        self._without_proof = ""
        self._signed = b""
        self._server_signature = b""
        self._state = _State.START

    def __repr__(self) -> str:
        return f"<ScramClient {self.mechanism}: {self._state.value}>"

    @property
    def mechanism(self) -> str:
        """The name of the SASL mechanism that goes with L{first}."""
        return SCRAM_SHA_256_PLUS if self._gs2.startswith("p") else SCRAM_SHA_256

    @property
    def verified(self) -> bool:
        """Whether the server has proved that it knows the password."""
        return self._state is _State.VERIFIED

    def first(self) -> bytes:
        """The client-first-message."""
        self._expect(_State.START)
        self._state = _State.FIRST_SENT
        return (self._gs2 + self._bare).encode()

    def read_challenge(self, server_first: bytes) -> ScramChallenge:
        """
        Read the server-first-message.

        @raise ProtocolError: it is malformed or too long, does not extend our
            nonce, asks for an extension or for too many rounds
        """
        self._expect(_State.FIRST_SENT)
        if len(server_first) > CHALLENGE_LIMIT:
            raise ProtocolError(f"a SCRAM challenge of {len(server_first)} bytes")
        text = _ascii(server_first)
        if text.startswith("m="):
            raise ProtocolError("the server asks for a SCRAM extension")
        parts = text.split(",")
        if len(parts) < 3:
            raise ProtocolError("malformed SCRAM challenge")
        nonce = _attribute("r", parts[0])
        if not _NONCE.fullmatch(nonce) or not nonce.startswith(self._nonce):
            raise ProtocolError("the server's SCRAM nonce does not extend ours")
        if len(nonce) == len(self._nonce):
            raise ProtocolError("the server added nothing to the SCRAM nonce")
        salt = _decode(_attribute("s", parts[1]))
        count = _attribute("i", parts[2])
        if not salt or not _COUNT.fullmatch(count):
            raise ProtocolError("malformed SCRAM challenge")
        if int(count) > ITERATIONS_LIMIT:
            raise ProtocolError(
                f"the server asks for {count} SCRAM iterations; the limit is {ITERATIONS_LIMIT}"
            )
        channel = b64encode(self._gs2.encode() + self._binding).decode()
        self._without_proof = f"c={channel},r={nonce}"
        self._signed = f"{self._bare},{text},{self._without_proof}".encode()
        self._state = _State.CHALLENGED
        return ScramChallenge(salt, int(count))

    def prove(self, salted_password: bytes) -> bytes:
        """
        The client-final-message.

        @param salted_password: what C{challenge.derive} gave
        """
        self._expect(_State.CHALLENGED)
        client_key = _hmac(salted_password, b"Client Key")
        signature = _hmac(hashlib.sha256(client_key).digest(), self._signed)
        proof = bytes(a ^ b for a, b in zip(client_key, signature, strict=True))
        self._server_signature = _hmac(_hmac(salted_password, b"Server Key"), self._signed)
        self._password = b""
        self._state = _State.FINAL_SENT
        return f"{self._without_proof},p=".encode() + b64encode(proof)

    def final(self, server_first: bytes) -> bytes:
        """
        The client-final-message, in one step that may take its time.

        @raise ProtocolError: as L{read_challenge}
        """
        return self.prove(self.read_challenge(server_first).derive(self._password))

    def verify(self, server_final: bytes) -> None:
        """
        Read the server-final-message: the server must know the password too.

        @raise ProtocolError: it reports an error, is malformed, or its
            signature is wrong
        """
        self._expect(_State.FINAL_SENT)
        text = _ascii(server_final)
        if text.startswith("e="):
            raise ProtocolError("the server ended SCRAM with an error")
        signature = _decode(_attribute("v", text.partition(",")[0]))
        if not hmac.compare_digest(signature, self._server_signature):
            raise ProtocolError("the server's SCRAM proof is wrong: it does not know the password")
        self._state = _State.VERIFIED

    def _expect(self, state: _State) -> None:
        if self._state is not state:
            raise LocalProtocolError(f"SCRAM steps out of order: {self._state.value}")


def prepare_password(password: str | bytes) -> bytes:
    """
    A password as SCRAM hashes it: by SASLprep, or as it is.

    As libpq and the server do: what is pure ASCII, not UTF-8 or forbidden by
    SASLprep is used as it stands (C{pg_saslprep}).
    """
    raw = password.encode("utf-8", "surrogateescape") if isinstance(password, str) else password
    if raw.isascii():
        return raw
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw
    return _saslprep(text) or raw


def _saslprep(text: str) -> bytes:
    """RFC 4013; empty when it forbids the text."""
    mapped = "".join(
        " " if stringprep.in_table_c12(character) else character
        for character in text
        if stringprep.in_table_c12(character) or not stringprep.in_table_b1(character)
    )
    prepared = unicodedata.normalize("NFKC", mapped)
    if any(table(character) for character in prepared for table in _PROHIBITED):
        return b""
    # RFC 3454 section 6: text with right-to-left letters has no others, and
    # begins and ends with one.
    if any(map(stringprep.in_table_d1, prepared)) and (
        any(map(stringprep.in_table_d2, prepared))
        or not stringprep.in_table_d1(prepared[0])
        or not stringprep.in_table_d1(prepared[-1])
    ):
        return b""
    return prepared.encode()


def _hmac(key: bytes, data: bytes) -> bytes:
    return hmac.digest(key, data, "sha256")


def _ascii(message: bytes) -> str:
    try:
        return message.decode("ascii")
    except UnicodeDecodeError:
        raise ProtocolError("malformed SCRAM message") from None


def _attribute(letter: str, part: str) -> str:
    if not part.startswith(f"{letter}="):
        raise ProtocolError("malformed SCRAM message")
    return part[2:]


def _decode(text: str) -> bytes:
    try:
        return b64decode(text, validate=True)
    except ValueError:
        raise ProtocolError("malformed SCRAM message") from None
