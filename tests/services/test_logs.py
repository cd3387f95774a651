"""Tests for L{proxyd.services.logs}."""

from __future__ import annotations

import io
import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.logger import FileLogObserver, Logger, LogLevel
from twisted.python import log as old_log
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from proxyd.config.model import Log
from proxyd.services.logs import escaped, observer


def written(log: Log, **event: object) -> str:
    """What an observer writes for one event."""
    stream = io.StringIO()
    defaults = {
        "log_time": 1.5,
        "log_level": LogLevel.info,
        "log_namespace": "proxyd.test",
        "log_format": "hello",
    }
    observer(log, stream)({**defaults, **event})
    return stream.getvalue()


def told(**event: object) -> Any:
    """The JSON object that is written for one event."""
    return json.loads(written(Log(format="json"), **event))


class EscapedTests(SynchronousTestCase):
    """No text can break out of its line or speak to a terminal."""

    def test_controls(self) -> None:
        """Line breaks, terminal escapes, C1 controls, separators and turned text are escaped."""
        self.assertEqual(escaped("a\r\nb"), "a\\x0d\\x0ab")
        self.assertEqual(escaped("\x1b[2J\x9b2J\x7f\x00"), "\\x1b[2J\\x9b2J\\x7f\\x00")
        self.assertEqual(escaped("\u2028\u2029\u0085"), "\\u2028\\u2029\\x85")
        self.assertEqual(escaped("\u202egpj.exe\ud800"), "\\u202egpj.exe\\ud800")

    def test_letters(self) -> None:
        """Letters of any script, and backslashes, stay as they are."""
        self.assertEqual(escaped("größe \\ 数据 \U0001f600"), "größe \\ 数据 \U0001f600")

    @given(st.text())
    def test_any_text(self, text: str) -> None:
        """Whatever the text is, it stays one line, can be encoded, and is safe a second time."""
        safe = escaped(text)
        self.assertLessEqual(len(safe.splitlines()), 1)
        self.assertFalse(set(safe) & {chr(code) for code in [*range(32), *range(127, 160)]})
        safe.encode("utf-8")
        self.assertEqual(escaped(safe), safe)


class TextTests(SynchronousTestCase):
    """In text an event is a line."""

    def test_line(self) -> None:
        """Time in UTC, level, where it came from, message."""
        self.assertEqual(
            written(Log(), log_format="{user} logged in", user="ann"),
            "1970-01-01T00:00:01.500Z info     [proxyd.test] ann logged in\n",
        )

    def test_injection(self) -> None:
        """A client's name can't begin a line of its own."""
        text = written(Log(), log_format="user {user!s}", user="x\n1970 info [proxyd] root is in")
        self.assertEqual(text.count("\n"), 1)
        self.assertIn("x\\x0a1970", text)

    def test_failure(self) -> None:
        """A failure's record: its message with type and text, and the traceback behind."""
        password = "hunter2"
        try:
            raise ValueError("bad\nvalue" + password[:0])
        except ValueError:
            failure = Failure()
        text = written(Log(), log_format="it broke", log_failure=failure)
        lines = text.splitlines()
        self.assertTrue(lines[0].endswith("] it broke: ValueError: bad\\x0avalue"), lines[0])
        self.assertGreater(len(lines), 3)
        self.assertTrue(all(line.startswith("    ") for line in lines[1:]))
        self.assertIn("in test_failure", text)
        # Source lines are shown, the values of variables are not.
        self.assertEqual(text.count("hunter2"), 0)

    def test_cause(self) -> None:
        """What a failure was raised from is told with it."""
        try:
            try:
                raise OSError("disk full")
            except OSError as error:
                raise ValueError("not saved") from error
        except ValueError:
            failure = Failure()
        text = written(Log(), log_failure=failure)
        self.assertIn("    OSError: disk full", text)
        self.assertIn("    ValueError: not saved", text)

    def test_without_a_traceback(self) -> None:
        """A failure that was never raised has a type and a text all the same."""
        text = written(Log(), log_failure=Failure(ValueError("x")))
        self.assertIn("hello: ValueError: x\n", text)

    def test_unformattable(self) -> None:
        """A record that can't be formatted is one line still."""
        text = written(Log(), log_format="{missing} {user}", user="a\nb")
        self.assertEqual(text.count("\n"), 1)
        self.assertIn("missing", text)


