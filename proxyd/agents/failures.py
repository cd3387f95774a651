"""What went wrong with a target, in the words of a dialer and in those of the agents' frames."""

from __future__ import annotations

from proxyd.errors import DialFailure
from proxyd.wire.agent.frames import Code

FAILURES = {
    Code.REFUSED: DialFailure.REFUSED,
    Code.UNREACHABLE: DialFailure.UNREACHABLE,
    Code.TIMEOUT: DialFailure.TIMEOUT,
    Code.NAME: DialFailure.NAME,
    Code.DENIED: DialFailure.DENIED,
    Code.GONE: DialFailure.LOST,
}
"""What a failed opening is called by a dialer; any other code is BROKEN."""

CODES = {failure: code for code, failure in FAILURES.items()}
"""The way back, for the agent's own dialling."""
