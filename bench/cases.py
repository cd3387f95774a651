"""
The names that can be measured, and how each is.

Names that come of the same runs share a case, so that they are measured once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from bench import agent_streams, agents, ssh, ssm, tokens
from bench.idle import idle_memory
from bench.load import Copied, Queries, connect, copy_in, copy_out, select
from bench.rounds import Result, Runs, compare, interleave
from bench.scene import Scene
from bench.sides import DIRECT, PGBOUNCER, PROXYD, Login, Side, opened_sides
from bench.socks import bulk, connects, socks_case

CONNECT_CLIENTS = 8
CONNECT_SECONDS = 2
MANY_CLIENTS = 32
WARM_UP_SECONDS = 1
# A COPY is short and its time varies, so that it takes more of them.
COPY_ROUNDS = 2

T = TypeVar("T")
Figures = dict[str, float | int | str]


@dataclass(frozen=True, slots=True)
class Case:
    """
    Some names and what measures them.

    @param names: the names whose results it gives
    @param run: measures them; a peer that is missing has no result
    """

    names: tuple[str, ...]
    run: Callable[[Scene], list[Result]]


def _queries(
    name: str,
    measure: Callable[[Scene, Side], Queries],
    scene: Scene,
    *,
    login: Login = Login.TRUST,
    tls: bool = False,
    cpu_name: str | None = None,
) -> list[Result]:
    """
    Transactions (or connections) a second, against each peer.

    @param cpu_name: give a second result of this name, for the CPU that each of them costs
    """
    with opened_sides(scene, login, tls=tls) as sides:
        # The first run opens the pools and fills the caches; it is not counted.
        for side in sides.values():
            select(scene, side, clients=MANY_CLIENTS, seconds=WARM_UP_SECONDS)
        runs = _interleaved(scene, sides, measure, scene.settings.rounds)
    results = []
    for peer in _peers(sides):
        figures = {
            f"{key}_{whose}": round(runs.middle(side, value), 3)
            for key, value in QUERY_FIGURES.items()
            for whose, side in (("ours", PROXYD), ("theirs", peer))
        }
        shown: Figures = {key: figure for key, figure in figures.items() if figure}
        results.append(_compared(name, "per s", peer, runs, lambda run: run.rate, sides, shown))
    if cpu_name is not None and PGBOUNCER in sides:
        ours, theirs = (runs.pick(side, lambda run: run.cpu_us) for side in (PROXYD, PGBOUNCER))
        named = _named(sides[PGBOUNCER])
        results.append(
            compare(cpu_name, "us", PGBOUNCER, ours, theirs, less_is_better=True, more=named)
        )
    return results


QUERY_FIGURES: Mapping[str, Callable[[Queries], float]] = {
    "cpu_us": lambda run: run.cpu_us,
    "p50_ms": lambda run: run.p50_ms,
    "p99_ms": lambda run: run.p99_ms,
}


def _copies(name: str, measure: Callable[[Scene, Side], Copied], scene: Scene) -> list[Result]:
    """Megabytes a second of one COPY, against each peer."""
    with opened_sides(scene, Login.TRUST) as sides:
        for side in sides.values():
            measure(scene, side)
        runs = _interleaved(scene, sides, measure, scene.settings.rounds * COPY_ROUNDS)
    results = []
    for peer in _peers(sides):
        figures: Figures = {"cpu_s_per_gb_ours": runs.middle(PROXYD, lambda run: run.cpu_per_gb)}
        if peer != DIRECT:
            figures["cpu_s_per_gb_theirs"] = runs.middle(peer, lambda run: run.cpu_per_gb)
        results.append(_compared(name, "MB/s", peer, runs, lambda run: run.rate, sides, figures))
    return results


def _idle(name: str, scene: Scene, *, tls: bool = False) -> list[Result]:
    """
    Resident bytes for each idle client, at the largest count; the others stand beside.

    One round: the figure is a difference of two sizes, not a time, and each
    side needs a fresh program for it.
    """
    counts = scene.settings.idle_counts
    with opened_sides(scene, Login.TRUST, tls=tls, direct=False) as sides:
        if PGBOUNCER not in sides:
            return []
        ours, theirs = (idle_memory(sides[side], counts) for side in (PROXYD, PGBOUNCER))
        named = _named(sides[PGBOUNCER])
    more: Figures = {"clients": counts[-1], "base_ours": ours.base, "base_theirs": theirs.base}
    for count, mine, its in zip(counts, ours.per_client, theirs.per_client, strict=True):
        more |= {f"ours_at_{count}": round(mine), f"theirs_at_{count}": round(its)}
        # A growth of nought or less can't be divided by: there is no ratio then.
        if mine > 0 and its > 0:
            more[f"ratio_at_{count}"] = round(its / mine, 3)
    last_ours, last_theirs = max(1.0, ours.per_client[-1]), max(1.0, theirs.per_client[-1])
    return [
        compare(
            name,
            "bytes",
            PGBOUNCER,
            [last_ours],
            [last_theirs],
            less_is_better=True,
            more=more | named,
        )
    ]


def _interleaved(
    scene: Scene, sides: Mapping[str, Side], measure: Callable[[Scene, Side], T], rounds: int
) -> Runs[T]:
    """Measure all sides in rounds."""
    return interleave(tuple(sides), lambda name: measure(scene, sides[name]), rounds, scene.is_late)


def _compared(
    name: str,
    unit: str,
    peer: str,
    runs: Runs[T],
    value: Callable[[T], float],
    sides: Mapping[str, Side],
    figures: Figures,
) -> Result:
    """The result of one figure against one peer; more is better."""
    ours, theirs = runs.pick(PROXYD, value), runs.pick(peer, value)
    return compare(name, unit, peer, ours, theirs, more=figures | _named(sides[peer]))


def _peers(sides: Mapping[str, Side]) -> list[str]:
    """Whom proxyd is compared with."""
    return [name for name in (PGBOUNCER, DIRECT) if name in sides]


def _named(side: Side) -> Figures:
    """Which peer it was, exactly."""
    return {"peer_version": side.version} if side.version else {}


def _select(scene: Scene, side: Side, *, clients: int, protocol: str = "simple") -> Queries:
    return select(scene, side, clients=clients, protocol=protocol)


def _connect(scene: Scene, side: Side) -> Queries:
    seconds = min(CONNECT_SECONDS, scene.settings.seconds)
    return connect(scene, side, clients=CONNECT_CLIENTS, seconds=seconds)


def _socks_connect(scene: Scene) -> list[Result]:
    seconds = min(CONNECT_SECONDS, scene.settings.seconds)
    return socks_case("socks.connect", "per s", connects(seconds))(scene)


_ONE = partial(_select, clients=1)
_MANY = partial(_select, clients=MANY_CLIENTS)
_PREPARED = partial(_select, clients=MANY_CLIENTS, protocol="prepared")

CASES: tuple[Case, ...] = (
    Case(("pg.simple.c1",), partial(_queries, "pg.simple.c1", _ONE)),
    Case(
        ("pg.simple.c32", "pg.cpu_per_query"),
        partial(_queries, "pg.simple.c32", _MANY, cpu_name="pg.cpu_per_query"),
    ),
    Case(("pg.prepared.c32",), partial(_queries, "pg.prepared.c32", _PREPARED)),
    Case(("pg.tls.simple.c32",), partial(_queries, "pg.tls.simple.c32", _MANY, tls=True)),
    Case(("pg.copy_out",), partial(_copies, "pg.copy_out", copy_out)),
    Case(("pg.copy_in",), partial(_copies, "pg.copy_in", copy_in)),
    Case(("pg.connect",), partial(_queries, "pg.connect", _connect)),
    Case(
        ("pg.connect_backend",),
        partial(_queries, "pg.connect_backend", _connect, login=Login.PASSWORD),
    ),
    Case(("pg.token_connect",), tokens.token_connect),
    Case(("socks.connect",), lambda scene: _socks_connect(scene)),
    Case(("socks.bulk",), socks_case("socks.bulk", "MB/s", bulk)),
    Case(("pg.idle_memory",), partial(_idle, "pg.idle_memory")),
    Case(("pg.idle_memory.tls",), partial(_idle, "pg.idle_memory.tls", tls=True)),
    Case(("ssh.bulk", "ssh.bulk_up"), ssh.bulk),
    Case(("agent.bulk", "agent.bulk_8"), agents.bulk),
    Case(("agent.bulk.tls",), agents.bulk_tls),
    Case(("agent.rtt",), agents.round_trip),
    Case(("agent.streams", "agent.streams.memory"), agent_streams.streams),
    Case(("ssm.down", "ssm.up"), ssm.bulk),
)


def all_names() -> tuple[str, ...]:
    """Every name, in the order of the table."""
    return tuple(name for case in CASES for name in case.names)


def cases_for(names: Iterable[str]) -> list[Case]:
    """The cases that give these names, in the order of the table."""
    wanted = set(names)
    return [case for case in CASES if wanted.intersection(case.names)]
