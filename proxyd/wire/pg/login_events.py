"""
What may come of a login to a server: the words of L{proxyd.wire.pg.login}.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, unique

from proxyd.errors import ProtocolError
from proxyd.wire.pg.errors import ServerMessage
from proxyd.wire.pg.scram import ScramChallenge


class Unchallenged(ProtocolError):
    """
    The server let us in without asking for the password that was to be checked.

    It trusts this host's address (C{trust}, C{peer} or C{cert} in its
    C{pg_hba.conf}), so that its AuthenticationOk says nothing about the password.
    """


@dataclass(frozen=True, slots=True)
class DeriveKey:
    """
    The server wants SCRAM: compute C{challenge.derive(password)}, call L{ServerLogin.key_derived}.

    The one slow step of a login: do it in a thread when C{challenge.iterations}
    is large.
    """

    challenge: ScramChallenge


@dataclass(frozen=True, slots=True)
class LoginDone:
    """
    The server is ready for the first query.

    @param parameters: what it reported by ParameterStatus
    @param pid: the number of its process; None when it told none, and then
        nothing can be cancelled
    @param key: what a CancelRequest must show
    @param notices: what it said besides, the first hundred of it
    """

    parameters: dict[str, str] = field(hash=False)
    pid: int | None
    key: bytes | None = field(repr=False)
    notices: tuple[ServerMessage, ...]


@dataclass(frozen=True, slots=True)
class LoginRefused:
    """
    The server said no; hang up.

    @param after_authentication: whether it had accepted the password (or
        asked for none) before. What it says before that anyone on the way
        could have said, where the transport is not secure.
    """

    error: ServerMessage
    after_authentication: bool


LoginEvent = DeriveKey | LoginDone | LoginRefused


@unique
class LoginState(Enum):
    """How far a login has come."""

    STARTED = "waiting to be asked for a password"
    ANSWERED = "waiting for the verdict on a password"
    SCRAM_BEGUN = "waiting for a SCRAM challenge"
    DERIVING = "waiting for the salted password"
    SCRAM_ANSWERED = "waiting for the server's proof"
    PROVED = "waiting for the verdict after the server's proof"
    ACCEPTED = "waiting for the server to be ready"
    DONE = "logged in"
    REFUSED = "refused by the server"
    FAILED = "the server broke the protocol"
