"""What docs/security.md says is tried by hostile agents and servers: each test is there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

CHECKOUT = Path(__file__).resolve().parent.parent
TESTS = CHECKOUT / "tests"
BEGIN, END = "What peers may try", "## Limits before the login"
LEAST = 60
_TOKEN = re.compile(r"(?P<file>[a-z]+(?:/\w+)+)|`(?P<name>test_\w+)`")


def tests_in(file: Path) -> set[str]:
    """The names of a file's tests."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return {node.name for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, kinds)}


class HostileAgentsTests(SynchronousTestCase):
    """The table of the attempts."""

    def test_each_is_there(self) -> None:
        """Each test that it names exists, and there are enough of them."""
        text = (CHECKOUT / "docs" / "security.md").read_text()
        section = text[text.index(BEGIN) : text.index(END)]
        named: set[tuple[str, str]] = set()
        file = ""
        for line in section.splitlines():
            for token in _TOKEN.finditer(line.rpartition(" | ")[2]) if line[:1] == "|" else ():
                if token["file"]:
                    file = token["file"]
                else:
                    self.assertIn(token["name"], tests_in(TESTS / f"{file}.py"), file)
                    named.add((file, token["name"]))
        self.assertGreaterEqual(len(named), LEAST)
