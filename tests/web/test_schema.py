"""Tests for L{proxyd.web.schema}: what is JSON, and what is wrong with a value."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from proxyd.web.schema import (
    NotJson,
    Schema,
    closed,
    flag,
    listed,
    number,
    or_null,
    parse,
    said,
    text,
    whole,
    wrong_with,
)


class ParseTests(SynchronousTestCase):
    """RFC 8259, and nothing else."""

    def test_values(self) -> None:
        """What json.dumps writes comes back."""
        self.assertEqual(
            parse(b' {"a": [1, "\xc3\xa9", null, true, 1.5]} '), {"a": [1, "é", None, True, 1.5]}
        )

    def test_refused(self) -> None:
        """What others would guess at is refused, and not quoted."""
        for data, why in (
            (b"", "empty"),
            (b" \n", "empty"),
            (b"\xff\xfe", "UTF-8"),
            (b"{hunter2", "line 1, column 2"),
            (b'{"a": 1}{"a": 1}', "Extra data"),
            (b'{"a": 1, "a": 2}', "twice"),
            (b"[NaN]", "NaN"),
            (b"[-Infinity]", "Infinity"),
            (b"[" * 100_000, "too deep"),
            (b"9" * 10_000, "too many digits"),
        ):
            error = self.assertRaises(NotJson, parse, data)
            self.assertIn(why, str(error))
            self.assertNotIn("hunter2", str(error))


class WrongTests(SynchronousTestCase):
    """Each word of a schema does what JSON Schema says."""

    def wrong(self, value: Any, schema: Schema) -> Mapping[str, str]:
        """What is wrong, by its place."""
        return {one.where: one.what for one in wrong_with(value, schema)}

    def test_types(self) -> None:
        """Each type takes its own; true is no number, and a whole number is a number."""
        good: dict[str, list[Any]] = {
            "object": [{}],
            "array": [[]],
            "string": [""],
            "integer": [0, -5, 2**70],
            "number": [0, 1.5],
            "boolean": [True],
            "null": [None],
        }
        for kind, own in good.items():
            others = [value for name, values in good.items() if name != kind for value in values]
            if kind == "number":
                others = [value for value in others if type(value) is not int]
            for value in own:
                self.assertEqual(self.wrong(value, {"type": kind}), {}, (kind, value))
            for value in others:
                if kind == "integer" and value == 0:
                    continue
                self.assertNotEqual(self.wrong(value, {"type": kind}), {}, (kind, value))

    def test_texts(self) -> None:
        """Lengths and patterns; what can't be stored is refused whatever the schema says."""
        self.assertEqual(self.wrong("", text()), {"": "must not be empty"})
        self.assertEqual(self.wrong("abcd", text(most=3)), {"": "has more than 3 characters"})
        self.assertEqual(self.wrong("abc", text(most=3)), {})
        self.assertIn("", self.wrong("x", {"type": "string", "pattern": "^[0-9]+$"}))
        self.assertEqual(self.wrong("5", {"type": "string", "pattern": "^[0-9]+$"}), {})
        for bad in ("a\0b", "\ud800", "x\udfff"):
            self.assertIn("NUL", self.wrong(bad, said())[""])
            self.assertIn("x", self.wrong({"x": bad}, closed({"x": said()})))

    def test_numbers(self) -> None:
        """From the least to the most."""
        self.assertEqual(self.wrong(1, whole(least=1, most=2)), {})
        self.assertEqual(self.wrong(0, whole(least=1)), {"": "must be at least 1"})
        self.assertEqual(self.wrong(3, whole(most=2)), {"": "must be at most 2"})
        self.assertEqual(self.wrong(1.5, number()), {})

    def test_objects(self) -> None:
        """What is missing, and what is not known; a key that is made up is shown in one line."""
        schema = closed({"a": flag()}, {"b": text()})
        self.assertEqual(self.wrong({"a": True, "b": "x"}, schema), {})
        self.assertEqual(
            self.wrong({"b": 5, "c\n" + "d" * 100: 1}, schema),
            {
                "a": "is missing",
                "b": "must be a text, not a whole number",
                "c?" + "d" * 58 + "…": "is not known here; known: a, b",
            },
        )
        counts = {"type": "object", "additionalProperties": whole()}
        self.assertEqual(self.wrong({"x": 1}, counts), {})
        self.assertEqual(list(self.wrong({"x": "1"}, counts)), ["x"])

    def test_lists(self) -> None:
        """Each item, by its place, and how many there are."""
        self.assertEqual(list(self.wrong(["a", "", 5], listed(text()))), ["[1]", "[2]"])
        self.assertEqual(
            self.wrong([1, 2], {"type": "array", "maxItems": 1}), {"": "has more than 1 items"}
        )
        self.assertEqual(
            self.wrong([], {"type": "array", "minItems": 1}), {"": "must not be empty"}
        )

    def test_either(self) -> None:
        """One of several shapes; null where it may be."""
        either = {"anyOf": [whole(least=1), text()]}
        self.assertEqual(self.wrong(1, either), {})
        self.assertEqual(self.wrong("x", either), {})
        self.assertEqual(self.wrong(0, either), {"": "must be integer or string"})
        self.assertEqual(self.wrong(None, or_null(text())), {})
        self.assertIn("must be one of a, b", self.wrong("c", {"enum": ["a", "b"]})[""])

    def test_depth(self) -> None:
        """Nesting ends somewhere, even where a schema would go on."""
        schema: dict[str, Any] = {"type": "array"}
        schema["items"] = schema
        deep: list[Any] = []
        for _ in range(100):
            deep = [deep]
        self.assertEqual(list(self.wrong(deep, schema).values()), ["nests too deep"])
