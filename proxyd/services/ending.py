"""
Ending the process by our own decision, while the reactor runs.
"""

from __future__ import annotations

import os
import sys
from typing import Any


def end_with(reactor: Any, code: int, line: str) -> None:
    """
    Stop the reactor in order, and end the process with an exit code.

    twistd gives 0 whatever a service found out while it ran.

    @param line: for whoever started us, on stderr
    """
    stream = sys.__stderr__
    if stream is not None:
        stream.write(f"{line}\n")
        stream.flush()
    reactor.addSystemEventTrigger("after", "shutdown", lambda: _exit(code))
    reactor.stop()


def _exit(code: int) -> None:
    for stream in (sys.stdout, sys.__stderr__):
        if stream is not None:
            stream.flush()
    os._exit(code)
