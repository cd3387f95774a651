"""Tests for L{proxyd.ctl.asking}: tables and JSON."""

from __future__ import annotations

import json
from contextlib import redirect_stdout
from io import StringIO

from twisted.trial.unittest import SynchronousTestCase

from proxyd.ctl.asking import print_json, print_table, shown


class PrintTests(SynchronousTestCase):
    """What people and programs read."""

    def printed(self, *rows: list[str]) -> str:
        """A table of two columns."""
        out = StringIO()
        with redirect_stdout(out):
            print_table(["name", "what"], rows)
        return out.getvalue()

    def test_table(self) -> None:
        """In a pipe nothing is cut, wrapped or coloured."""
        long = "x" * 500
        text = self.printed(["a", long], ["b", "c"])
        self.assertIn(long, text)
        self.assertNotIn("\x1b", text)
        self.assertEqual(len(text.splitlines()), 4)

    def test_markup(self) -> None:
        """What looks like markup is text."""
        text = self.printed(["[red]a[/red]", ":smile: [/]"])
        self.assertIn("[red]a[/red]", text)
        self.assertIn(":smile: [/]", text)

    def test_cells(self) -> None:
        """Nothing is a dash; what a client named can't do anything to a terminal."""
        self.assertEqual([shown(None), shown(True), shown(5)], ["-", "yes", "5"])
        self.assertEqual(shown("\x1b]0;x\x07"), "\\x1b]0;x\\x07")

    def test_json(self) -> None:
        """It is JSON whatever stands in it."""
        out = StringIO()
        value = {"user": 'a"\x1b\né'}
        with redirect_stdout(out):
            print_json(value)
        self.assertEqual(json.loads(out.getvalue()), value)
        self.assertNotIn("\x1b", out.getvalue())
