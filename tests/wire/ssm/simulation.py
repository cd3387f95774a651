"""
A network that loses, repeats, reorders and delays, between two ends of a data channel.

Time is a number: nothing waits.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Sequence
from dataclasses import dataclass

from proxyd.wire.ssm import message as wire
from proxyd.wire.ssm.channel import TICK, Channel


@dataclass(frozen=True, slots=True)
class Faults:
    """How likely each is, from nought to one; delays are seconds."""

    loss: float
    repeat: float
    reorder: float
    delay: float
    jitter: float
    cut: float = 0.0


class End:
    """One end, what it has to send, and what it got."""

    def __init__(self, channel: Channel, data: bytes) -> None:
        self.channel = channel
        self.left = data
        self.got: list[bytes] = []


class Simulation:
    """
    Two ends that send each other something.

    @ivar now: seconds
    @ivar most_under_way: the most that either had not acknowledged, in bytes
    """

    def __init__(self, dice: random.Random, faults: Faults, up: bytes, down: bytes) -> None:
        self.now = 0.0
        self.most_under_way = 0
        self._dice = dice
        self._faults = faults
        self._order = 0
        self._flying: list[tuple[float, int, int, bytes]] = []

        def new_id() -> bytes:
            return dice.randbytes(16)

        client = Channel(new_id, 1e9)
        agent = Channel(new_id, 1e9, ours=wire.OUTPUT, theirs=wire.INPUT)
        self.ends = (End(client, up), End(agent, down))

    def run(self, patience: float) -> None:
        """
        Until all is there and acknowledged.

        @raise AssertionError: it isn't after so many simulated seconds
        """
        tick = TICK
        while any(end.left or end.channel.under_way for end in self.ends):
            if self.now > patience:
                raise AssertionError(f"a stall: {[e.channel.counts for e in self.ends]}")
            for side in (0, 1):
                self._write(side)
            due = min(self._flying[0][0] if self._flying else tick, tick)
            self.now = max(self.now, due)
            if self.now >= tick:
                tick = self.now + TICK
                self._ticks()
            while self._flying and self._flying[0][0] <= self.now:
                _, _, side, data = heapq.heappop(self._flying)
                end = self.ends[side]
                end.got += [payload for _, payload in end.channel.receive(data, self.now)]
                self._send(side)

    def _ticks(self) -> None:
        cut = self._dice.random() < self._faults.cut
        if cut:
            self._flying.clear()  # the socket is gone, and all that was in it
        for side, end in enumerate(self.ends):
            if cut:
                end.channel.resumed(self.now)
            else:
                end.channel.tick(self.now)
            self._send(side)

    def _write(self, side: int) -> None:
        end = self.ends[side]
        while end.left and (room := end.channel.room):
            size = min(room, self._dice.choice((1, 100, 1024, 5000)))
            end.channel.send_data(end.left[:size], self.now)
            end.left = end.left[size:]
        self.most_under_way = max(self.most_under_way, end.channel.under_way)
        self._send(side)

    def _send(self, side: int) -> None:
        faults, chance = self._faults, self._dice.random
        for data in self.ends[side].channel.messages_to_send():
            for _ in range(2 if chance() < faults.repeat else 1):
                if chance() < faults.loss:
                    continue
                delay = faults.delay + faults.jitter * chance()
                if chance() < faults.reorder:
                    delay += 3 * faults.delay * chance()
                self._order += 1
                heapq.heappush(self._flying, (self.now + delay, self._order, 1 - side, data))


def chance_session(dice: random.Random, sizes: Sequence[int]) -> tuple[Simulation, bytes, bytes]:
    """A session with faults by chance, and what its two ends send."""
    faults = Faults(
        loss=dice.choice((0, 0.01, 0.1, 0.3)),
        repeat=dice.choice((0, 0.05, 0.3)),
        reorder=dice.choice((0, 0.05, 0.5)),
        delay=dice.choice((0.0005, 0.02, 0.2)),
        jitter=dice.choice((0, 0.01, 0.1)),
        cut=dice.choice((0, 0, 0.05)),
    )
    up, down = dice.randbytes(dice.choice(sizes)), dice.randbytes(dice.choice(sizes))
    return Simulation(dice, faults, up, down), up, down
