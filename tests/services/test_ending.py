"""Tests for L{proxyd.services.ending}: in a process of its own, which it ends."""

from __future__ import annotations

import os
import subprocess
import sys

from twisted.trial.unittest import SynchronousTestCase

PROGRAM = """
from twisted.internet import reactor
from proxyd.services.ending import end_with
reactor.addSystemEventTrigger("during", "shutdown", lambda: print("in order", flush=True))
reactor.callWhenRunning(end_with, reactor, 3, "why")
reactor.run()
"""


class EndingTests(SynchronousTestCase):
    """The process ends, and says why."""

    def test_code_and_line(self) -> None:
        """One line on stderr, everything stopped in order, and the exit code."""
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
        self.assertEqual((done.returncode, done.stdout, done.stderr), (3, "in order\n", "why\n"))
