"""
proxyd inside another Twisted program: the examples of docs/embedding.md, as they stand there.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.integration.agents import SECONDS, AgentsTestCase
from tests.support.agent import echo
from tests.support.blackbox import BlackBoxTestCase
from tests.support.daemon import REPOSITORY
from tests.support.database import DATABASE, SERVICE
from tests.support.deadlines import wait_until

DOCUMENT = REPOSITORY / "docs" / "embedding.md"


def programs() -> list[str]:
    """The document's programs."""
    found = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    assert len(found) == 2
    return found


class EmbeddingTests(BlackBoxTestCase):
    """The document's own program."""

    def test_example(self) -> None:
        """It starts proxyd's services, issues a token, logs in by it, revokes it, and stops."""
        program = programs()[0]
        folder = Path(self.mktemp())
        folder.mkdir(parents=True)
        (folder / "mine.py").write_text(program)
        done = subprocess.run(
            [sys.executable, "mine.py"],
            cwd=folder,
            env={
                **os.environ,
                "PYTHONPATH": str(REPOSITORY),
                "DSN": self.database.dsn(SERVICE, DATABASE, sslmode="disable"),
                "PASSWORD": self.database.passwords[SERVICE],
            },
            capture_output=True,
            text=True,
            timeout=120,
        )
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(
            done.stdout.splitlines(), ["the answer is 42", "the session ended: 57P01"], done.stderr
        )


class AgentTests(AgentsTestCase):
    """An agent in a program of one's own."""

    def test_example(self) -> None:
        """It comes, and serves; SIGTERM ends it in order."""
        self.begin()
        token, _ = self.new_agent("pc1")
        folder = Path(self.mktemp())
        folder.mkdir(parents=True)
        (folder / "mine.py").write_text(programs()[1])
        url = f"ws://127.0.0.1:{self.door}/agent"
        agent = subprocess.Popen(
            [sys.executable, "mine.py"],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY), "SERVER": url, "TOKEN": token},
            stdin=subprocess.DEVNULL,
        )
        self.addCleanup(agent.wait)
        self.addCleanup(agent.kill)
        self.wait_here("pc1")
        self.says_back(self.reverse(self.place(echo)))
        agent.terminate()
        self.assertEqual(agent.wait(SECONDS), 0)
        wait_until(lambda: self.since("pc1") is None, SECONDS, "it to be gone")
