"""
What clients are told when something goes wrong: the one table from our words to SQLSTATEs.

A L{Fatal} is what ends a client's session, in PostgreSQL's own form
(PostgreSQL appendix "Error Codes"; protocol chapter, "Error and Notice Message
Fields").
"""

from __future__ import annotations

from proxyd.errors import DialError, DialFailure
from proxyd.wire.pg.errors import ServerMessage, error_response

STARTING_UP = "57P03"
"""A server that is starting up or shutting down (cannot_connect_now): it may be asked again."""

NOT_NOW = frozenset((STARTING_UP, "57P01", "57P02"))
"""What a server says that comes up, goes down, or crashes in the middle of a login."""


class Fatal(Exception):
    """
    A client's session ends, and this is what the client is told.

    @param sqlstate: the SQLSTATE
    @param message: one sentence without a full stop, as PostgreSQL's are
    @param detail: what more there is to know
    @param hint: what to do next
    @param reason: what the log says instead of the message, where the client
        must not know
    @ivar good_for: the connection that its token would let in: whether there is
        one is no secret for this client
    """

    good_for = ""

    def __init__(
        self, sqlstate: str, message: str, detail: str = "", hint: str = "", reason: str = ""
    ) -> None:
        super().__init__(message)
        self.sqlstate = sqlstate
        self.message = message
        self.detail = detail
        self.hint = hint
        self.reason = reason or message

    def encode(self) -> bytes:
        """The ErrorResponse."""
        return error_response("FATAL", self.sqlstate, self.message, self.detail, self.hint)


class Refused(Exception):
    """
    A server refused a login of ours.

    @param error: what it said
    @param authenticated: it did so after it had accepted the password
    """

    def __init__(self, error: ServerMessage, authenticated: bool) -> None:
        super().__init__(f"{error.sqlstate} {error.message}")
        self.error = error
        self.authenticated = authenticated


def starting() -> Fatal:
    """Not ready yet."""
    return Fatal("57P03", "the database system is starting up")


def draining() -> Fatal:
    """A new client comes while proxyd is about to stop."""
    return Fatal("57P03", "the database system is shutting down")


def shutdown(reason: str) -> Fatal:
    """A live session is ended from outside, with PostgreSQL's own words."""
    return Fatal("57P01", "terminating connection due to administrator command", reason=reason)


def no_database(name: str) -> Fatal:
    """There is none of that name: for those only who have logged in well."""
    return Fatal("3D000", f'database "{name}" does not exist')


def too_many() -> Fatal:
    """C{max_clients} are there already."""
    return Fatal(
        "53300",
        "sorry, too many clients already",
        hint="Try again later, or raise postgres.max_clients.",
    )


def wrong_password(user: str, reason: str) -> Fatal:
    """No password, a wrong one, or a user nobody knows: the same words for all."""
    return Fatal("28P01", f'password authentication failed for user "{user}"', reason=reason)


def certificate_needed() -> Fatal:
    """The client showed no certificate, in PostgreSQL's own words."""
    return Fatal(
        "28000",
        "connection requires a valid client certificate",
        hint="Connect with sslcert and sslkey of a certificate that client_ca signed.",
    )


def wrong_certificate(user: str, reason: str) -> Fatal:
    """The certificate is somebody else's, in PostgreSQL's own words."""
    return Fatal("28000", f'certificate authentication failed for user "{user}"', reason=reason)


_OPERATOR = "This is not the client's fault: the operator's log has more."

