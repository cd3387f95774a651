"""
The log as it is written: one record an event, in text or JSON.

What a client said may stand in an event. No record lets it break out: control
characters are written as escapes, so that no text can begin a line of its own,
move a terminal's cursor or hide. Tracebacks show code, never values.
"""

from __future__ import annotations

import json
import math
import re
import traceback
from datetime import UTC, datetime
from functools import lru_cache
from types import TracebackType
from typing import IO, Any, NamedTuple, Protocol

from twisted.logger import FileLogObserver, LogEvent, LogLevel, formatEvent
from twisted.python.failure import Failure

from proxyd.config.model import Log

LEVELS = {"debug": 0, "info": 1, "warn": 2, "warning": 2, "error": 3, "critical": 4}
"""The names of levels, and how important each is."""

# C0 and C1 controls and DEL, the line and paragraph separators, the characters that
# turn the direction of text (which can show a line other than it is), the byte order
# mark, and halves of surrogate pairs, which no encoding takes.
_UNSAFE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]"
)

_OLD_KEYS = frozenset(
    # What an event of Twisted's older interface (log.msg) carries beside its fields.
    ("message", "isError", "printed", "format", "system", "time", "why", "failure", "logLevel")
)
_RECORD_KEYS = frozenset(("time", "level", "system", "message", "failure"))
_LIBRARIES = ("twisted.", "log_legacy", "autobahn", "txaio")

Plain = str | int | float | bool | None


class _Kind(NamedTuple):
    """What the events of one logger at one level have in common: read once for all of them."""

    level: str
    system: str


class _Format(Protocol):
    def __call__(self, event: LogEvent, kind: _Kind) -> str:
        """One record, its line end included."""


def escaped(text: str) -> str:
    """
    A text that is safe in one line of a log or on a terminal.

    Control characters, line separators and the like are written as C{\\xNN} or
    C{\\uNNNN}. A backslash stays as it is: this is to be read, not to be undone.
    """
    return text if text.isprintable() else _UNSAFE.sub(_escape, text)


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def observer(log: Log, stream: IO[str]) -> FileLogObserver:
    """
    A log observer as the configuration asks for it.

    @param log: the least level that is written, and the form, text or json
    @param stream: where records go; flushed after each
    @raise ValueError: the level or form has no such name; a loaded
        configuration has only good ones
    """
    if log.level not in LEVELS:
        raise ValueError(f"no log level {log.level}")
    forms: dict[str, _Format] = {"text": _text, "json": _json}
    if log.format not in forms:
        raise ValueError(f"no log format {log.format}")
    least = LEVELS[log.level]
    form = forms[log.format]

    def record(event: LogEvent) -> str | None:
        kind = _kind_of(event)
        return form(event, kind) if LEVELS[kind.level] >= least else None

    return FileLogObserver(stream, record)


def level_of(event: LogEvent) -> str:
    """
    How important an event is to an operator: the name of its level.

    What Twisted and its like say at level info ("Starting factory...") is a
    debug matter here.
    """
    return _kind_of(event).level


def _kind_of(event: LogEvent) -> _Kind:
    return _kind(
        event.get("log_level", LogLevel.info),
        str(event.get("log_namespace") or ""),
        str(event.get("log_system") or ""),
    )


@lru_cache(maxsize=512)
def _kind(level: Any, namespace: str, system: str) -> _Kind:
    name: str = level.name
    if name == "info" and namespace.startswith(_LIBRARIES):
        name = "debug"
    return _Kind(name, escaped(system or namespace or "-"))


def as_text(event: LogEvent) -> str:
    """
    An event as a line: time (RFC 3339, UTC), level, where it came from, message.

    A failure's type and text end that line; its traceback follows in lines
    that begin with four blanks, which no other line of a log does.
    """
    return _text(event, _kind_of(event))


def _text(event: LogEvent, kind: _Kind) -> str:
    line = f"{_time(event)} {kind.level:<8} [{kind.system}] {_message(event)}"
    failure = event.get("log_failure")
    if not isinstance(failure, Failure):
        return line + "\n"
    name, text, trace = _told(failure)
    lines = [f"{line}: {name}: {text}" if text else f"{line}: {name}"]
    lines.extend(f"    {entry}" for entry in trace)
    return "\n".join(lines) + "\n"


def as_json(event: LogEvent) -> str:
    """
    An event as one JSON object in one line.

    Its keys: C{time} (RFC 3339, UTC), C{level}, C{system}, C{message}, for a
    failure C{failure} (C{type}, C{text}, C{traceback}: a list of lines), and
    the event's fields that are texts, numbers, truth values or null. A field
    that has the name of one of those keys gets a C{_} behind it.
    """
    return _json(event, _kind_of(event))


def _json(event: LogEvent, kind: _Kind) -> str:
    record: dict[str, object] = {
        "time": _time(event),
        "level": kind.level,
        "system": kind.system,
        "message": _message(event),
    }
    failure = event.get("log_failure")
    if isinstance(failure, Failure):
        name, text, trace = _told(failure)
        record["failure"] = {"type": name, "text": text, "traceback": trace}
    old = "isError" in event
    for key, value in event.items():
        if key.startswith("log_") or (old and key in _OLD_KEYS):
            continue
        if isinstance(value, Plain):
            record[f"{key}_" if key in _RECORD_KEYS else key] = _plain(value)
    return json.dumps(record, ensure_ascii=True).replace("\x7f", "\\u007f") + "\n"


def _plain(value: Plain) -> Plain:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)  # JSON (RFC 8259, section 6) has no word for it
    if isinstance(value, str):
        # By its text alone: a subclass may have an odd idea of itself.
        return str(value)
    return value


def _time(event: LogEvent) -> str:
    stamp = float(event.get("log_time", 0.0))
    return f"{_second(int(stamp))}.{int(stamp % 1 * 1000):03d}Z"


@lru_cache(maxsize=2)
def _second(stamp: int) -> str:
    """A second as RFC 3339 has it, without its fraction and zone; many records share one."""
    return datetime.fromtimestamp(stamp, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def _message(event: LogEvent) -> str:
    text = event.get("log_format")
    if isinstance(text, str) and "(" not in text and "log_flattened" not in event:
        # Python's own formatting does for our lines, at a fraction of the cost.
        try:
            return escaped(text.format_map(event))
        except Exception:
            return escaped(formatEvent(event))
    return escaped(formatEvent(event))


def _told(failure: Failure) -> tuple[str, str, list[str]]:
    """A failure's type, its text, and its traceback with what it was raised from."""
    value = failure.value
    kind = failure.type.__name__ if failure.type is not None else "Failure"
    text = escaped(str(value) if value is not None else "")
    if value is None:
        return kind, text, []
    told = traceback.TracebackException(type(value), value, _trace(failure), capture_locals=False)
    lines = "".join(told.format()).splitlines()
    return kind, text, [escaped(line) for line in lines]


def _trace(failure: Failure) -> TracebackType | None:
    trace = failure.getTracebackObject()  # type: ignore[no-untyped-call]
    return trace if isinstance(trace, TracebackType) else None
