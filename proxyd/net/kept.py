"""
What is sent at the end of a round: the few bytes of requests and answers.

A send may wake the program that is sent to, and that may take our place on the
processor. Sent as they come, each few bytes would have us begin again with a
cold cache in the middle of a round; sent together when all sockets of the
round were read, they find us with nothing but sends to do, and a client of
many sessions with all its answers. Requests go before answers, so that those
who work on them do so while the answers are sent.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from proxyd.net.line import IN

if TYPE_CHECKING:
    from proxyd.net.end import End


class Kept:
    """
    The Ends that have a few bytes to send when all sockets of a round were read.

    Their bytes wait where all bytes of an End wait (L{pending<proxyd.net.line.Line.pending>}):
    what it writes meanwhile comes behind them, and C{close} sends them; C{drop}
    and C{abort} throw them away.

    @ivar requests: Ends that somebody asks
    @ivar answers: Ends that are answered
    """

    __slots__ = ("answers", "requests")

    def __init__(self) -> None:
        self.requests: list[End] = []
        self.answers: list[End] = []

    def send(self) -> int:
        """The round is over: send all; how many there were to send."""
        count = 0
        for ends in (self.requests, self.answers):
            if ends:
                count += len(ends)
                try:
                    _send(ends)
                finally:
                    ends.clear()
        return count


def _send(ends: list[End]) -> None:
    """Send what waits in each; what the socket does not take goes on as a backlog does."""
    for end in ends:
        data = end._out
        if not data or end.subject is None:
            # It was sent by now, or lost; or its last words are to follow.
            continue
        try:
            sent = end._carrier.send(data)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            end._link.serve(end, partial(end._send_failed, error))
            continue
        except Exception:
            # A bug in its way: that must not touch the others.
            end._link._bug(end)
            continue
        if sent == len(data) and end._events == IN and end._ending is None and end._out is data:
            # As L{End._took} does for one who has nothing to tell. Were somebody paused
            # until it is sent, its socket would be watched for room.
            end._out = b""
        else:
            end._link.serve(end, partial(end._took, sent))
