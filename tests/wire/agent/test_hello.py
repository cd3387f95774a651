"""Tests for L{proxyd.wire.agent.hello}."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from proxyd.wire.agent.hello import LONGEST, Hello, parse_hello

WORDS = st.text("abc-0.1", max_size=20)


class HelloTests(SynchronousTestCase):
    """What is said is what is understood; what is none is ignored."""

    @given(WORDS, st.integers(0, 2**63 - 1), WORDS, st.lists(WORDS, max_size=5))
    def test_round_trip(
        self, session: str, generation: int, version: str, features: list[str]
    ) -> None:
        """There and back."""
        hello = Hello(session, generation, version, tuple(features))
        self.assertEqual(parse_hello(hello.text()), hello)

    def test_later_version(self) -> None:
        """Fields that are not known are passed over, those that lack have their usual value."""
        self.assertEqual(parse_hello('{"type":"hello","later":[1]}'), Hello())

    def test_none(self) -> None:
        """Other messages, nonsense, and words without end."""
        whole = json.loads(Hello("s", 1, "v", ("f",)).text())
        for change in (
            {"type": "goodbye"},
            {"session": 1},
            {"session": "x" * 65},
            {"version": "a\nb"},
            {"generation": "1"},
            {"generation": True},
            {"generation": -1},
            {"features": "f"},
            {"features": ["f"] * 33},
            {"features": [1]},
            {"later": "x" * LONGEST},
        ):
            self.assertIsNone(parse_hello(json.dumps({**whole, **change})), change)
        for text in ("", "{", "[]", "7", "[" * LONGEST):
            self.assertIsNone(parse_hello(text))

    @given(st.text())
    def test_noise(self, text: str) -> None:
        """Never raises."""
        parse_hello(text)
