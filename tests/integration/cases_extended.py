"""What a client may say in the extended query protocol: pipelines, portals, names, errors."""

from __future__ import annotations

from tests.support.pgbytes import (
    FLUSH,
    SYNC,
    bind,
    close,
    describe,
    execute,
    extended,
    message,
    parse,
    query,
    shorts,
)
from tests.support.trace import Case, Step

INT4, TEXT = 23, 25
SERIES = "SELECT generate_series(1, 10)"
BATCH = extended("SELECT $1::int + 1", [b"41"])

CASES = [
    Case("extended", "A statement with a value gives its row.", (Step(BATCH + SYNC, "Z"),)),
    Case(
        "binary",
        "Values and results go in binary where asked.",
        (
            Step(
                parse("SELECT $1, $2", types=[INT4, TEXT])
                + bind([b"\0\0\0\x07", b"text"], formats=[1, 0], results=[1])
                + describe("P")
                + execute()
                + SYNC,
                "Z",
            ),
        ),
    ),
    Case(
        "null_and_empty",
        "NULL and nothing are told apart.",
        (Step(extended("SELECT $1::text, $2::text", [None, b""]) + SYNC, "Z"),),
    ),
    Case(
        "named",
        "A named statement serves many times, until it is closed.",
        (
            Step(parse("SELECT $1::int", "s1") + describe("S", "s1") + SYNC, "Z"),
            Step(bind([b"1"], statement="s1") + execute() + SYNC, "Z"),
            Step(bind([b"2"], statement="s1") + execute() + SYNC, "Z"),
            Step(close("S", "s1") + SYNC, "Z"),
            Step(bind([b"3"], statement="s1") + execute() + SYNC, "Z"),
        ),
    ),
    Case(
        "unknown_names",
        "Names nobody knows: 26000 and 34000, then on after Sync (52).",
        (
            Step(bind(statement="nobody") + execute() + SYNC, "Z"),
            Step(describe("S", "nobody") + SYNC, "Z"),
            Step(execute("nobody") + describe("P") + SYNC, "Z"),
            Step(describe("P", "nobody") + SYNC, "Z"),
        ),
    ),
    Case(
        "duplicate_names",
        "Names that are taken: 42P05 and 42P03 (52).",
        (
            Step(parse("SELECT 1", "twice") + SYNC, "Z"),
            Step(parse("SELECT 1", "twice") + SYNC, "Z"),
            Step(
                bind(portal="p", statement="twice") + bind(portal="p", statement="twice") + SYNC,
                "Z",
            ),
        ),
    ),
    Case(
        "close_of_nothing",
        "To close what is not there is no error (55).",
        (Step(close("S", "none") + close("P", "none") + close("S") + SYNC, "Z"),),
    ),
    Case(
        "error_skips_to_sync",
        "After an error all is skipped up to Sync (48).",
        (
            Step(
                extended("SELECT 1/0")
                + extended("SELECT 'skipped'")
                + close("S", "x")
                + query("SELECT 'skipped too'")
                + SYNC,
                "Z",
            ),
            Step(BATCH + SYNC, "Z"),
        ),
    ),
    Case(
        "errors_in_each_place",
        "An error is found in Parse, Bind or Execute (48).",
        (
            Step(parse("SELEC") + bind() + execute() + SYNC, "Z"),
            Step(parse("SELECT $1::int") + bind([b"x"]) + execute() + SYNC, "Z"),
            Step(parse("SELECT $1::int") + bind([]) + execute() + SYNC, "Z"),
            Step(parse("SELECT 1; SELECT 2") + SYNC, "Z"),
            Step(parse("SELECT $1::int / 0") + bind([b"1"]) + execute() + SYNC, "Z"),
            Step(parse("SELECT 1") + bind(results=[1, 1, 1]) + SYNC, "Z"),
            Step(parse("SELECT $1") + bind([b"1"], formats=[7]) + SYNC, "Z"),
        ),
    ),
    Case(
        "many_syncs",
        "Each Sync has its ReadyForQuery (50).",
        (Step((BATCH + SYNC) * 20, "Z" * 20),),
    ),
    Case(
        "pipeline_with_errors",
        "In a pipeline an error spoils its own part only (48, 50).",
        (Step(BATCH + SYNC + extended("bad") + SYNC + BATCH + SYNC, "ZZZ"),),
    ),
    Case(
        "one_batch_of_many",
        "Many statements before one Sync are one transaction (48).",
        (
            Step(
                extended("CREATE TEMP TABLE one (i int)")
                + extended("INSERT INTO one VALUES ($1::int)", [b"1"])
                + extended("INSERT INTO one VALUES ($1::int)", [b"x"])
                + SYNC,
                "Z",
            ),
            Step(query("SELECT * FROM one"), "Z"),
        ),
    ),
    Case(
        "transaction_by_parts",
        "Status in a transaction that is built of batches (45).",
        (
            Step(extended("BEGIN") + SYNC, "Z"),
            Step(BATCH + SYNC, "Z"),
            Step(extended("bad") + SYNC, "Z"),
            Step(BATCH + SYNC, "Z"),
            Step(extended("ROLLBACK") + SYNC, "Z"),
        ),
    ),
    Case(
        "flush",
        "Flush brings the answers before any Sync (49).",
        (
            Step(parse("SELECT 5", "f") + FLUSH, "1"),
            Step(describe("S", "f") + FLUSH, "tT"),
            Step(bind(statement="f") + FLUSH, "2"),
            Step(execute() + FLUSH, "DC"),
            Step(SYNC, "Z"),
        ),
    ),
    Case(
        "flush_after_error",
        "Flush brings an error, and the rest waits for Sync (48, 49).",
        (Step(parse("bad") + FLUSH, "E"), Step(BATCH + FLUSH), Step(SYNC, "Z")),
    ),
    Case(
        "query_behind_a_batch",
        "A Query behind a batch without Sync is taken in order (51).",
        (Step(BATCH + query("SELECT 'query'"), "Z"), Step(SYNC, "Z")),
    ),
    Case(
        "query_behind_a_failed_batch",
        "A Query behind a batch that failed is skipped (51).",
        (Step(extended("bad") + query("SELECT 'skipped'") + SYNC, "Z"),),
    ),
    Case(
        "row_limit",
        "A portal with a row limit is suspended, and goes on (57).",
        (
            Step(parse(SERIES) + bind(portal="ten") + execute("ten", 4) + FLUSH, "s"),
            Step(execute("ten", 4) + FLUSH, "s"),
            Step(execute("ten", 4) + execute("ten", 4) + SYNC, "Z"),
            Step(execute("ten") + SYNC, "Z"),
        ),
    ),
    Case(
        "portals_side_by_side",
        "Two portals run in turns; both end with the transaction (57).",
        (
            Step(query("BEGIN"), "Z"),
            Step(parse(SERIES, "s") + bind(portal="a", statement="s") + SYNC, "Z"),
            Step(bind(portal="b", statement="s") + execute("a", 2) + SYNC, "Z"),
            Step(execute("b", 3) + execute("a", 1) + close("P", "a") + SYNC, "Z"),
            Step(execute("a") + SYNC, "Z"),
            Step(query("ROLLBACK"), "Z"),
            Step(execute("b") + SYNC, "Z"),
        ),
    ),
    Case(
        "row_limit_exact",
        "A limit that is just the count of rows suspends too (57).",
        (Step(parse(SERIES) + bind() + execute("", 10) + execute("", 1) + SYNC, "Z"),),
    ),
    Case(
        "no_rows_described",
        "What gives no rows is described as that.",
        (Step(extended("SET TimeZone = 'Europe/Rome'") + SYNC, "Z"),),
    ),
    Case(
        "empty",
        "An empty statement is answered (47).",
        (Step(extended("") + extended("-- no more") + SYNC, "Z"),),
    ),
    Case(
        "unnamed_before_any",
        "There is no unnamed statement or portal before the first Parse (53).",
        (Step(bind() + execute() + SYNC, "Z"), Step(describe("S") + SYNC, "Z")),
    ),
    Case(
        "unnamed_replaced",
        "The unnamed statement is the last one parsed (53).",
        (
            Step(parse("SELECT 1") + parse("SELECT 2") + bind() + execute() + SYNC, "Z"),
            Step(bind() + execute() + SYNC, "Z"),
            Step(query("SELECT 3"), "Z"),
            Step(bind() + execute() + SYNC, "Z"),
        ),
    ),
    Case(
        "types_differ",
        "The same text with other types is another statement (54).",
        (
            Step(parse("SELECT $1", "i", [INT4]) + describe("S", "i") + SYNC, "Z"),
            Step(parse("SELECT $1", "t", [TEXT]) + describe("S", "t") + SYNC, "Z"),
        ),
    ),
    Case(
        "cached_plan",
        "A table that changes under a prepared statement (54).",
        (
            Step(query("CREATE TEMP TABLE grows (a int)"), "Z"),
            Step(parse("SELECT * FROM grows", "g") + SYNC, "Z"),
            Step(query("ALTER TABLE grows ADD b text"), "Z"),
            Step(bind(statement="g") + execute() + SYNC, "Z"),
        ),
    ),
    Case(
        "bad_bind_counts",
        "A Bind whose counts contradict its body is an error, not the end (48).",
        (
            Step(parse("SELECT $1::int", "c") + SYNC, "Z"),
            Step(message("B", b"\0c\0" + shorts([0, 0, 0]) + b"\0\1\0\0\0\0011\0\0") + SYNC, "Z"),
            Step(message("B", b"\0c\0" + b"\0\0\0\5\0\0\0\0011\0\0") + SYNC, "Z"),
            Step(message("B", b"\0c\0" + b"\0\0\0\1\0\0\0\0011\0\0more") + SYNC, "Z"),
            Step(message("B", b"\0c\0" + b"\0\0\0\1\x7f\xff\xff\xff1") + SYNC, "Z"),
            Step(message("B") + SYNC, "Z"),
        ),
    ),
    Case(
        "bad_bodies",
        "Other messages with a wrong body are errors too (48).",
        (
            Step(message("P", b"no end") + SYNC, "Z"),
            Step(message("D", b"X\0") + SYNC, "Z"),
            Step(message("C", b"X\0") + SYNC, "Z"),
            Step(message("E", b"\0\0") + SYNC, "Z"),
            Step(message("H", b"too much") + SYNC, "Z"),
            Step(message("Q", b"SELECT 1"), "Z"),
            Step(message("Q", b"SELECT 1\0SELECT 2\0"), "Z"),
            Step(message("F", b"\0"), "Z"),
        ),
    ),
    Case(
        "sync_with_a_body",
        "A Sync with a body is an error that ends with its own ReadyForQuery (48).",
        (Step(message("S", b"body") + SYNC, "Z"), Step(BATCH + SYNC, "Z")),
    ),
]
