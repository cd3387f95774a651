"""What a client may say in plain queries: statements, errors, transactions, cursors, LISTEN."""

from __future__ import annotations

from tests.support.pgbytes import FLUSH, SYNC, TERMINATE, function_call, query
from tests.support.trace import NOT_BY_BYTES, Case, Step

# From pg_proc.dat: the functions that libpq's large object calls use, and int4pl.
LO_OPEN, LO_CLOSE, LO_READ, LO_WRITE = 952, 953, 954, 955
LO_LSEEK, LO_CREATE, LO_TELL, LO_UNLINK, INT4PL = 956, 715, 958, 964, 177
LO_NUMBER = 700_700
READ_WRITE = 0x60000


def asked(*statements: str) -> tuple[Step, ...]:
    """Each of these as a Query, answered before the next."""
    return tuple(Step(query(statement), "Z") for statement in statements)


def number(value: int) -> bytes:
    """A 32-bit number in binary."""
    return value.to_bytes(4, "big", signed=True)


def called(oid: int, *arguments: bytes | None) -> Step:
    """A FunctionCall, answered."""
    return Step(function_call(oid, arguments), "Z")


CASES = [
    Case("select", "One row comes as PostgreSQL says it.", asked("SELECT 1 AS one, NULL, 'ü'")),
    Case("no_rows", "An empty result is one.", asked("SELECT * FROM items WHERE id < 0")),
    Case("many_rows", "All rows come, in order.", asked("SELECT * FROM items ORDER BY id")),
    Case("wide_row", "A row of 300 kB is whole.", asked("SELECT repeat('wide ', 60000), 1")),
    Case(
        "many_statements",
        "Several statements in a Query give one ReadyForQuery (46).",
        asked("SELECT 1; SELECT 2 WHERE false; CREATE TEMP TABLE t (i int); DROP TABLE t;"),
    ),
    Case(
        "many_statements_with_error",
        "An error ends the whole Query (46).",
        asked("CREATE TEMP TABLE t2 (i int); SELECT 1/0; SELECT 3", "SELECT * FROM t2"),
    ),
    Case("empty", "An empty Query is answered (47).", asked("", "  ; ;", "-- nothing")),
    Case("syntax_error", "A syntax error has all its fields.", asked("SELEC 1", "SELECT 1")),
    Case(
        "errors_of_all_kinds",
        "Errors come with detail, hint, position, names.",
        asked(
            "INSERT INTO items VALUES (1, 'again', 1)",
            "INSERT INTO items (id) VALUES (1001)",
            "SELECT nam FROM items",
            "SELECT 'x'::integer",
            "SELECT * FROM pg_authid",
            "DO $$ BEGIN RAISE EXCEPTION 'own' USING ERRCODE = 'UX001', HINT = 'try'; END $$",
        ),
    ),
    Case(
        "invalid_utf8",
        "Bytes that are no UTF-8 are the server's to refuse (23).",
        (Step(query(b"SELECT '\xff\xfe'"), "Z"), *asked("SELECT 1")),
    ),
    Case(
        "transaction",
        "The status goes I, T, E and back (45).",
        asked("BEGIN", "SELECT 1", "SELECT 1/0", "SELECT 2", "ROLLBACK", "COMMIT", "ROLLBACK"),
    ),
    Case(
        "savepoints",
        "A failed part of a transaction can be undone (45).",
        asked("BEGIN", "SAVEPOINT a", "bad", "ROLLBACK TO a", "SELECT 1", "COMMIT"),
    ),
    Case(
        "commit_of_failed",
        "COMMIT of a failed transaction says ROLLBACK.",
        asked("BEGIN", "bad", "COMMIT AND CHAIN", "SELECT 1", "ROLLBACK"),
    ),
    Case(
        "implicit_transaction",
        "BEGIN within a Query holds beyond it (46).",
        asked("SELECT 1; BEGIN; SELECT 2", "SELECT 3; COMMIT; SELECT 4"),
    ),
    Case("notice", "Notices come with their fields (63).", asked("SELECT shout()", "SELECT 1")),
    Case(
        "notices_by_level",
        "client_min_messages holds for this session (21).",
        asked(
            "SET client_min_messages = debug1",
            "DO $$ BEGIN RAISE DEBUG 'deep'; RAISE INFO 'info'; RAISE WARNING 'warn'; END $$",
            "SET client_min_messages = error",
            "SELECT shout()",
        ),
    ),
    Case(
        "cursor",
        "A cursor gives its rows in parts.",
        asked(
            "BEGIN",
            "DECLARE c SCROLL CURSOR FOR SELECT id FROM items ORDER BY id",
            "FETCH 3 FROM c",
            "MOVE 100 IN c",
            "FETCH BACKWARD 2 FROM c",
            "FETCH FROM nowhere",
            "ROLLBACK",
        ),
    ),
    Case(
        "cursor_with_hold",
        "A held cursor outlives its transaction.",
        asked(
            "BEGIN",
            "DECLARE h CURSOR WITH HOLD FOR SELECT generate_series(1, 9)",
            "COMMIT",
            "FETCH 4 FROM h",
            "CLOSE ALL",
            "FETCH 1 FROM h",
        ),
    ),
    Case(
        "settings",
        "What SET changes and is reported is reported (22, 63).",
        asked(
            "SET DateStyle = 'German'",
            "SET TimeZone = 'Asia/Tokyo'; SELECT '2024-03-09'::date",
            "SET client_encoding = 'LATIN1'",
            "SELECT 'ü'",
            "RESET ALL",
            "SET no.such = 'x'; SHOW no.such",
            "SET nothing = 1",
        ),
    ),
    Case(
        "settings_rolled_back",
        "A setting that is rolled back is reported again (63).",
        asked("BEGIN", "SET IntervalStyle = 'iso_8601'", "ROLLBACK", "SHOW IntervalStyle"),
    ),
    Case(
        "set_role",
        "A role is put on and off.",
        asked("SET ROLE clerk", "SELECT current_user", "RESET ROLE", "SET ROLE postgres"),
    ),
    Case(
        "listen",
        "Notifications reach the one who listens, itself too (63).",
        asked(
            "LISTEN news",
            "NOTIFY news, 'hello'",
            "SELECT pg_notify('news', repeat('x', 500)); SELECT 1",
            "BEGIN; NOTIFY news, 'late'; SELECT 2",
            "COMMIT",
            "UNLISTEN *",
            "NOTIFY news, 'unheard'",
        ),
    ),
    Case(
        "prepared_by_sql",
        "PREPARE, EXECUTE and DEALLOCATE work within a session (56).",
        asked(
            "PREPARE p (int) AS SELECT $1 + 1",
            "EXECUTE p (41)",
            "PREPARE p AS SELECT 1",
            "DEALLOCATE p",
            "EXECUTE p (1)",
            "DISCARD ALL",
            "DEALLOCATE ALL",
        ),
    ),
    Case(
        "discard_all_within",
        "DISCARD ALL of the client's own is refused in a transaction (84).",
        asked("BEGIN", "DISCARD ALL", "ROLLBACK", "DISCARD ALL", "SELECT 1"),
    ),
    Case(
        "pipelined_queries",
        "Queries sent in one go are answered in order (50).",
        (Step(query("SELECT 1") + query("bad") + query("") + query("SELECT 2"), "ZZZZ"),),
    ),
    Case(
        "sync_and_flush_alone",
        "A Sync that ends nothing is answered, a Flush is not (49, 50).",
        (Step(SYNC, "Z"), Step(FLUSH + SYNC + SYNC, "ZZ")),
    ),
    Case(
        "after_terminate",
        "What follows Terminate is not looked at (71).",
        (Step(query("SELECT 1"), "Z"), Step(TERMINATE, "$")),
    ),
    Case(
        "function_call",
        "A function is called by its number (62).",
        (
            called(INT4PL, number(40), number(2)),
            called(INT4PL, number(40), None),
            called(INT4PL, number(2**31 - 1), number(1)),
            called(4_000_000),
            called(INT4PL, number(1)),
            *asked("BEGIN"),
            called(INT4PL, number(1), number(1)),
            called(4_000_000),
            called(INT4PL, number(1), number(1)),
            *asked("ROLLBACK"),
        ),
    ),
    Case(
        "large_object_by_calls",
        "A large object is made, written, read and removed by FunctionCall (62).",
        (
            *asked("BEGIN"),
            called(LO_CREATE, number(LO_NUMBER)),
            called(LO_OPEN, number(LO_NUMBER), number(READ_WRITE)),
            called(LO_WRITE, number(0), b"large " * 20_000),
            called(LO_TELL, number(0)),
            called(LO_LSEEK, number(0), number(6), number(0)),
            called(LO_READ, number(0), number(30_000)),
            called(LO_CLOSE, number(0)),
            called(LO_UNLINK, number(LO_NUMBER)),
            called(LO_OPEN, number(LO_NUMBER), number(READ_WRITE)),
            *asked("ROLLBACK"),
        ),
        deliveries=NOT_BY_BYTES,
    ),
    Case(
        "large_object_by_sql",
        "A large object works by SQL too.",
        asked(
            f"BEGIN; SELECT lo_from_bytea({LO_NUMBER}, '\\xcafe')",
            f"SELECT lo_put({LO_NUMBER}, 2, '\\xbabe'); SELECT lo_get({LO_NUMBER})",
            f"SELECT lo_unlink({LO_NUMBER}); COMMIT",
            f"SELECT lo_get({LO_NUMBER})",
        ),
    ),
]
