"""Tests for L{proxyd.config.yaml_text}."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from proxyd.config.document import NODE_LIMIT, Items, Malformed, Node, Scalar, Table
from proxyd.config.report import Report
from proxyd.config.yaml_text import read_yaml


def plain(node: Node) -> object:
    """A node as the plain Python value it is."""
    if isinstance(node, Table):
        return {entry.key: plain(entry.value) for entry in node.entries}
    if isinstance(node, Items):
        return [plain(item) for item in node.items]
    return node.value


def read(text: str) -> object:
    """A YAML text that has nothing wrong in it."""
    report = Report("f")
    value = plain(read_yaml(text, report))
    assert report.problems == (), report.problems
    return value


class ValueTests(SynchronousTestCase):
    """What plain scalars stand for, and what they don't."""

    def test_no_magic(self) -> None:
        """Only true and false are booleans; times, octals and the like are texts."""
        for text in ("on", "off", "yes", "no", "True", "y", "12:30", "0123", "1_000", "0x1f",
                     "1e3", ".5", "2020-01-01", "Null", "9" * 30):  # fmt: skip
            self.assertEqual(read(f"k: {text}"), {"k": text})

    def test_plain_values(self) -> None:
        """Whole numbers, fractions, true, false and nothing."""
        self.assertEqual(
            read("a: 1\nb: -2\nc: 1.5\nd: true\ne: false\nf: null\ng: ~\nh:\ni: 0"),
            {"a": 1, "b": -2, "c": 1.5, "d": True, "e": False, "f": None, "g": None, "h": None}
            | {"i": 0},
        )

    def test_quoted(self) -> None:
        """What is quoted, or said to be a text, is one."""
        self.assertEqual(read("a: '1'\nb: \"true\"\nc: !!str 5"), {"a": "1", "b": "true", "c": "5"})

    def test_keys_are_texts(self) -> None:
        """A key is its own text, whatever it looks like."""
        self.assertEqual(read("on: 1\n1: 2\nnull: 3"), {"on": 1, "1": 2, "null": 3})

    def test_empty(self) -> None:
        """An empty text, one of comments and one of nothing are empty mappings."""
        for text in ("", "# nothing\n", "---\n", "~"):
            self.assertEqual(read(text), {})

    def test_alias(self) -> None:
        """An alias is what it stands for."""
        self.assertEqual(read("a: &x [1, 2]\nb: *x"), {"a": [1, 2], "b": [1, 2]})

    def test_lines(self) -> None:
        """Each key and value knows its line."""
        table = read_yaml("a: 1\n\nb:\n  - 2\n  - c: 3\n", Report("f"))
        b = table.entries[1]
        assert isinstance(b.value, Items)
        self.assertEqual((b.line, [item.line for item in b.value.items]), (3, [4, 5]))


class RefusedTests(SynchronousTestCase):
    """What is no configuration."""

    def malformed(self, text: str) -> tuple[int | None, str]:
        """The line and the words of the refusal."""
        error = self.assertRaises(Malformed, read_yaml, text, Report("f"))
        return error.line, error.what

    def test_duplicate_keys(self) -> None:
        """A key given twice is told, with both lines; the first one counts."""
        report = Report("f")
        table = read_yaml("a: 1\nb: {c: 1,\n  c: 2}\na: 3\n", report)
        self.assertEqual(plain(table), {"a": 1, "b": {"c": 1}})
        self.assertEqual(
            [str(problem) for problem in report.problems],
            ["f:3: b.c: given twice (first in line 2)", "f:4: a: given twice (first in line 1)"],
        )

    def test_not_yaml(self) -> None:
        """The line of what is no YAML is told, and nothing of its text."""
        line, what = self.malformed("a: 1\nb: [secret-word\nc: 2\n")
        self.assertEqual(line, 3)
        self.assertNotIn("secret-word", what)

    def test_characters(self) -> None:
        """A control character is told by its line."""
        self.assertEqual(self.malformed("a: 1\nb: \x07\n")[0], 2)

    def test_shape(self) -> None:
        """Lists, texts, several documents and keys that are no texts are refused."""
        for text, line in (("- a\n", 1), ("just text", 1), ("a: 1\n---\nb: 2\n", 2),
                           ("? [a]\n: 1\n", 1)):  # fmt: skip
            self.assertEqual(self.malformed(text)[0], line, text)

    def test_tags_and_merges(self) -> None:
        """Tags and merge keys are told of, and nothing is made of them."""
        report = Report("f")
        read_yaml("a: !!python/object:os.system x\nb:\n  <<: {c: 1}\n", report)
        self.assertEqual([problem.line for problem in report.problems], [1, 3])

    def test_laughs(self) -> None:
        """Aliases of aliases are counted with all they stand for."""
        lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
        for n in range(1, 12):
            lines.append(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]")
        line, what = self.malformed("\n".join(lines))
        self.assertIn(str(NODE_LIMIT), what)
        self.assertEqual(line, 5)

    def test_loops(self) -> None:
        """An alias inside what it stands for, or of nothing, is refused."""
        self.assertEqual(self.malformed("a: 1\nb: &x [*x]")[0], 2)
        self.assertEqual(self.malformed("a: *x")[0], 1)

    def test_depth(self) -> None:
        """Lists in lists without end are refused, not followed."""
        self.assertIn("nested too deep", self.malformed("a: " + "[" * 5000)[1])

    def test_odd_escapes(self) -> None:
        """An escape that stands for no character is refused."""
        for text in ('a: "\\UFFFFFFFF"', "%YAML 99999999999999999999.1\n---\na: 1\n"):
            self.malformed(text)

    @given(st.text(alphabet="ab:-[]{},&*!|>'\"%#~?\n\t \\x0é\ud800\x00", max_size=60))
    def test_noise(self, text: str) -> None:
        """Whatever the text, it is a table or malformed."""
        try:
            self.assertIsInstance(read_yaml(text, Report("f")), Table)
        except Malformed:
            pass

    def test_scalar_in_place(self) -> None:
        """A scalar is a node with its line."""
        entry = read_yaml("\nk: v", Report("f")).entries[0]
        self.assertEqual(entry.value, Scalar("v", 2))
