"""The examination of all connections while they serve."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from proxyd.target import Finding
from proxyd.web.answer import Answer
from proxyd.web.route import Call, Route
from proxyd.web.schema import closed, flag, listed, or_null, said, text

FINDING = closed(
    {
        "connection": said(),
        "check": said("What was looked at"),
        "good": or_null(flag("null: it could not be looked at, or it is too early")),
        "what": said("What was found"),
        "remedy": said("What to do; empty: nothing"),
    }
)

REPORT = closed(
    {
        "good": flag("Nothing is wrong"),
        "findings": listed(FINDING),
    }
)

Examine = Callable[[str | None], Awaitable[Sequence[tuple[str, Finding]]]]
"""Examines one connection, or all; gives each finding with its connection's name."""


class DoctorResource:
    """C{/api/doctor}."""

    def __init__(self, examine: Examine) -> None:
        self._examine = examine

    def routes(self) -> Sequence[Route]:
        """The calls that it answers."""
        return (
            Route(
                "POST",
                "/api/doctor",
                self.examine,
                "Examine the connections: credentials, logins, lifetimes, grants, clock",
                {200: ("What was found", REPORT)},
                body=closed({}, {"connection": text("Only this one", most=200)}),
                optional_body=True,
            ),
        )

    async def examine(self, call: Call) -> Answer:
        """Look at everything, in the order of a login."""
        found = await self._examine(call.body.get("connection"))
        return Answer(
            value={
                "good": all(finding.good is not False for _, finding in found),
                "findings": [_row(name, finding) for name, finding in found],
            }
        )


def _row(name: str, finding: Finding) -> dict[str, Any]:
    return {
        "connection": name,
        "check": finding.check,
        "good": finding.good,
        "what": finding.what,
        "remedy": finding.remedy,
    }
