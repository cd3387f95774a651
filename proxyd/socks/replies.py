"""
What a client is told when its target could not be reached: the one table.
"""

from __future__ import annotations

from proxyd.errors import DialError, DialFailure
from proxyd.wire.socks.words import Refusal

REPLY_FOR = {
    DialFailure.REFUSED: Refusal.REFUSED,
    DialFailure.UNREACHABLE: Refusal.HOST_UNREACHABLE,
    DialFailure.NETWORK: Refusal.NETWORK_UNREACHABLE,
    # 6 is "TTL expired", which is not what happened (RFC 1928, section 6).
    DialFailure.TIMEOUT: Refusal.HOST_UNREACHABLE,
    DialFailure.NAME: Refusal.HOST_UNREACHABLE,
    DialFailure.DENIED: Refusal.DENIED,
    DialFailure.TLS: Refusal.GENERAL,
    DialFailure.LOST: Refusal.HOST_UNREACHABLE,
    DialFailure.BROKEN: Refusal.GENERAL,
    DialFailure.CREDENTIALS: Refusal.GENERAL,
}


class Refused(Exception):
    """
    A request is not served, for a reason of our own.

    @param reply: what the client is told
    """

    def __init__(self, reply: Refusal, why: str) -> None:
        super().__init__(why)
        self.reply = reply


def reply_for(problem: BaseException) -> Refusal:
    """What a client is told of a failure."""
    if isinstance(problem, DialError):
        return REPLY_FOR[problem.failure]
    if isinstance(problem, Refused):
        return problem.reply
    return Refusal.GENERAL