class JsonTests(SynchronousTestCase):
    """In JSON an event is one object in one line."""

    def test_object(self) -> None:
        """The record's own keys, and the event's plain fields."""
        self.assertEqual(
            told(log_format="{n} bytes", n=5, user="ann", tls=True, seconds=0.5, why=None),
            {
                "time": "1970-01-01T00:00:01.500Z",
                "level": "info",
                "system": "proxyd.test",
                "message": "5 bytes",
                "n": 5,
                "user": "ann",
                "tls": True,
                "seconds": 0.5,
                "why": None,
            },
        )

    def test_other_fields(self) -> None:
        """What is no plain value is left out; what is no JSON number is a text."""
        record = told(secret=object(), data=b"x", rate=float("nan"))
        self.assertNotIn("secret", record)
        self.assertNotIn("data", record)
        self.assertEqual(record["rate"], "nan")

    def test_same_names(self) -> None:
        """A field can't pretend to be one of the record's own keys."""
        record = told(level="critical", system="kernel", message="all is well", failure="none")
        self.assertEqual(record["level"], "info")
        self.assertEqual(record["level_"], "critical")
        self.assertEqual(record["system_"], "kernel")
        self.assertEqual(record["message_"], "all is well")
        self.assertEqual(record["failure_"], "none")

    def test_failure(self) -> None:
        """Type, text and the traceback's lines, in the same record."""
        try:
            raise ValueError("bad value")
        except ValueError:
            record = told(log_failure=Failure())
        self.assertEqual(record["failure"]["type"], "ValueError")
        self.assertEqual(record["failure"]["text"], "bad value")
        self.assertIn("Traceback", record["failure"]["traceback"][0])
        self.assertEqual(record["failure"]["traceback"][-1], "ValueError: bad value")

    @given(st.text(), st.text())
    def test_any_text(self, text: str, key: str) -> None:
        """Whatever a field holds: one line of ASCII without controls, and the same text again."""
        event = {"log_format": "{user}", "user": text}
        if not key.startswith("log_") and key not in ("time", "system", "isError"):
            event[key] = text
        line = written(Log(format="json"), **event)
        self.assertTrue(line.endswith("\n"))
        self.assertTrue(all(" " <= letter <= "~" for letter in line[:-1]), line)
        self.assertEqual(json.loads(line)["user"], text)


class LevelTests(SynchronousTestCase):
    """The least level decides what is written."""

    def emitted(self, level: str, name: str, **event: object) -> bool:
        """Whether an event of that level is written at that least level."""
        constant = LogLevel.levelWithName(name)
        return bool(written(Log(level=level), log_level=constant, **event))

    def test_filter(self) -> None:
        """What is less important than the level is left out."""
        names = ["debug", "info", "warn", "error", "critical"]
        for least in names:
            for name in names:
                expected = names.index(name) >= names.index(least)
                self.assertEqual(self.emitted(least, name), expected, (least, name))

    def test_libraries(self) -> None:
        """What Twisted says at info is for debugging; its warnings are warnings."""
        for namespace in ("twisted.internet.protocol.Factory", "log_legacy"):
            self.assertFalse(self.emitted("info", "info", log_namespace=namespace))
            self.assertTrue(self.emitted("debug", "info", log_namespace=namespace))
            self.assertTrue(self.emitted("info", "warn", log_namespace=namespace))

    def test_unknown(self) -> None:
        """A level or form that there is not is refused at once."""
        self.assertRaises(ValueError, observer, Log(level="loud"), io.StringIO())
        self.assertRaises(ValueError, observer, Log(format="xml"), io.StringIO())


class PublishedTests(SynchronousTestCase):
    """Events of both of Twisted's interfaces come out right."""

    def setUp(self) -> None:
        self.stream = io.StringIO()
        self.observer: FileLogObserver = observer(Log(level="debug", format="json"), self.stream)

    def test_logger(self) -> None:
        """C{Logger}'s fields are there, whatever other observers made of the event."""
        Logger(namespace="proxyd.x", observer=self.observer).info("{user} is in", user="ann")
        record = json.loads(self.stream.getvalue())
        self.assertEqual(record["message"], "ann is in")
        self.assertEqual(record["user"], "ann")
        self.assertEqual(set(record), {"time", "level", "system", "message", "user"})

    def test_old_interface(self) -> None:
        """What a library says by C{log.msg} has a message and no stray fields."""
        old_log.addObserver(self.observer)
        self.addCleanup(old_log.removeObserver, self.observer)
        old_log.msg("hello there", system="lib")
        record = json.loads(self.stream.getvalue())
        self.assertEqual(record["message"], "hello there")
        self.assertEqual(record["system"], "lib")
        self.assertEqual(set(record), {"time", "level", "system", "message"})
