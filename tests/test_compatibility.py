"""
What docs/compatibility.md says is so: every point is there, every test that it names exists.

A point's tests are named as C{wire/pg/test_flow `test_copy*`}: a file below
C{tests/} and functions or classes in it, or the file alone. Those behind
I{differential} are cases of C{integration/test_differential}.
"""

from __future__ import annotations

import ast
import functools
import importlib
import re
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.support.trace import Case

CHECKOUT = Path(__file__).resolve().parent.parent
TESTS = CHECKOUT / "tests"
TEXT = (CHECKOUT / "docs" / "compatibility.md").read_text()
POINTS = 110
STATES = ("done", "partly", "open", "not offered")

KNOWN_ATTACKS = (
    "CVE-2012-4575", "CVE-2015-4054", "CVE-2015-6817", "CVE-2021-3935", "CVE-2021-23214",
    "CVE-2021-23222", "CVE-2021-43766", "CVE-2021-43767", "CVE-2025-2291", "CVE-2025-12819",
    "CVE-2026-6664", "CVE-2026-6665", "CVE-2026-6666", "CVE-2026-6667", "CVE-2025-46801",
    "CVE-2024-45624", "CVE-2023-22332", "CVE-2024-10977", "CVE-2024-27304", "CVE-2024-1597",
    "CVE-2026-4427",
)  # fmt: skip
"""What broke others on this wire, as far as it is known by a number."""

# A file of tests, the word for the cases, a name in backticks, or the end of a list of names.
_TOKEN = re.compile(r"\b(?P<file>[a-z]+(?:/\w+)+)|\b(?P<cases>differential)\b|`(?P<name>[\w*]+)`")
_IS_TEST = re.compile(r"test_[\w*]+|\w*Tests")


def rows(first: str) -> Iterator[list[str]]:
    """The cells of all rows of tables whose first cell looks like this."""
    for line in TEXT.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if line.startswith("|") and re.fullmatch(first, cells[0]):
            yield cells


def named(remarks: str) -> Iterator[tuple[str, str]]:
    """The tests that a cell names: a file, or C{differential}, and a name, or nothing."""
    for part in re.split(r"[;.](?:\s|$)", remarks):
        where = ""
        for token in _TOKEN.finditer(part):
            if token["file"] is not None:
                where = token["file"]
                yield where, ""
            elif token["cases"] is not None:
                where = "differential"
            elif where == "differential" or (where and _IS_TEST.fullmatch(token["name"])):
                yield where, token["name"]


@functools.cache
def names_in(where: str) -> frozenset[str]:
    """The functions and classes of a file of tests, or the differential cases."""
    if where == "differential":
        return frozenset(
            case.name
            for file in sorted(TESTS.glob("integration/cases_*.py"))
            for table in vars(importlib.import_module(f"tests.integration.{file.stem}")).values()
            if isinstance(table, (list, tuple))
            for case in table
            if isinstance(case, Case)
        )
    file = TESTS / f"{where}.py"
    if not file.exists():
        return frozenset()
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    return frozenset(
        node.name for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, kinds)
    )


def missing(remarks: str) -> list[str]:
    """What a cell names and what does not exist."""
    return [
        f"{where} {name}"
        for where, name in named(remarks)
        if not any(fnmatchcase(one, name or "*") for one in names_in(where))
    ]


class PointTests(SynchronousTestCase):
    """The list of points."""

    def test_all_are_there(self) -> None:
        """Each of the points stands there once, in its order, with a state."""
        points = list(rows(r"\d+"))
        self.assertEqual([int(cells[0]) for cells in points], list(range(1, POINTS + 1)))
        self.assertEqual([cells for cells in points if cells[2] not in STATES], [])

    def test_named_tests_exist(self) -> None:
        """Every test that a row names is there."""
        wrong = {cells[0]: missing(cells[-1]) for cells in rows(r"\d+") if missing(cells[-1])}
        self.assertFalse(wrong, wrong)

    def test_done_is_tested(self) -> None:
        """What is done has a test; what is not has a reason."""
        for cells in rows(r"\d+"):
            if cells[2] == "done":
                self.assertNotEqual(list(named(cells[3])), [], cells)
            self.assertTrue(cells[3], cells)


class AttackTests(SynchronousTestCase):
    """The list of what broke others."""

    def test_all_are_there(self) -> None:
        """Each has its row, and each row a test that exists."""
        table = {cells[0]: cells[-1] for cells in rows(r".*CVE-.*")}
        self.assertEqual(
            set(KNOWN_ATTACKS) - set(re.findall(r"CVE-\d+-\d+", str(table.keys()))), set()
        )
        for attack, tests in table.items():
            self.assertNotEqual(list(named(tests)), [], attack)
            self.assertEqual(missing(tests), [], attack)


class ReaderTests(SynchronousTestCase):
    """The reading of the table."""

    def test_named(self) -> None:
        """Names belong to the file before them; other words in backticks are no tests."""
        remarks = "by `allow`. net/test_tls `test_alpn`, `close`; differential `copy*`, `sync`"
        self.assertEqual(
            list(named(remarks)),
            [
                ("net/test_tls", ""),
                ("net/test_tls", "test_alpn"),
                ("differential", "copy*"),
                ("differential", "sync"),
            ],
        )

    def test_missing(self) -> None:
        """A file, a name or a case that is not there is seen."""
        for remarks in (
            "net/test_nothing",
            "net/test_tls `test_nothing`",
            "differential `nothing`",
        ):
            self.assertEqual(len(missing(remarks)), 1, remarks)
        self.assertEqual(missing("test_compatibility; differential `copy_*`, `flush`"), [])
