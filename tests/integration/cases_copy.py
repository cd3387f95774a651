"""What a client may say around COPY, in good order and in bad."""

from __future__ import annotations

from tests.support.pgbytes import (
    COPY_DONE,
    FLUSH,
    SYNC,
    copy_data,
    copy_fail,
    extended,
    message,
    parse,
    query,
)
from tests.support.trace import NOT_BY_BYTES, Case, Step

TABLE = "CREATE TEMP TABLE taken (id int, note text)"
COPY_IN = "COPY taken FROM STDIN"
ROWS = copy_data(b"1\tone\n") + copy_data(b"2\ttwo\n3\tth") + copy_data(b"ree\n")
BAD_ROW = copy_data(b"no number\n")
COUNT = Step(query("SELECT count(*), min(note) FROM taken"), "Z")
CREATE = Step(query(TABLE), "Z")
TRIGGER = (
    "CREATE FUNCTION pg_temp.stop() RETURNS trigger LANGUAGE plpgsql AS"
    " $$ BEGIN RAISE EXCEPTION 'stopped'; END $$;"
    "CREATE TRIGGER stops BEFORE INSERT ON taken FOR EACH STATEMENT"
    " EXECUTE FUNCTION pg_temp.stop()"
)

CASES = [
    Case(
        "copy_out",
        "COPY TO gives all rows (60).",
        (Step(query("COPY (SELECT * FROM items ORDER BY id) TO STDOUT"), "Z"),),
    ),
    Case(
        "copy_out_binary",
        "COPY TO in binary is told as such.",
        (Step(query("COPY items TO STDOUT (FORMAT binary)"), "Z"),),
    ),
    Case(
        "copy_out_error",
        "An error in the middle of COPY TO ends it.",
        (
            Step(query("COPY (SELECT 10 / (3 - n) FROM generate_series(1, 5) n) TO STDOUT"), "Z"),
            Step(query("SELECT 1"), "Z"),
        ),
    ),
    Case(
        "copy_out_extended",
        "COPY TO by Execute.",
        (Step(extended("COPY (VALUES (1), (2)) TO STDOUT") + SYNC, "Z"),),
    ),
    Case(
        "copy_among_statements",
        "COPY as one of several statements of a Query.",
        (
            CREATE,
            Step(query(f"SELECT 1; {COPY_IN}; SELECT 2; COPY taken TO STDOUT"), "G"),
            Step(ROWS + COPY_DONE, "Z"),
        ),
    ),
    Case(
        "copy_in",
        "COPY FROM takes all rows (58).",
        (CREATE, Step(query(COPY_IN), "G"), Step(ROWS + COPY_DONE, "Z"), COUNT),
    ),
    Case(
        "copy_in_nothing",
        "COPY FROM of no row.",
        (CREATE, Step(query(COPY_IN), "G"), Step(COPY_DONE, "Z"), COUNT),
    ),
    Case(
        "copy_in_big",
        "COPY FROM of a megabyte in messages of all sizes.",
        (
            CREATE,
            Step(query(COPY_IN), "G"),
            Step(copy_data(b"7\t" + b"x" * 200_000 + b"\n") * 5 + COPY_DONE, "Z"),
            COUNT,
        ),
        deliveries=NOT_BY_BYTES,
    ),
    Case(
        "copy_fail",
        "CopyFail undoes it: 57014 (58).",
        (CREATE, Step(query(COPY_IN), "G"), Step(ROWS + copy_fail("no more"), "Z"), COUNT),
    ),
    Case(
        "copy_in_bad_row",
        "An error on a row: what the client still sends is put by (59).",
        (
            CREATE,
            Step(query(COPY_IN), "G"),
            Step(ROWS + BAD_ROW + ROWS + COPY_DONE, "Z"),
            COUNT,
        ),
    ),
    Case(
        "copy_in_bad_row_in_transaction",
        "The same within a transaction (59).",
        (
            CREATE,
            Step(query("BEGIN"), "Z"),
            Step(query(COPY_IN), "G"),
            Step(BAD_ROW + COPY_DONE, "Z"),
            COUNT,
            Step(query("ROLLBACK"), "Z"),
        ),
    ),
    Case(
        "copy_in_refused_at_once",
        "A COPY that can't begin; its data is put by (59).",
        (Step(query("COPY nowhere FROM STDIN"), "Z"), Step(ROWS + COPY_DONE), COUNT),
    ),
    Case(
        "copy_in_stopped_by_trigger",
        "A COPY that a trigger stops (59).",
        (
            CREATE,
            Step(query(TRIGGER), "Z"),
            Step(query(COPY_IN), "G"),
            Step(ROWS + COPY_DONE, "Z"),
            COUNT,
        ),
    ),
    Case(
        "copy_in_sync_and_flush",
        "Sync and Flush within a COPY are put by (58).",
        (
            CREATE,
            Step(query(COPY_IN), "G"),
            Step(ROWS + SYNC + FLUSH + ROWS + SYNC + COPY_DONE, "Z"),
            COUNT,
        ),
    ),
    Case(
        "copy_in_other_message",
        "Another message within a COPY ends it, and the session (58).",
        (CREATE, Step(query(COPY_IN), "G"), Step(ROWS + query("SELECT 1"), "$")),
    ),
    Case(
        "copy_in_extended",
        "COPY FROM by Execute, its Sync after the data (58).",
        (CREATE, Step(extended(COPY_IN) + FLUSH, "G"), Step(ROWS + COPY_DONE + SYNC, "Z"), COUNT),
    ),
    Case(
        "copy_in_extended_early_sync",
        "The Sync that came before the data does not count (58).",
        (CREATE, Step(extended(COPY_IN) + SYNC, "G"), Step(ROWS + COPY_DONE + SYNC, "Z"), COUNT),
    ),
    Case(
        "copy_fail_extended",
        "CopyFail in a batch: the rest up to Sync is skipped (58).",
        (
            CREATE,
            Step(extended(COPY_IN) + FLUSH, "G"),
            Step(ROWS + copy_fail("no") + extended("SELECT 1") + SYNC, "Z"),
            COUNT,
        ),
    ),
    Case(
        "copy_in_extended_bad_row",
        "An error on a row in a batch (59).",
        (
            CREATE,
            Step(extended(COPY_IN) + FLUSH, "G"),
            Step(BAD_ROW + ROWS + COPY_DONE + SYNC, "Z"),
            COUNT,
        ),
    ),
    Case(
        "copy_in_extended_bad_row_early_sync",
        "An error on a row after a Sync that came early: one ReadyForQuery (58, 59).",
        (
            CREATE,
            Step(extended(COPY_IN) + SYNC, "G"),
            Step(BAD_ROW + ROWS + COPY_DONE + SYNC, "Z"),
            COUNT,
        ),
    ),
    Case(
        "copy_in_extended_trigger",
        "A trigger stops a COPY of a batch before its first row (59).",
        (
            CREATE,
            Step(query(TRIGGER), "Z"),
            Step(extended(COPY_IN) + SYNC, "GZ"),
            Step(ROWS + COPY_DONE + SYNC, "Z"),
            COUNT,
        ),
    ),
    Case(
        "copy_in_extended_refused",
        "A COPY that can't begin in a batch (59).",
        (
            CREATE,
            Step(parse("COPY nowhere FROM STDIN") + ROWS + COPY_DONE + SYNC, "Z"),
            Step(extended("COPY nowhere FROM STDIN") + SYNC + ROWS + COPY_DONE + SYNC, "ZZ"),
            COUNT,
        ),
    ),
    Case(
        "copy_data_without_copy",
        "CopyData, CopyDone and CopyFail that nobody asked for are put by (59).",
        (Step(ROWS + COPY_DONE + copy_fail("x") + query("SELECT 1"), "Z"), Step(SYNC, "Z")),
    ),
    Case(
        "copy_twice",
        "Two COPYs in one Query, each with its own data.",
        (
            CREATE,
            Step(query(f"{COPY_IN}; {COPY_IN}"), "G"),
            Step(ROWS + COPY_DONE, "G"),
            Step(ROWS + COPY_DONE, "Z"),
            COUNT,
        ),
    ),
    Case(
        "copy_pipelined",
        "COPY, its data and the next Query in one go.",
        (CREATE, Step(query(COPY_IN) + ROWS + COPY_DONE + query("SELECT 1"), "ZZ"), COUNT),
    ),
    Case(
        "copy_done_with_a_body",
        "A CopyDone with a body is one.",
        (CREATE, Step(query(COPY_IN), "G"), Step(ROWS + message("c", b"x"), "Z"), COUNT),
    ),
]
