"""
What the system says about a connection that could not be made, in our words.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence

from twisted.internet import error

from proxyd.errors import DialError, DialFailure

_BY_NUMBER = {
    errno.ECONNREFUSED: DialFailure.REFUSED,
    errno.ENOENT: DialFailure.REFUSED,  # a UNIX socket that nobody has opened
    errno.ETIMEDOUT: DialFailure.TIMEOUT,
    errno.ENETUNREACH: DialFailure.NETWORK,
    errno.ENETDOWN: DialFailure.NETWORK,
    errno.EHOSTUNREACH: DialFailure.UNREACHABLE,
    errno.EHOSTDOWN: DialFailure.UNREACHABLE,
    errno.EADDRNOTAVAIL: DialFailure.UNREACHABLE,
    errno.EAFNOSUPPORT: DialFailure.UNREACHABLE,
    errno.EACCES: DialFailure.UNREACHABLE,
    errno.EPERM: DialFailure.UNREACHABLE,  # so does a local firewall say no
    errno.ECONNRESET: DialFailure.LOST,
}

_MOST_TELLING = (
    DialFailure.REFUSED,
    DialFailure.TIMEOUT,
    DialFailure.UNREACHABLE,
    DialFailure.NETWORK,
)


def translated(problem: BaseException | None, tried: str) -> DialError:
    """
    What Twisted or the system said about an attempt, in our words.

    @param tried: the address, for the text
    """
    if isinstance(problem, DialError):
        return problem
    if isinstance(problem, (error.TimeoutError, error.TCPTimedOutError)):
        return DialError(DialFailure.TIMEOUT, tried)
    number = getattr(problem, "osError", None) or getattr(problem, "errno", None)
    if isinstance(problem, error.ConnectionRefusedError):
        number = errno.ECONNREFUSED
    elif isinstance(problem, error.NoRouteError):
        number = number or errno.EHOSTUNREACH
    failure = _BY_NUMBER.get(number or 0, DialFailure.BROKEN)
    if failure is DialFailure.REFUSED and number == errno.ECONNREFUSED:
        return DialError(failure, tried)
    said = os.strerror(number).lower() if number else type(problem).__name__
    return DialError(failure, f"{tried}: {said}")


def summed_up(problems: Sequence[DialError]) -> DialError:
    """One error for all the addresses that were tried: the most telling failure, all texts."""
    if len(problems) == 1:
        return problems[0]
    kinds = [problem.failure for problem in problems]
    failure = next((kind for kind in _MOST_TELLING if kind in kinds), DialFailure.BROKEN)
    return DialError(failure, "; ".join(problem.detail for problem in problems))
