"""Tests for L{proxyd.web.answer}: the one shape of errors, and what an answer's bytes are."""

from __future__ import annotations

import json

from twisted.trial.unittest import SynchronousTestCase

from proxyd.web.answer import CODES, ERROR, Answer, ApiError, invalid, not_found, phrase
from proxyd.web.schema import Wrong, wrong_with


class AnswerTests(SynchronousTestCase):
    """Values become bytes."""

    def test_bytes(self) -> None:
        """JSON ends with a newline; what a client named and no text can hold is replaced."""
        self.assertEqual(Answer(value={"a": "é"}).body(), '{"a": "é"}\n'.encode())
        self.assertEqual(Answer(value={"a": "\udcff"}).body(), b'{"a": "?"}\n')
        self.assertEqual(Answer(value=b"as it is").body(), b"as it is")
        self.assertEqual(Answer(204, {"never": "seen"}).body(), b"")


class ErrorTests(SynchronousTestCase):
    """Errors have one shape."""

    def test_shape(self) -> None:
        """Every status has its word, HTTP's own name, and fits the documented schema."""
        for status, code in CODES.items():
            answer = ApiError(status, "why").answer()
            value = json.loads(answer.body())
            self.assertEqual(list(wrong_with(value, ERROR)), [])
            self.assertEqual(value["error"], {"status": status, "code": code, "message": "why"})
            self.assertTrue(phrase(status))

    def test_problems(self) -> None:
        """The message tells the first problem, and how many more there are."""
        error = invalid([Wrong("a", "is missing"), Wrong("", "is odd")])
        self.assertEqual(error.message, "a: is missing (and 1 more)")
        self.assertEqual(
            invalid([Wrong("", "must be an object")]).message, "the body must be an object"
        )
        value = json.loads(error.answer().body())
        self.assertEqual(list(wrong_with(value, ERROR)), [])
        self.assertEqual(len(value["error"]["problems"]), 2)
        self.assertEqual(not_found("gone").status, 404)
