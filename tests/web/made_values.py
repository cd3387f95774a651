"""
Values made up from a schema: good ones, ones that are a little wrong, and nonsense.

A few hundred lines of a library do this better; but its state and ours, an API
that runs on the reactor, don't go together.
"""

from __future__ import annotations

import json
import random
from typing import Any

from proxyd.web.schema import Schema

_TEXTS = (
    *(
        "",
        "a",
        "shop",
        "orders",
        "é",
        "日本",
        "a b",
        "'",
        '"',
        "\\",
        "%",
        "../..",
        "\n",
        "\0",
        "{}",
    ),
    *("db_5", "5", "-1", "0", "30d", "1h", "1000000d", "postgresql://u:p@192.0.2.1/d", "x" * 300),
    *("postgresql://u@h/d?sslmode=verify-full", "host=/tmp user=u dbname=d", "\ud800", "a.b.c"),
)
_ODD: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1.5, 2**53, 2**64, 10**30, "", [], {}, [[]], {"": ""}),
    *({"error": 1}, [None] * 100, "\0", "\ud800", -0.0, 1e308),
)


class Maker:
    """Makes values, the same ones for the same random numbers."""

    def __init__(self, numbers: random.Random) -> None:
        self.random = numbers

    def value(self, schema: Schema) -> Any:
        """A value that mostly fits."""
        return self.good(schema) if self.random.random() < 0.7 else self.random.choice(_ODD)

    def good(self, schema: Schema) -> Any:
        """A value that fits."""
        if "anyOf" in schema:
            return self.good(self.random.choice(schema["anyOf"]))
        if "enum" in schema:
            return self.random.choice(schema["enum"])
        kinds = schema.get("type", "object")
        kind = kinds if isinstance(kinds, str) else self.random.choice(kinds)
        make = getattr(self, f"_{kind}")
        return make(schema)

    def body(self, schema: Schema) -> bytes:
        """A body, mostly JSON."""
        roll = self.random.random()
        value = self.good(schema)
        if roll < 0.4:
            self._tamper(value)
        elif roll < 0.5:
            value = self.random.choice(_ODD)
        data = json.dumps(value).encode()
        if roll > 0.9:
            at = self.random.randrange(len(data))
            data = data[:at] + self.random.randbytes(1) + data[at + 1 :]
        return data

    def as_text(self, value: Any) -> str:
        """A value as it stands in a URL."""
        text = value if isinstance(value, str) else json.dumps(value)
        return text.encode("utf-8", "replace").decode() or "x"

    def _tamper(self, value: dict[str, Any]) -> None:
        """Put something odd into an object, or take something away."""
        if value and self.random.random() < 0.5:
            name = self.random.choice(list(value))
            if self.random.random() < 0.5:
                del value[name]
            else:
                value[name] = self.random.choice((*_ODD, *_TEXTS))
        else:
            value[self.random.choice(_TEXTS)] = self.random.choice(_ODD)

    def _object(self, schema: Schema) -> dict[str, Any]:
        required = schema.get("required", ())
        return {
            name: self.good(below)
            for name, below in schema.get("properties", {}).items()
            if name in required or self.random.random() < 0.4
        }

    def _array(self, schema: Schema) -> list[Any]:
        count = self.random.randrange(schema.get("minItems", 0), 4)
        return [self.good(schema.get("items", {"type": "string"})) for _ in range(count)]

    def _string(self, schema: Schema) -> str:
        least, most = schema.get("minLength", 0), schema.get("maxLength", 1000)
        sound = [
            text
            for text in _TEXTS
            if least <= len(text) <= most and "\0" not in text and "\ud800" not in text
        ]
        return self.random.choice(sound)

    def _integer(self, schema: Schema) -> int:
        least, most = schema.get("minimum", -5), schema.get("maximum", 2**53 - 1)
        known = [number for number in (0, 1, 7, 9, 60, most) if least <= number <= most]
        return self.random.choice(known)

    def _number(self, schema: Schema) -> float:
        return self.random.choice((0, 1, 0.5))

    def _boolean(self, schema: Schema) -> bool:
        return self.random.random() < 0.5

    def _null(self, schema: Schema) -> None:
        return None
