"""Tests for L{proxyd.config.toml_text}."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from proxyd.config.document import Malformed, Node, Table
from proxyd.config.report import Report
from proxyd.config.toml_text import read_toml

TEXT = '''\
title = "x"
"odd key" = 1

[postgres]
listen = [
  "127.0.0.1:1",
]
tls.mode = "prefer"
text = """
not_a_key = 1
[not.a.header]
"""

[connections.default]   # the default
dsn = "a"
inline = { a = 1, b = { c = 2 } }

[[routes]]
match = "a"
[[routes]]
match = "b"
  [routes.sub]
  deep = true
'''


def lines_of(node: Node, path: str = "") -> dict[str, int | None]:
    """The line of every key, by its path."""
    if isinstance(node, Table):
        found: dict[str, int | None] = {}
        for entry in node.entries:
            below = f"{path}.{entry.key}".lstrip(".")
            found[below] = entry.line
            found |= lines_of(entry.value, below)
        return found
    found = {}
    for place, item in enumerate(getattr(node, "items", ())):
        found |= lines_of(item, f"{path}[{place}]")
    return found


class TomlTests(SynchronousTestCase):
    """TOML, with lines where they can be found."""

    def test_lines(self) -> None:
        """Keys, dotted keys, headers and lists of tables have their own lines."""
        self.assertEqual(
            lines_of(read_toml(TEXT, Report("f"))),
            {
                "title": 1,
                "odd key": 2,
                "postgres": 4,
                "postgres.listen": 5,
                "postgres.tls": 8,
                "postgres.tls.mode": 8,
                "postgres.text": 9,
                "connections": 14,
                "connections.default": 14,
                "connections.default.dsn": 15,
                "connections.default.inline": 16,
                "connections.default.inline.a": 16,
                "connections.default.inline.b": 16,
                "connections.default.inline.b.c": 16,
                "routes": 18,
                "routes[0].match": 19,
                "routes[1].match": 21,
                "routes[1].sub": 22,
                "routes[1].sub.deep": 23,
            },
        )

    def test_windows_line_ends(self) -> None:
        """Lines that end in CR LF are counted the same."""
        table = read_toml("[a]\r\nb = 1\r\n", Report("f"))
        self.assertEqual(lines_of(table), {"a": 1, "a.b": 2})

    def malformed(self, text: str) -> tuple[int | None, str]:
        """The line and the words of the refusal."""
        error = self.assertRaises(Malformed, read_toml, text, Report("f"))
        return error.line, error.what

    def test_not_toml(self) -> None:
        """The line of what is no TOML is told; a key given twice is such."""
        self.assertEqual(self.malformed("a = 1\nb = = 2\n")[0], 2)
        self.assertEqual(self.malformed("a = 1\na = 2\n")[0], 2)
        self.assertEqual(self.malformed("a = 1\n[x")[0], 2)

    def test_bounds(self) -> None:
        """Nesting and numbers without end are refused."""
        self.malformed("a = " + "[" * 5000 + "]" * 5000)
        self.assertIn("nested too deep", self.malformed("a = " + "[" * 50 + "]" * 50)[1])
        self.malformed("a = " + "9" * 5000)

    def test_long_line(self) -> None:
        """A long line that is no key does not take the scan for keys long."""
        self.assertEqual(self.malformed("a = '''\n" + "k" * 50_000 + "\n")[0], 3)
        text = "a = '''\n'''\n#" + "k" * 50_000 + "\n" + "k" * 5_000 + " . k = 1\n"
        self.assertIn("a", lines_of(read_toml(text, Report("f"))))

    @given(st.text(alphabet="ab.=[]{}\"',#\n\t \\0-:TZ\ud800\x00", max_size=60))
    def test_noise(self, text: str) -> None:
        """Whatever the text, it is a table or malformed."""
        try:
            self.assertIsInstance(read_toml(text, Report("f")), Table)
        except Malformed:
            pass
