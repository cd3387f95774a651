"""What proxyd tells of itself to programs: its metrics, and the description of its API."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from proxyd.web.answer import Answer
from proxyd.web.metrics import KIND, Metrics
from proxyd.web.route import Access, Call, Route


class Telling:
    """
    C{/metrics} and C{/openapi.json}.

    @param description: gives the API's description, of all routes
    """

    def __init__(self, metrics: Metrics, description: Callable[[], dict[str, Any]]) -> None:
        self._metrics = metrics
        self._description = description

    def routes(self) -> Sequence[Route]:
        """The calls that it answers."""
        return (
            Route(
                "GET",
                "/metrics",
                self.metrics,
                "Metrics in Prometheus's text format",
                {200: ("The metrics", None)},
                access=Access.METRICS,
                kind=KIND,
            ),
            Route(
                "GET",
                "/openapi.json",
                self.openapi,
                "This description",
                {200: ("OpenAPI 3.1", {"type": "object"})},
            ),
        )

    def metrics(self, call: Call) -> Answer:
        """The metrics, as they are now."""
        return Answer(value=self._metrics.text(), kind=KIND)

    def openapi(self, call: Call) -> Answer:
        """The description of every route there is."""
        return Answer(value=self._description())
