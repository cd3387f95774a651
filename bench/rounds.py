"""
How two programs are compared fairly: interleaved rounds, and the median of their ratios.

The machine's speed drifts, so a ratio is only taken between two runs that
stand next to each other, and the order turns round at every round (A B, B A).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Result:
    """
    One line of the table.

    @param name: what was measured
    @param peer: whom proxyd was compared with
    @param ratio: above 1, proxyd is the better one
    @param ours: the median of proxyd's values
    @param theirs: the median of the peer's values
    @param unit: of both
    @param more: further figures, by the names they have in the results file
    """

    name: str
    peer: str
    ratio: float
    ours: float
    theirs: float
    unit: str
    more: Mapping[str, float | int | str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Runs(Generic[T]):
    """What was measured of each side, one entry a round, by the side's name."""

    samples: Mapping[str, list[T]]

    def pick(self, side: str, value: Callable[[T], float]) -> list[float]:
        """One figure of a side, one entry a round."""
        return [value(sample) for sample in self.samples[side]]

    def middle(self, side: str, value: Callable[[T], float]) -> float:
        """The median of one figure of a side."""
        return median(self.pick(side, value))


def interleave(
    sides: Sequence[str],
    measure: Callable[[str], T],
    rounds: int,
    is_late: Callable[[], bool],
) -> Runs[T]:
    """
    Measure each side once a round, in an order that turns round.

    @param measure: takes a side's name and measures it once
    @param rounds: how many rounds, at least one
    @param is_late: when true after a round, no further one begins
    """
    taken: dict[str, list[T]] = {side: [] for side in sides}
    for number in range(max(1, rounds)):
        order = sides if number % 2 == 0 else tuple(reversed(sides))
        for side in order:
            taken[side].append(measure(side))
        if is_late():
            break
    return Runs(taken)


def compare(
    name: str,
    unit: str,
    peer: str,
    ours: Sequence[float],
    theirs: Sequence[float],
    *,
    less_is_better: bool = False,
    more: Mapping[str, float | int | str] | None = None,
) -> Result:
    """
    The result of runs that were made in pairs.

    @param ours: proxyd's values, one a round
    @param theirs: the peer's values of the same rounds
    @param less_is_better: the values are a cost, so the ratio is turned over
    @raise ZeroDivisionError: a value that was divided by is nought
    """
    pairs = zip(ours, theirs, strict=True)
    ratios = [b / a if less_is_better else a / b for a, b in pairs]
    spread = {"rounds": len(ratios), "ratio_min": min(ratios), "ratio_max": max(ratios)}
    return Result(
        name,
        peer,
        median(ratios),
        median(ours),
        median(theirs),
        unit,
        {**spread, **(more or {})},
    )


def percentile(values: Sequence[float], share: float) -> float:
    """
    The value that a share of all lies at or below, by nearest rank.

    @param values: in any order, at least one
    @param share: between 0 and 1
    """
    ordered = sorted(values)
    rank = max(1, -(-len(ordered) * share // 1))
    return ordered[min(len(ordered), int(rank)) - 1]
