"""
How results are told: a table for people, a file for programs.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from bench.rounds import Result

FILE_WIDTH = 170
BESIDE = (
    ("cpu_us", "cpu us", "{:.1f}"),
    ("p50_ms", "p50 ms", "{:.2f}"),
    ("p99_ms", "p99 ms", "{:.2f}"),
    ("cpu_s_per_gb", "cpu s/GB", "{:.2f}"),
    ("streams", "open", "{}"),
    ("server_kb", "server kB", "{:.1f}"),
    ("agent_kb", "agent kB", "{:.1f}"),
)


def table_of(results: Sequence[Result], ours: str) -> Table:
    """
    The results as a table; where two figures stand together, ours is the first.

    @param ours: the program that is compared with its peers
    """
    table = Table(title=f"{ours} against its peers: ratio above 1 = {ours} is better")
    for heading in ("name", "peer", "ratio", "spread", "ours", "theirs", "unit", "beside"):
        right = heading in ("ratio", "ours", "theirs")
        table.add_column(heading, justify="right" if right else "left", no_wrap=heading != "beside")
    for result in results:
        low, high = result.more.get("ratio_min", ""), result.more.get("ratio_max", "")
        words = (
            result.name,
            f"{result.peer} {result.more.get('peer_version', '')}".strip(),
            f"{result.ratio:.2f}",
            f"{low:.2f}-{high:.2f}" if isinstance(low, float) and isinstance(high, float) else "",
            _figure(result.ours),
            _figure(result.theirs),
            result.unit,
            _beside(result),
        )
        table.add_row(*(Text(word) for word in words))
    return table


def _figure(value: float) -> str:
    """A number with about four digits that count."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _beside(result: Result) -> str:
    """What else was measured in the same runs, in a few words."""
    more = result.more
    parts = []
    for key, words, form in BESIDE:
        pair = [more[name] for name in (f"{key}_ours", f"{key}_theirs") if name in more]
        if pair:
            parts.append(f"{words} " + " : ".join(form.format(figure) for figure in pair))
    for key, figure in more.items():
        if key.startswith("ours_at_"):
            count = key.removeprefix("ours_at_")
            parts.append(f"at {count} {figure} : {more[f'theirs_at_{count}']}")
    return ", ".join(parts)


def write_results(results: Sequence[Result], path: Path) -> None:
    """
    Write the results as JSON: a list of objects.

    Each has C{name}, C{peer}, C{ratio}, C{ours}, C{theirs}, C{unit}, and
    beside them whatever else was measured.
    """
    rows = [
        {
            "name": result.name,
            "peer": result.peer,
            "ratio": _short(result.ratio),
            "ours": _short(result.ours),
            "theirs": _short(result.theirs),
            "unit": result.unit,
            **{
                key: _short(figure) if isinstance(figure, float) else figure
                for key, figure in result.more.items()
            },
        }
        for result in results
    ]
    path.write_text(json.dumps(rows, indent=1, allow_nan=False) + "\n")


def _short(value: float) -> float:
    """The number without digits that mean nothing: five that count."""
    if value == 0:
        return value
    return round(value, 4 - math.floor(math.log10(abs(value))))


def console() -> Console:
    """Where all is told: standard output, with no meaning given to brackets in a text."""
    width = None if sys.stdout.isatty() else FILE_WIDTH
    return Console(markup=False, highlight=False, width=width)
