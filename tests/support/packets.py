"""
A line of packets that is bad: it delays each, loses some, and now and then loses all.

Run as a program, by C{bad_line.py}: it carries IP packets between two TUN devices whose
descriptors it is given. A byte on stdin says C{0} (lose all from now on) or C{1}
(carry again); the end of stdin ends it.
"""

from __future__ import annotations

import os
import random
import select
import sys
import time
from collections import deque

LONGEST = 65536
MOST = 20_000
"""Packets on their way in one direction; who sends more loses them, as by a router's queue."""
AT_ONCE = 64


def carry(one: int, other: int, delay: float, loss: float, seed: int) -> None:
    """
    Carry packets until stdin ends.

    @param delay: seconds, each way
    @param loss: of all packets, the share that is lost
    """
    chance = random.Random(seed).random
    ways = {one: other, other: one}
    waiting: dict[int, deque[tuple[float, bytes]]] = {one: deque(), other: deque()}
    poll = select.poll()
    for descriptor in (one, other, 0):
        poll.register(descriptor, select.POLLIN)
        os.set_blocking(descriptor, False)
    whole = True
    while True:
        due = min((queue[0][0] for queue in waiting.values() if queue), default=None)
        pause = None if due is None else max(0.0, due - time.monotonic()) * 1000
        for descriptor, _ in poll.poll(pause):
            if descriptor == 0:
                said = os.read(0, 16)
                if not said:
                    return
                whole = said.endswith(b"1")
                continue
            arrival = time.monotonic() + delay
            queue = waiting[descriptor]
            for packet in _packets(descriptor):
                if whole and chance() >= loss and len(queue) < MOST:
                    queue.append((arrival, packet))
        now = time.monotonic()
        for came, queue in waiting.items():
            while queue and queue[0][0] <= now:
                _, packet = queue.popleft()
                if whole:
                    _put(ways[came], packet)


def _packets(descriptor: int) -> list[bytes]:
    found: list[bytes] = []
    try:
        while len(found) < AT_ONCE:
            found.append(os.read(descriptor, LONGEST))
    except BlockingIOError:
        pass
    return found


def _put(descriptor: int, packet: bytes) -> None:
    try:
        os.write(descriptor, packet)
    except OSError:
        pass  # full, or the device is down: lost like others


if __name__ == "__main__":
    carry(
        int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), float(sys.argv[4]), int(sys.argv[5])
    )
