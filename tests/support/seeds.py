"""
Where chance comes from in tests: one seed a run, printed, and brought back by C{PROXYD_SEED}.

C{PROXYD_SOAK=1} asks for the long forms.
"""

from __future__ import annotations

import os
import random
import sys

SOAK = os.environ.get("PROXYD_SOAK") == "1"


def printed_seed(what: str) -> int:
    """
    This run's seed, told on stderr beside what it is for.

    @param what: the test's name
    """
    seed = int(os.environ.get("PROXYD_SEED", "0")) or random.SystemRandom().getrandbits(32)
    sys.stderr.write(f"\n{what}: PROXYD_SEED={seed}\n")
    return seed
