"""
JSON Schema, as much of it as the API needs: one text that documents a body and checks it.

The words known are those of C{KNOWN} (JSON Schema 2020-12, which OpenAPI 3.1
uses); a schema with another is a bug, and a test finds it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Schema = Mapping[str, Any]

KNOWN = frozenset(
    [
        *("type", "enum", "anyOf", "minimum", "maximum", "minLength", "maxLength", "pattern"),
        *("properties", "required", "additionalProperties", "items", "minItems", "maxItems"),
        *("title", "description", "examples", "format"),
    ]
)
"""The words that L{wrong_with} follows, and those that only tell people something."""

_TYPES: Mapping[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
}
DEEPEST = 20


@dataclass(frozen=True, slots=True)
class Wrong:
    """One thing wrong with a value: where it is (C{allow[0]}), and what is wrong."""

    where: str
    what: str


class NotJson(ValueError):
    """A text is not JSON that can be used; the message says why, without quoting it."""


def parse(data: bytes) -> Any:
    """
    The value of a JSON text (RFC 8259), taken strictly.

    @raise NotJson: it is none, not UTF-8, has a key twice, C{NaN}, or nests too deep
    """

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(items)
        if len(found) != len(items):
            raise NotJson("a key stands twice in an object")
        return found

    def constant(name: str) -> Any:
        raise NotJson(f"{name} is no JSON number")

    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        raise NotJson("it is not UTF-8") from None
    if not text.strip():
        raise NotJson("it is empty")
    try:
        return json.loads(text, object_pairs_hook=pairs, parse_constant=constant)
    except RecursionError:
        raise NotJson("it nests too deep") from None
    except json.JSONDecodeError as error:
        raise NotJson(f"{error.msg} at line {error.lineno}, column {error.colno}") from None
    except NotJson:
        raise
    except ValueError:
        raise NotJson("a number has too many digits") from None


def wrong_with(value: Any, schema: Schema, where: str = "", depth: int = 0) -> Iterator[Wrong]:
    """
    Everything about a value that its schema forbids; nothing is quoted, as it may be secret.

    Texts must be fit to be stored and sent, whatever the schema says of them:
    no NUL, and no half of a surrogate pair.
    """
    if depth > DEEPEST:
        yield Wrong(where, "nests too deep")
        return
    kinds = schema.get("type")
    if kinds is not None:
        wanted: Sequence[str] = [kinds] if isinstance(kinds, str) else kinds
        if not any(_is(value, kind) for kind in wanted):
            yield Wrong(where, f"must be {_spoken(wanted)}, not {_kind_of(value)}")
            return
    if "enum" in schema and value not in schema["enum"]:
        yield Wrong(where, f"must be one of {', '.join(map(str, schema['enum']))}")
        return
    if "anyOf" in schema and all(
        any(wrong_with(value, one, where, depth + 1)) for one in schema["anyOf"]
    ):
        shapes = " or ".join(one.get("title", one.get("type", "")) for one in schema["anyOf"])
        yield Wrong(where, f"must be {shapes}")
        return
    if isinstance(value, str):
        yield from _wrong_text(value, schema, where)
    elif isinstance(value, dict):
        yield from _wrong_object(value, schema, where, depth)
    elif isinstance(value, list):
        yield from _wrong_array(value, schema, where, depth)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        if "minimum" in schema and value < schema["minimum"]:
            yield Wrong(where, f"must be at least {schema['minimum']}")
        if "maximum" in schema and value > schema["maximum"]:
            yield Wrong(where, f"must be at most {schema['maximum']}")


def _wrong_text(value: str, schema: Schema, where: str) -> Iterator[Wrong]:
    if "\0" in value or any("\ud800" <= letter <= "\udfff" for letter in value):
        yield Wrong(where, "must be text without NUL or halves of surrogate pairs")
    elif len(value) < schema.get("minLength", 0):
        yield Wrong(where, "must not be empty" if not value else "is too short")
    elif "maxLength" in schema and len(value) > schema["maxLength"]:
        yield Wrong(where, f"has more than {schema['maxLength']} characters")
    elif "pattern" in schema and not _matches(schema["pattern"], value):
        yield Wrong(where, schema.get("description", f"does not match {schema['pattern']}"))


def _matches(pattern: str, value: str) -> bool:
    """Whether a text has a pattern, whose C{$} is the end, as in JavaScript, and no line's."""
    return re.search(re.sub(r"\$\Z", r"\\Z", pattern), value) is not None


