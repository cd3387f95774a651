"""
proxyd inside another Twisted program: the example of docs/embedding.md, as it stands there.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.support.blackbox import BlackBoxTestCase
from tests.support.daemon import REPOSITORY
from tests.support.database import DATABASE, SERVICE

DOCUMENT = REPOSITORY / "docs" / "embedding.md"


class EmbeddingTests(BlackBoxTestCase):
    """The document's own program."""

    def test_example(self) -> None:
        """It starts proxyd's services, issues a token, logs in by it, revokes it, and stops."""
        (program,) = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
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
