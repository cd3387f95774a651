"""What breaks the protocol, or breaks off, so that the session ends."""

from __future__ import annotations

from tests.integration.cases_startup import ALONE, WHO
from tests.support.pgbytes import FLUSH, SYNC, extended, message, parse, query, startup
from tests.support.trace import Case, Errors, Step

CASES = [
    Case(
        "unknown_type",
        "A type of message that is none: FATAL 08P01 (66).",
        (Step(message("y", b"what"), "$"),),
        errors=Errors.CODES,
    ),
    Case(
        "nul_type",
        "A type that is no letter: FATAL 08P01 (66).",
        (Step(message("\0", b""), "$"),),
        errors=Errors.CODES,
    ),
    Case(
        "unknown_type_in_batch",
        "The same within a batch (66).",
        (Step(extended("SELECT 1") + message("y"), "$"),),
        errors=Errors.LAST,
    ),
    Case(
        "unknown_type_in_transaction",
        "The same within a transaction (66).",
        (Step(query("BEGIN"), "Z"), Step(message("y"), "$")),
        errors=Errors.CODES,
    ),
    Case(
        "length_3",
        "A length below 4 ends the session (66).",
        (Step(b"Q\0\0\0\3", "$"),),
        errors=Errors.MAY_ADD_FATAL,
    ),
    Case(
        "length_0",
        "A length of nought ends the session (66).",
        (Step(b"S\0\0\0\0", "$"),),
        errors=Errors.MAY_ADD_FATAL,
    ),
    Case(
        "length_minus_1",
        "A negative length ends the session (66).",
        (Step(b"P\xff\xff\xff\xff", "$"),),
        errors=Errors.MAY_ADD_FATAL,
    ),
    Case(
        "length_2_gb",
        "A length no message can have ends the session (66).",
        (Step(b"Q\x7f\xff\xff\xff", "$"),),
        errors=Errors.MAY_ADD_FATAL,
    ),
    Case(
        "small_message_too_long",
        "A Sync can't have 100,000 bytes: the session ends (66).",
        (Step(b"S\0\1\x86\xa0", "$"),),
        errors=Errors.MAY_ADD_FATAL,
    ),
    Case(
        "length_3_behind_a_query",
        "What came before is answered first (66).",
        (Step(query("SELECT 1") + b"Q\0\0\0\3", "$"),),
        errors=Errors.MAY_ADD_FATAL,
    ),
    Case(
        "password_in_session",
        "A PasswordMessage when nobody asks: FATAL 08P01 (66).",
        (Step(message("p", b"secret\0"), "$"),),
        errors=Errors.CODES,
    ),
    Case(
        "sync_then_unknown_type",
        "An answered batch, then nonsense (66).",
        (Step(parse("SELECT 1") + SYNC, "Z"), Step(message("~"), "$")),
        errors=Errors.CODES,
    ),
    Case(
        "half_closed",
        "A client that sends no more still gets its answers (70).",
        (Step(query("SELECT generate_series(1, 1000)"), "$", hang_up=True),),
        deliveries=ALONE,
    ),
    Case(
        "half_closed_in_batch",
        "The same where a batch was not ended (70).",
        (Step(extended("SELECT 1") + FLUSH, "$", hang_up=True),),
        deliveries=ALONE,
    ),
    Case(
        "half_closed_in_message",
        "A message that is never whole is never run (67).",
        (Step(message("Q", b"SELECT 1", 1000), "$", hang_up=True),),
        errors=Errors.MAY_ADD_FATAL,
        deliveries=ALONE,
    ),
    Case(
        "half_closed_in_header",
        "Nor is one whose header is never whole (67).",
        (Step(query("SELECT 1") + b"Q\0\0", "$", hang_up=True),),
        errors=Errors.MAY_ADD_FATAL,
        deliveries=ALONE,
    ),
    Case(
        "half_closed_in_start",
        "A start-up packet that is never whole: no word is said (12).",
        (Step(startup(WHO)[:20], "$", hang_up=True),),
        raw=True,
        errors=Errors.MAY_ADD_FATAL,
        deliveries=ALONE,
    ),
    Case(
        "nothing_at_all",
        "A client that says nothing and goes: a health check (12).",
        (Step(b"", "$", hang_up=True),),
        raw=True,
        deliveries=ALONE,
    ),
]
