"""
Two joined Ends: what one receives, the other sends, in the same round.

The way of nearly all bytes. One read of at most 256 KiB is under way at a time
in each direction; what the peer does not take stays with us, and the reading End
pauses: a slow reader costs one chunk of memory, never more.

A few bytes are sent at the end of the round: L{proxyd.net.kept}.
"""

from __future__ import annotations

from collections.abc import Callable

from proxyd.net.end import End
from proxyd.net.line import BUFFER, FULL, IN, VIEW
from proxyd.net.subject import Relayed, Scans, Subject


def join(
    one: End, other: End, subject: Subject, flow: Relayed | None, scans: tuple[Scans, Scans] | None
) -> None:
    """
    Join two Ends: what one receives, the other sends.

    @param one: who asks: its bytes go first where both have some
    @param subject: told of alerts, ends and losses of both
    @param flow: looked at for an alert after each chunk
    @param scans: watch what C{one} sends, and what C{other} sends
    """
    kept = one._link.kept
    _carry_on(one, other, subject, flow, scans[0].scan if scans else None, kept.requests)
    _carry_on(other, one, subject, flow, scans[1].scan if scans else None, kept.answers)


def _carry_on(
    end: End,
    peer: End,
    subject: Subject,
    flow: Relayed | None,
    scan: Callable[..., int] | None,
    kept: list[End],
) -> None:
    """Send to C{peer} what C{end} receives from now on."""
    end._peer = peer
    end._joined_at = end.received
    end._held = b""
    end.subject = subject
    end._flow = flow
    end._scan = scan
    carry = _relay(end, peer, kept.append)
    end._handler = carry if end._pace is None else _paced(end, carry)
    # A peer with bytes still waiting resumes its partner when they are sent.
    end._paused = FULL if peer._out else 0
    if end._paused or end._out or end._events != IN:
        end._watch()


def _relay(end: End, peer: End, keep: Callable[[End], None]) -> Callable[[int], None]:
    """
    What is done with the events of a joined End: the way of nearly all bytes.

    A closure, since it is run for each of them: what doesn't change while the
    two are joined is looked up once.

    @param keep: takes an End that has bytes to send at the end of the round
    """
    receive, send = end._carrier.recv_into, peer._carrier.send
    scan = end._scan or _pass
    flow = end._flow or _NOTHING_TO_SEE
    view, buffer, readable = VIEW, BUFFER, IN
    few, many = _FEW, len(_FEW)

    def carry(events: int) -> None:
        if events != readable and not end._flushed(events):
            return
        if end._paused:
            end._watch()
            return
        try:
            count = receive(buffer)
        except BlockingIOError:
            return
        except OSError as error:
            end._lost(error)
            return
        if not count:
            end._no_more()
            return
        end.received += count
        if end._held:
            end._pass_on(view, count)
            return
        allowed = scan(buffer, count)
        if allowed != count:
            end._held = bytes(view[allowed : min(count, allowed + 4)])
        if allowed < many and not flow.alert:
            if allowed:
                peer._out = few[allowed].tobytes()
                keep(peer)
            return
        try:
            sent = send(view[:allowed]) if allowed else 0
        except BlockingIOError:
            sent = 0
        except OSError as error:
            peer._send_failed(error)
            return
        if sent != allowed:
            peer._out = bytes(view[sent:allowed])
            end._paused |= FULL
            peer._watch()
        if flow.alert:
            end._look_for_alert()

    return carry


def _paced(end: End, carry: Callable[[int], None]) -> Callable[[int], None]:
    """The same, no faster than the End may go."""

    def paced(events: int) -> None:
        before = end.received
        carry(events)
        if end.received != before:
            end._spend(end.received - before)

    return paced


_FEW = [VIEW[:size] for size in range(1024)]
"""The first bytes of the one buffer, of each number that is few: made once, which is quicker."""


def _pass(data: object, size: int) -> int:
    """The scan of a join without borders to watch."""
    return size


class _Quiet:
    """The flow of a join that nobody watches."""

    __slots__ = ()
    alert = False


_NOTHING_TO_SEE: Relayed = _Quiet()
