"""Tests for L{proxyd.net.memory}: in processes of their own, since it is for the whole process."""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from tests.support.programs import run

REPOSITORY = Path(__file__).resolve().parents[2]

PROGRAM = """
import resource, sys
from proxyd.net.memory import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()
def use():
    return [bytes([1]) * 200_000 for _ in range(8)]
use()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(100):
    use()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


class MemoryTests(SynchronousTestCase):
    """Buffers are used again."""

    def faults(self, word: str) -> int:
        """How many pages the kernel had to give while buffers came and went."""
        environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
        return int(run([sys.executable, "-c", PROGRAM, word], environment).out)

    def test_kept(self) -> None:
        """No new pages for buffers that were there before; without it there are thousands."""
        if platform.libc_ver()[0] != "glibc":
            raise SkipTest("only glibc can be told")
        self.assertLess(self.faults("keep"), 1000)
        self.assertGreater(self.faults("default"), 5000)
