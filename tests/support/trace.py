"""
The same bytes said to two servers, and what both answered, made comparable.

A L{Case} is what a client says; L{played} says it and gives the answer as
lines of text in which everything that may differ between two sessions of one
server (process id, cancel key, numbers of tables) is put by.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, unique

from tests.support import pgbytes
from tests.support.deadlines import Deadline
from tests.support.wireclient import Message, WireClient

LAST_WORD = "the last word"
# OIDs of what users made start here (access/transam.h, FirstNormalObjectId).
FIRST_NORMAL_OID = 16384
OWN_NAME = "ParameterStatus application_name"
# Each session's temporary tables are in a schema of their own number.
OWN_SCHEMA = re.compile(r"pg_temp_\d+")

NAMES = {
    "1": "ParseComplete",
    "2": "BindComplete",
    "3": "CloseComplete",
    "A": "NotificationResponse",
    "C": "CommandComplete",
    "D": "DataRow",
    "E": "ErrorResponse",
    "G": "CopyInResponse",
    "H": "CopyOutResponse",
    "I": "EmptyQueryResponse",
    "K": "BackendKeyData",
    "N": "NoticeResponse",
    "R": "Authentication",
    "S": "ParameterStatus",
    "T": "RowDescription",
    "V": "FunctionCallResponse",
    "Z": "ReadyForQuery",
    "c": "CopyDone",
    "d": "CopyData",
    "n": "NoData",
    "s": "PortalSuspended",
    "t": "ParameterDescription",
    "v": "NegotiateProtocolVersion",
}


@unique
class Errors(Enum):
    """How far the errors of a case must agree."""

    WHOLE = "every field"
    CODES = "severity and SQLSTATE: proxyd finds the fault itself, and says it in its own words"
    MAY_ADD_FATAL = "proxyd may say FATAL 08P01 where PostgreSQL hangs up without a word"
    LAST = "only the last error: proxyd does not wait for answers that it will not need"


@unique
class Delivery(Enum):
    """How TCP carries what a client says."""

    STEPS = "a segment a step, each answered before the next"
    BYTES = "a segment a byte"
    AT_ONCE = "one segment for all, the start-up packet included"
    TLS = "a segment a step, inside TLS"


NOT_BY_BYTES = frozenset(Delivery) - {Delivery.BYTES}


@dataclass(frozen=True, slots=True)
class Step:
    """
    Something said, and what is then awaited.

    @param until: types of messages awaited, in their order; C{$}: the end of
        the connection; C{#}: one byte that is no message
    @param cuts: where TCP cuts it
    @param hang_up: whether the client then says that it sends no more
    """

    say: bytes
    until: str = ""
    cuts: Sequence[int] = ()
    hang_up: bool = False


@dataclass(frozen=True, slots=True)
class Case:
    """
    What a client says.

    @param name: becomes a test's name
    @param promise: one sentence
    @param steps: what is said after the login; with C{raw} the login too
    @param settings: more start-up parameters
    @param errors: how far errors must agree
    @param raw: no login is made
    @param deliveries: the ones that have a meaning here
    """

    name: str
    promise: str
    steps: tuple[Step, ...]
    settings: Mapping[str, str] = field(default_factory=dict)
    errors: Errors = Errors.WHOLE
    raw: bool = False
    deliveries: frozenset[Delivery] = frozenset(Delivery)


def played(
    case: Case, client: WireClient, delivery: Delivery, user: str, database: str
) -> list[str]:
    """
    Say a case to a server and give its answer, a line a message.

    A session that is still open then is asked for L{LAST_WORD}, so that a
    message too many shows as well as one too few.
    """
    if delivery is Delivery.TLS:
        client.start_tls()
    parameters = {"user": user, "database": database, "application_name": "differential"}
    hello = pgbytes.startup(parameters | dict(case.settings))
    steps = case.steps if case.raw else (Step(hello, "Z"), *case.steps)
    if delivery is Delivery.AT_ONCE:
        until = "".join(step.until for step in steps)
        steps = (Step(b"".join(step.say for step in steps), until),)
    heard: list[str] = []
    try:
        _say_all(client, case, steps, delivery, heard)
    except TimeoutError:
        heard.append("silence")
    return _in_any_order(heard)


def _say_all(
    client: WireClient, case: Case, steps: Sequence[Step], delivery: Delivery, heard: list[str]
) -> None:
    ended = False
    for step in steps:
        if ended:
            break
        cuts = range(1, len(step.say)) if delivery is Delivery.BYTES else step.cuts
        try:
            client.send(step.say, cuts)
            if step.hang_up:
                client.half_close()
        except OSError:
            pass  # what it said before it hung up is still to be read
        if step.until == "#":
            heard.append(f"byte {client.read_bytes(1)!r}")
            continue
        ended = _listen(client, step.until, case, heard)
    if not ended:
        # In a transaction that has failed nothing else would be answered by it.
        client.send(pgbytes.query(f"ROLLBACK; SELECT '{LAST_WORD}'"))
        while not ended and not (heard and LAST_WORD in heard[-1]):
            ended = _listen(client, " ", case, heard)
        if not ended:
            _listen(client, "CZ", case, heard)
            client.send(pgbytes.TERMINATE)
            rest = [told(message, case.errors) for message in client.read_to_end()]
            # Who pipelines leaves no pause in which proxyd could put its name back before this.
            late = [line for line in rest if line.startswith(OWN_NAME)]
            heard += [*late, "end" if late == rest else "more after Terminate"]


def _listen(client: WireClient, until: str, case: Case, heard: list[str]) -> bool:
    """Read what is awaited; a blank awaits any one message. Gives whether the end came."""
    left = list(until)
    deadline = Deadline(client.seconds, "the server's answer")
    while left:
        deadline.left()
        message = client.read_message()
        if message is None:
            heard.append("end")
            return True
        heard.append(told(message, case.errors))
        if left[0] in (message.kind, " "):
            del left[0]
    return False


def told(message: Message, errors: Errors = Errors.WHOLE) -> str:
    """A message as a line, without what differs between two sessions of one server."""
    name = NAMES.get(message.kind, f"type {message.kind!r}")
    body = message.body
    if message.kind == "K":
        return f"{name} with a key of {len(body) - 4} bytes"
    if message.kind == "A":
        return f"{name} {body[4:]!r}"
    if message.kind == "T":
        return f"{name} {' '.join(_columns(body))}"
    if message.kind in "EN":
        fields = {k: OWN_SCHEMA.sub("pg_temp", v) for k, v in message.fields().items()}
        if errors is not Errors.WHOLE and message.kind == "E":
            fields = {letter: fields.get(letter, "missing") for letter in "SVC"}
        return f"{name} {fields}"
    if message.kind == "S":
        setting, value = message.strings()
        return f"{name} {setting} = {value!r}"
    return f"{name} {body!r}"


def forgiving(answer: list[str], errors: Errors) -> list[str]:
    """What of an answer is compared."""
    # application_name carries the client's user name too, and RESET takes it back to
    # what the pool set: a difference that has tests of its own.
    answer = [line for line in answer if not line.startswith(OWN_NAME)]
    if errors is Errors.LAST:
        return answer[-2:]
    if errors is Errors.CODES:
        # proxyd looks at settings before it says that the login was good, not after.
        return [line for line in answer if not line.startswith("Authentication ")]
    if errors is Errors.MAY_ADD_FATAL and answer[-1] == "end" and len(answer) > 1:
        added = "FATAL" in answer[-2] and "08P01" in answer[-2]
        return [*answer[:-2], answer[-1]] if added else answer
    return answer


def _columns(body: bytes) -> Iterable[str]:
    """RowDescription's fields, the table as known or not."""
    (count,) = struct.unpack_from("!H", body)
    at = 2
    for _ in range(count):
        end = body.index(b"\0", at)
        table, number, kind, size, modifier, form = struct.unpack_from("!IhIhih", body, end + 1)
        of = "table" if table >= FIRST_NORMAL_OID else table
        yield f"({body[at:end].decode()!r} {of} {number} {kind} {size} {modifier} {form})"
        at = end + 19


def _in_any_order(heard: list[str]) -> list[str]:
    """
    An answer in which neighbouring ParameterStatus are sorted: their order is nobody's promise.
    """
    made: list[str] = []
    run: list[str] = []
    for line in heard:
        if line.startswith("ParameterStatus"):
            run.append(line)
            continue
        made += [*sorted(run), line]
        run = []
    return made + sorted(run)
