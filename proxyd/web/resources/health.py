"""Whether proxyd lives, and whether it can be sent clients: for balancers and service managers."""

from __future__ import annotations

from collections.abc import Sequence

from proxyd.web.answer import Answer, ApiError
from proxyd.web.operations import Operations
from proxyd.web.route import Access, Call, Route
from proxyd.web.schema import closed, said

_SCHEMA = closed({"status": said("ok, or ready")})


class Health:
    """C{/healthz} and C{/readyz}."""

    def __init__(self, operations: Operations) -> None:
        self._operations = operations

    def routes(self) -> Sequence[Route]:
        """The calls that it answers."""
        return (
            Route(
                "GET",
                "/healthz",
                self.live,
                "Whether proxyd lives",
                {200: ("It does", _SCHEMA)},
                access=Access.FREE,
            ),
            Route(
                "GET",
                "/readyz",
                self.ready,
                "Whether proxyd takes clients",
                {200: ("It does", _SCHEMA)},
                access=Access.FREE,
            ),
        )

    def live(self, call: Call) -> Answer:
        """It answers, so it lives."""
        return Answer(value={"status": "ok"})

    def ready(self, call: Call) -> Answer:
        """503 while it starts or drains."""
        state = self._operations.state
        if state != "ready":
            raise ApiError(503, f"proxyd is {state}", state)
        return Answer(value={"status": "ready"})
