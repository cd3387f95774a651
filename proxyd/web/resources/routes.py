"""Which way a target goes, and why: C{/api/routes/explain}."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from dataclasses import asdict

from twisted.internet.defer import Deferred

from proxyd.dial.explain import Explanation, explain
from proxyd.dial.router import Router
from proxyd.target import Target
from proxyd.web.answer import Answer, ApiError
from proxyd.web.route import Call, Route
from proxyd.web.schema import closed, listed, or_null, said, text

EXPLANATION = closed(
    {
        "target": said("As it was asked for"),
        "user": said("For whom; empty for nobody in particular"),
        "addresses": listed(said("What the name stands for here")),
        "way": or_null(said("direct, or the upstream; null: it is refused")),
        "route": said("Which route says so; empty: none"),
        "dialled": listed(said("What would be dialled, judged; empty: the far side looks it up")),
        "why": said("The reason, in words"),
        "lines": listed(said("All of it, for people")),
    }
)


class RoutesResource:
    """C{/api/routes}."""

    def __init__(self, router: Router) -> None:
        self._router = router

    def routes(self) -> Sequence[Route]:
        """The calls that it answers."""
        return (
            Route(
                "GET",
                "/api/routes/explain",
                self.explain,
                "Which way a target would go, and why; nothing is dialled",
                {200: ("It", EXPLANATION)},
                errors=(422,),
                query={
                    "target": text("HOST:PORT"),
                    "user": text("Whose rules count"),
                },
            ),
        )

    def explain(self, call: Call) -> Awaitable[Answer]:
        """Explain one target."""
        target = target_of(call.query.get("target", ""))
        if target is None:
            raise ApiError(422, "target must be HOST:PORT or [IPV6]:PORT")
        explaining = explain(self._router, target, call.query.get("user", ""))
        answered: Deferred[Answer] = explaining.addCallback(_answer)
        return answered


def target_of(text: str) -> Target | None:
    """C{HOST:PORT} or C{[::1]:PORT}; None: it is neither."""
    host, colon, digits = text.rpartition(":")
    if not colon or not digits.isascii() or not digits.isdigit() or not host:
        return None
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        return None
    port = int(digits) if len(digits) < 6 else 0
    return Target(host, port) if 1 <= port <= 65535 else None


def _answer(found: Explanation) -> Answer:
    return Answer(value={**asdict(found), "lines": list(found.lines())})