def _wrong_object(value: dict[str, Any], schema: Schema, where: str, depth: int) -> Iterator[Wrong]:
    properties: Mapping[str, Schema] = schema.get("properties", {})
    others = schema.get("additionalProperties", True)
    for name in schema.get("required", ()):
        if name not in value:
            yield Wrong(_below(where, name), "is missing")
    for name, item in value.items():
        if name in properties:
            yield from wrong_with(item, properties[name], _below(where, name), depth + 1)
        elif others is False:
            known = ", ".join(properties) or "none"
            yield Wrong(_below(where, _shown(name)), f"is not known here; known: {known}")
        elif isinstance(others, Mapping):
            yield from wrong_with(item, others, _below(where, _shown(name)), depth + 1)


def _wrong_array(value: list[Any], schema: Schema, where: str, depth: int) -> Iterator[Wrong]:
    if len(value) < schema.get("minItems", 0):
        yield Wrong(where, "must not be empty" if not value else "has too few items")
    if "maxItems" in schema and len(value) > schema["maxItems"]:
        yield Wrong(where, f"has more than {schema['maxItems']} items")
        return
    for place, item in enumerate(value):
        if "items" in schema:
            yield from wrong_with(item, schema["items"], f"{where}[{place}]", depth + 1)


def _is(value: Any, kind: str) -> bool:
    if isinstance(value, bool):
        return kind == "boolean"
    return isinstance(value, _TYPES[kind])


def _kind_of(value: Any) -> str:
    return next((_spoken([kind]) for kind in _TYPES if _is(value, kind)), "something else")


def _spoken(kinds: Sequence[str]) -> str:
    words = {
        "object": "an object",
        "array": "a list",
        "string": "a text",
        "integer": "a whole number",
        "number": "a number",
        "boolean": "true or false",
        "null": "null",
    }
    return " or ".join(words[kind] for kind in kinds)


def _below(where: str, name: str) -> str:
    return f"{where}.{name}" if where else name


def _shown(name: str) -> str:
    """A key that a client made up, fit for one line of an error."""
    return "".join(c if c.isprintable() else "?" for c in name[:60]) + ("…" if name[60:] else "")


# How the API's schemas are written


def closed(required: Mapping[str, Schema], optional: Mapping[str, Schema] | None = None) -> Schema:
    """An object with these keys and no others."""
    return {
        "type": "object",
        "properties": {**required, **(optional or {})},
        "required": list(required),
        "additionalProperties": False,
    }


def text(about: str = "", *, least: int = 1, most: int = 1024, **more: Any) -> Schema:
    """A text of so many characters."""
    return _about({"type": "string", "minLength": least, "maxLength": most, **more}, about)


def whole(about: str = "", *, least: int = 0, most: int = 2**53 - 1) -> Schema:
    """A whole number; no more than JavaScript can count."""
    return _about({"type": "integer", "minimum": least, "maximum": most}, about)


def said(about: str = "") -> Schema:
    """A text of ours, of any length."""
    return _about({"type": "string"}, about)


def number(about: str = "") -> Schema:
    """A number."""
    return _about({"type": "number"}, about)


def flag(about: str = "") -> Schema:
    """True or false."""
    return _about({"type": "boolean"}, about)


def listed(item: Schema, about: str = "") -> Schema:
    """A list."""
    return _about({"type": "array", "items": item}, about)


def or_null(schema: Schema) -> Schema:
    """The same, or nothing."""
    return {**schema, "type": [schema["type"], "null"]}


def _about(schema: dict[str, Any], about: str) -> Schema:
    return {**schema, "description": about} if about else schema
