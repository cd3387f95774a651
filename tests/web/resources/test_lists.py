"""Tests for L{proxyd.web.resources.lists}."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from proxyd.web.answer import Answer
from proxyd.web.resources.lists import STEP, listed


class ListTests(SynchronousTestCase):
    """Rows become JSON in steps."""

    def setUp(self) -> None:
        self.clock = Clock()

    def listing(self, items: Any, **options: Any) -> Deferred[Answer]:
        """A list of numbers, without 13."""

        def row(item: int) -> dict[str, Any] | None:
            return None if item == 13 else {"number": item, "name": "\udcff"}

        return Deferred.fromCoroutine(listed(self.clock, "things", items, row, **options))

    def numbers(self, answer: Answer) -> list[int]:
        """The numbers in an answer."""
        return [one["number"] for one in json.loads(answer.body())["things"]]

    def test_steps(self) -> None:
        """In between others have their turn: not all is made at once."""
        made: list[int] = []

        def items() -> Iterator[int]:
            for item in range(STEP * 3):
                made.append(item)
                yield item

        listing = self.listing(items())
        self.assertEqual(len(made), STEP)
        self.clock.advance(0)
        found = self.numbers(self.successResultOf(listing))
        self.assertEqual(found, [item for item in made if item != 13])

    def test_order(self) -> None:
        """Sorted where that is asked for, and the first of them."""
        listing = self.listing([5, 13, 2, 9], order=lambda item: item, most=2)
        self.assertEqual(self.numbers(self.successResultOf(listing)), [2, 5])

    def test_empty(self) -> None:
        """Nobody is a list, too."""
        answer = self.successResultOf(self.listing([]))
        self.assertEqual(answer.body(), b'{"things": []}\n')

    def test_cancelled(self) -> None:
        """A list that is given up leaves no timer."""
        listing = self.listing(range(1000))
        listing.cancel()
        self.failureResultOf(listing)
        self.assertEqual(self.clock.getDelayedCalls(), [])
