"""
Metrics for Prometheus: gathered when they are asked for, kept nowhere.

No label names a user, an address or a token: the number of series is bounded
by the configuration and the registered databases.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from prometheus_client import CollectorRegistry, GCCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from proxyd import __version__
from proxyd.figures import Figure

PREFIX = "proxyd_"
KIND = CONTENT_TYPE_LATEST

Family = CounterMetricFamily | GaugeMetricFamily


class Metrics(Collector):
    """
    All figures of the process, in Prometheus's text format.

    @param gather: gives the figures of every room
    """

    def __init__(self, gather: Callable[[], Iterable[Figure]]) -> None:
        self._gather = gather
        self._answers: dict[tuple[str, int], int] = {}
        self._registry = CollectorRegistry(auto_describe=False)
        ProcessCollector(registry=self._registry)
        GCCollector(registry=self._registry)
        self._registry.register(self)

    def counted(self, route: str, status: int) -> None:
        """
        A request to the API was answered.

        @param route: which call, by its key; empty: none that is known
        """
        key = (route, status)
        self._answers[key] = self._answers.get(key, 0) + 1

    def text(self) -> bytes:
        """The metrics as they are now."""
        return generate_latest(self._registry)

    def describe(self) -> Iterable[Family]:
        """Nothing is asked for when the collector is registered."""
        return []

    def collect(self) -> Iterator[Family]:
        """Each family, with all its figures together."""
        families: dict[str, Family] = {}
        for figure in (*self._own(), *self._gather()):
            family = families.get(figure.name)
            if family is None:
                kind = CounterMetricFamily if figure.only_grows else GaugeMetricFamily
                family = families[figure.name] = kind(
                    PREFIX + figure.name, figure.about, labels=list(figure.labels)
                )
            family.add_metric(list(figure.labels.values()), figure.value)
        return iter(families.values())

    def _own(self) -> Iterator[Figure]:
        about = "The version of proxyd that runs"
        yield Figure("build_info", about, 1, {"version": __version__})
        about = "Requests to the API that were answered"
        for (route, status), count in sorted(self._answers.items()):
            method, _, path = route.partition(" ")
            labels = {"method": method, "path": path, "status": str(status)}
            yield Figure("api_requests", about, count, labels, only_grows=True)
