"""
proxyd can't be told from PostgreSQL: the same bytes to both, the same answers.

Each case is said to PostgreSQL itself and then, byte for byte, to proxyd before
it, in every L{Delivery} that makes sense. The numbers in the cases' promises
are those of the list in docs/protocol.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.integration import cases_broken, cases_copy, cases_extended, cases_query, cases_startup
from tests.support import pgbytes
from tests.support.blackbox import (
    BlackBoxTestCase,
    configuration,
    open_service,
    shared_daemon,
)
from tests.support.database import DATABASE, OPEN_SERVICE, Database, shared_database
from tests.support.seeds import SOAK
from tests.support.trace import Case, Delivery, Errors, Step, forgiving, played
from tests.support.wireclient import WireClient

POOL = 5
EXAMPLES = 10_000 if SOAK else 100
SECONDS = 20.0


class DifferentialTestCase(BlackBoxTestCase):
    """Says cases to both and compares."""

    maxDiff = None

    def setUp(self) -> None:
        """Have a proxyd whose clients need no password."""
        super().setUp()
        self.proxy = self.watch(shared_daemon(trusting(self.database)))

    def compare(self, case: Case, delivery: Delivery) -> None:
        """Fail unless proxyd's answer is PostgreSQL's."""
        theirs = self.answer(case, delivery, self.direct())
        ours = self.answer(case, delivery, self.proxy.client(seconds=SECONDS))
        self.assertEqual(
            forgiving(theirs, case.errors),
            forgiving(ours, case.errors),
            f"PostgreSQL's answer, then proxyd's: {case.promise}",
        )

    def direct(self) -> WireClient:
        """A connection to the server itself."""
        return WireClient(self.database.host, self.database.port, seconds=SECONDS)

    def answer(self, case: Case, delivery: Delivery, client: WireClient) -> list[str]:
        """What the server at the other end of this new connection says to a case."""
        with client:
            return played(case, client, delivery, OPEN_SERVICE, DATABASE)


def trusting(database: Database) -> str:
    """A configuration in which clients need no password."""
    return configuration({"default": open_service(database, max_open_connections=POOL)})


def with_cases(*tables: Iterable[Case]) -> Callable[[type[DifferentialTestCase]], type]:
    """A class decorator: one test a case and delivery."""

    def decorate(of: type[DifferentialTestCase]) -> type[DifferentialTestCase]:
        for case in (case for table in tables for case in table):
            for delivery in case.deliveries:
                name = f"test_{case.name}_{delivery.name.lower()}"
                assert not hasattr(of, name), name
                setattr(of, name, _test(case, delivery, name))
        return of

    return decorate


def _test(case: Case, delivery: Delivery, name: str) -> Callable[[DifferentialTestCase], None]:
    def test(self: DifferentialTestCase) -> None:
        self.compare(case, delivery)

    test.__name__ = name
    test.__doc__ = case.promise
    return test


@with_cases(cases_query.CASES)
class QueryTests(DifferentialTestCase):
    """Plain queries."""


@with_cases(cases_extended.CASES)
class ExtendedTests(DifferentialTestCase):
    """The extended query protocol."""


@with_cases(cases_copy.CASES)
class CopyTests(DifferentialTestCase):
    """COPY in both directions, and all that can go wrong with it."""


@with_cases(cases_startup.SETTINGS, cases_startup.BROKEN_STARTS)
class StartTests(DifferentialTestCase):
    """The first packet."""


@with_cases(cases_startup.ENCRYPTION, cases_broken.CASES)
class BrokenTests(DifferentialTestCase):
    """Requests for encryption that come too late, and clients that break the protocol."""


@with_cases(cases_startup.NEGOTIATED)
class NegotiationTests(DifferentialTestCase):
    """Versions newer than 3.0, and options nobody knows, as PostgreSQL 18 answers them."""

    @property
    def database(self) -> Database:
        """The server behind, and beside it."""
        return shared_database(18)


SQL = st.sampled_from(
    [
        "SELECT 1",
        "SELECT 1/0",
        "",
        "bad",
        "BEGIN",
        "COMMIT",
        "ROLLBACK",
        "SELECT shout()",
        "SELECT generate_series(1, 5)",
        "SELECT repeat('x', 20000)",
        "SET TimeZone = 'Asia/Tokyo'",
        "COPY (VALUES (1), (2)) TO STDOUT",
        "SELECT 1; SELECT 2",
        "DISCARD ALL",
        "LISTEN news",
        "NOTIFY news, 'x'",
    ]
)
COPY_IN = "COPY sink FROM STDIN"
NAME = st.sampled_from(["", "", "a", "b"])
MESSAGES = st.one_of(
    st.builds(pgbytes.query, SQL),
    st.builds(pgbytes.parse, SQL, NAME),
    st.builds(lambda portal, name: pgbytes.bind((), portal, name), NAME, NAME),
    st.builds(pgbytes.describe, st.sampled_from("SP"), NAME),
    st.builds(pgbytes.execute, NAME, st.sampled_from([0, 0, 1, 3])),
    st.builds(pgbytes.close, st.sampled_from("SP"), NAME),
    st.builds(pgbytes.extended, SQL),
    st.sampled_from([pgbytes.SYNC, pgbytes.SYNC, pgbytes.FLUSH, pgbytes.COPY_DONE]),
    st.builds(pgbytes.copy_data, st.sampled_from([b"1\tx\n", b"x\n", b""])),
    st.builds(pgbytes.copy_fail, st.just("enough")),
    # Within a COPY any message that is not its own ends the session, so that its
    # data and its end go with it.
    st.builds(
        lambda copy, data, end: copy + data + end,
        st.sampled_from([pgbytes.query(COPY_IN), pgbytes.extended(COPY_IN)]),
        st.sampled_from([b"", cases_copy.ROWS, cases_copy.BAD_ROW + pgbytes.SYNC]),
        st.sampled_from([pgbytes.COPY_DONE, pgbytes.copy_fail("no")]),
    ),
    st.just(pgbytes.function_call(cases_query.INT4PL, [b"\0\0\0\1", b"\0\0\0\2"])),
)


class RandomTests(DifferentialTestCase):
    """Any sequence of good messages, however TCP cuts it."""

    deadline = 1800.0 if SOAK else 120.0

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        print_blob=True,
        suppress_health_check=[HealthCheck.too_slow],
    )
    @given(st.lists(MESSAGES, max_size=12), st.data())
    def test_any_sequence(self, messages: list[bytes], data: st.DataObject) -> None:
        """Whatever is said in whatever order, both answer the same (48-59)."""
        # CopyFail ends a COPY that waits for data, Sync whatever is skipped up to it.
        said = b"".join(messages) + pgbytes.copy_fail("end") + pgbytes.SYNC
        positions = st.lists(st.integers(1, len(said)), max_size=8, unique=True)
        cuts = sorted(data.draw(positions, label="cuts"))
        answers = []
        for client in (self.direct(), self.proxy.client(seconds=SECONDS)):
            with client:
                case = Case("random", "", (Step(said, cuts=cuts),))
                answers.append(played(case, client, Delivery.STEPS, OPEN_SERVICE, DATABASE))
        theirs, ours = (forgiving(answer, Errors.WHOLE) for answer in answers)
        self.assertEqual(theirs, ours)