_IAM_HINTS = (
    # What an RDS server says to a token, and what to do about it.
    (
        "PAM authentication failed",
        (
            "The IAM token had expired or was not valid: compare this machine's clock, check that "
            "the DSN names the endpoint itself and not an alias, and run proxyctl doctor."
        ),
    ),
    (
        "password authentication failed",
        (
            "The server wants a password of this user, or rejects the token: GRANT rds_iam TO the "
            "user, and allow rds-db:connect for it in the IAM policy."
        ),
    ),
    (
        "pg_hba.conf",
        (
            "The server does not let this user in by IAM: enable IAM authentication of the "
            "instance, check its parameter group, and connect with TLS."
        ),
    ),
)
_IAM_ADVICE = {
    DialFailure.TIMEOUT: "Raise aws_iam_auth.connection_timeout, or see why the server or AWS "
    "answers slowly (security group, route, proxyctl doctor).",
    DialFailure.CREDENTIALS: "No IAM token could be made: the operator's log and proxyctl doctor "
    "say why.",
}


def unreachable(error: DialError, iam: bool = False) -> Fatal:
    """
    The server could not be reached, or hung up while we logged in.

    @param iam: it was to be by an IAM token
    """
    state = "08006" if error.failure is DialFailure.LOST else "08001"
    hint = _IAM_ADVICE.get(error.failure, "") if iam else ""
    return Fatal(
        state,
        "the database server can't be reached",
        detail=f"{error.failure.value[0].upper()}{error.failure.value[1:]}.",
        hint=hint or _OPERATOR,
        reason=f"{error}. {hint}" if hint else str(error),
    )


def token_refused(error: ServerMessage) -> Fatal:
    """The server refused an IAM token: its own words, and what to do."""
    hint = next((hint for text, hint in _IAM_HINTS if text in error.message), _OPERATOR)
    return Fatal(
        "08006",
        "the database server refused the service connection",
        detail=f"The server said {error.sqlstate}: {error.message}",
        hint=hint,
        reason=f"the IAM login was refused: {error.sqlstate} {error.message}. {hint}",
    )


_KEPT_STATES = {
    "53300": "sorry, too many clients already",
    STARTING_UP: "the database system is starting up",
    "3D000": "the database does not exist",
}


def service_refused(error: ServerMessage, authenticated: bool) -> Fatal:
    """
    The server refused the service user: trouble of ours, never the client's 28xxx.

    What it said before it had let us in may come from somebody else, and is for
    the log only (CVE-2024-10977).
    """
    state = STARTING_UP if error.sqlstate in NOT_NOW else error.sqlstate
    if state in _KEPT_STATES:
        message = error.message if authenticated else _KEPT_STATES[state]
        return Fatal(state, message, reason=f"{error.sqlstate} {error.message}")
    return Fatal(
        "08006",
        "the database server refused the service connection",
        detail=f"The server said {error.sqlstate}.",
        hint=_OPERATOR,
        reason=f"the service user was refused: {error.sqlstate} {error.message}",
    )


def login_refused(error: ServerMessage, authenticated: bool, user: str) -> Fatal:
    """
    The server refused the client's own login: its SQLSTATE reaches the client.

    What it said before it knew the password is not passed on: it may name
    proxyd's own address, or come from somebody else (CVE-2024-10977).
    """
    reason = f"the server said {error.sqlstate} {error.message}"
    if authenticated:
        return Fatal(error.sqlstate, error.message, error.detail, error.hint, reason)
    state = STARTING_UP if error.sqlstate in NOT_NOW else error.sqlstate
    if state == "28000":
        message = f'the database server does not let user "{user}" log in through proxyd'
    else:
        message = _KEPT_STATES.get(state, "the database server refused the login")
    return Fatal(state, message, reason=reason)


def lost_server(reason: str) -> Fatal:
    """The server connection broke under a client."""
    return Fatal(
        "08006",
        "server closed the connection unexpectedly",
        detail="The connection between proxyd and the database server was lost.",
        hint="A statement that was running may or may not have been executed.",
        reason=f"server connection lost: {reason}",
    )


def pool_full(seconds: float, size: int) -> Fatal:
    """No server connection became free in time."""
    return Fatal(
        "53300",
        f"no server connection became free within {seconds:g} seconds",
        detail=f"All {size} connections of the pool are in use.",
        hint="Raise max_open_connections or acquire_timeout, or look for sessions that never end.",
    )
