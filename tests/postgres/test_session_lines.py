"""Tests for L{proxyd.postgres.session_lines}."""

from __future__ import annotations

from twisted.logger import LogEvent, formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from proxyd.postgres.session_lines import SessionLines
from proxyd.wire.pg.errors import error_response
from proxyd.wire.pg.messages import PARSE, QUERY

ANN = ("192.0.2.9:4711", "ann")


class SessionLinesTests(SynchronousTestCase):
    """What a session writes into the log."""

    def setUp(self) -> None:
        """Listen to the log."""
        self.events: list[LogEvent] = []
        globalLogPublisher.addObserver(self.events.append)
        self.addCleanup(globalLogPublisher.removeObserver, self.events.append)

    def lines(self) -> list[str]:
        """The lines so far."""
        return [formatEvent(event) for event in self.events]

    def test_error(self) -> None:
        """An error is its SQLSTATE alone: the text may quote data."""
        body = error_response("ERROR", "22P02", 'invalid input: "a secret"')[5:]
        lines = SessionLines(*ANN, errors=True, texts=False)
        lines.error(body)
        self.assertEqual(self.lines(), ["[192.0.2.9:4711] [ann] query error: 22P02"])
        self.assertNotIn("a secret", repr(self.events))
        self.assertEqual(lines.last_words, "")

    def test_text(self) -> None:
        """Where statements are logged, so is the text."""
        SessionLines(*ANN, errors=True, texts=True).error(
            error_response("ERROR", "42P01", "no such table")[5:]
        )
        self.assertEqual(self.lines(), ["[192.0.2.9:4711] [ann] query error: 42P01 no such table"])

    def test_cut(self) -> None:
        """A long error, of which only the start is handed on, is told by what is whole."""
        body = error_response("ERROR", "P0001", "x" * 10_000)[5:]
        lines = SessionLines(*ANN, errors=True, texts=False)
        for size in (0, 1, 5, 40, 8192):
            lines.error(body[:size])
        self.assertIn("[192.0.2.9:4711] [ann] query error: P0001", self.lines())
        self.assertEqual(len(self.lines()), 5)

    def test_last_words(self) -> None:
        """A FATAL of the server is remembered, also where nothing is logged."""
        lines = SessionLines(*ANN, errors=False, texts=False)
        lines.error(error_response("FATAL", "57P01", "terminating connection")[5:])
        self.assertEqual((lines.last_words, self.lines()), ("57P01", []))

    def test_statements(self) -> None:
        """Query and Parse are logged with the text, passwords masked."""
        lines = SessionLines(*ANN, errors=True, texts=True)
        query = b"ALTER ROLE ann PASSWORD 'hunter2'\0"
        lines.statement(QUERY, query, len(query))
        parse = b"s1\0SELECT $1\0\0\0"
        lines.statement(PARSE, parse, len(parse))
        self.assertEqual(
            self.lines(),
            [
                "[192.0.2.9:4711] [ann] QUERY: ALTER ROLE ann PASSWORD '***'",
                "[192.0.2.9:4711] [ann] PARSE: statement='s1' query='SELECT $1'",
            ],
        )
        self.assertNotIn("hunter2", repr(self.events))
