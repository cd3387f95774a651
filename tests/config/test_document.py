"""Tests for L{proxyd.config.document}."""

from __future__ import annotations

import datetime

from proxyd.config.document import (
    SIZE_LIMIT,
    Items,
    Malformed,
    Scalar,
    Table,
    described,
    file_text,
    joined,
    read_document,
)
from proxyd.config.report import Report
from proxyd.errors import ConfigError
from tests.config.reading import ReadingCase


class FileTests(ReadingCase):
    """A file as text, and as a tree."""

    def test_text(self) -> None:
        """UTF-8, with or without a byte order mark."""
        path = self.folder() / "f.yaml"
        path.write_bytes(b"\xef\xbb\xbfa: \xc3\xa9")
        self.assertEqual(file_text(str(path)), "a: é")

    def test_not_utf8(self) -> None:
        """Other bytes are told by their line."""
        path = self.folder() / "f.yaml"
        path.write_bytes(b"a: 1\nb: \xff\n")
        self.assertEqual(self.assertRaises(Malformed, file_text, str(path)).line, 2)

    def test_size(self) -> None:
        """A file of 1 MiB is read, one byte more is refused."""
        path = self.folder() / "f.yaml"
        path.write_bytes(b"#" * SIZE_LIMIT)
        self.assertEqual(len(file_text(str(path))), SIZE_LIMIT)
        path.write_bytes(b"#" * (SIZE_LIMIT + 1))
        self.assertRaises(Malformed, file_text, str(path))

    def test_by_name(self) -> None:
        """A name that ends in .toml is TOML, any other YAML."""
        folder = self.folder()
        for name, text in (("a.toml", "k = 1"), ("a.yaml", "k: 1"), ("a", "k: 1")):
            (folder / name).write_text(text)
            self.assertEqual(read_document(str(folder / name), Report(name)).entries[0].key, "k")

    def test_unreadable(self) -> None:
        """A file that can't be read, or is a folder, is one problem with its name."""
        folder = self.folder()
        for path in (folder, folder / "nothing.yaml"):
            error = self.assertRaises(ConfigError, read_document, str(path), Report("f"))
            self.assertEqual([problem.file for problem in error.problems], [str(path)])


class WordTests(ReadingCase):
    """How nodes and paths are spoken of."""

    def test_described(self) -> None:
        """Each kind of node has a name that a user knows."""
        for value, name in (
            (None, "nothing"),
            (True, "true or false"),
            ("x", "text"),
            (1, "a number"),
            (1.5, "a number"),
            (datetime.date(2020, 1, 1), "a date or time"),
        ):
            self.assertEqual(described(Scalar(value, 1)), name)
        self.assertEqual(described(Table((), 1)), "a mapping")
        self.assertEqual(described(Items((), 1)), "a list")

    def test_joined(self) -> None:
        """Paths are dotted, printable and bounded."""
        self.assertEqual(joined("", "a"), "a")
        self.assertEqual(joined("a", "b\x1b"), "a.b?")
        self.assertEqual(joined("a", "x" * 100), "a." + "x" * 80 + "…")
