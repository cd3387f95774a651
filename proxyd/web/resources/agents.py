"""Reverse agents: who may come, and who is here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from proxyd.agents.registry import AgentRegistry, AgentStatus
from proxyd.config.agents import CLIENT_ID
from proxyd.web.answer import Answer
from proxyd.web.resources.times import TIME, shown_time
from proxyd.web.route import Call, Route
from proxyd.web.schema import closed, listed, number, or_null, said, text, whole

ID = text("An agent's id: letters, digits, : _ . @ -", most=128, pattern=f"^{CLIENT_ID.pattern}$")

AGENT = closed(
    {
        "client_id": said(),
        "connected_since": or_null(TIME),
        "address": said("Where it comes from; empty: it is not here"),
        "version": said(),
        "protocol": said("frames or json"),
        "round_trip_ms": number("0: not known"),
        "streams": whole("Connections through it now"),
        "bytes_in": whole("From it"),
        "bytes_out": whole("To it"),
    }
)

ADDED = closed(
    {
        "client_id": said(),
        "token": said("Shown this once"),
        "pin": said("For the agent's --pin: the server's certificate; empty: it has none"),
    }
)


class AgentsResource:
    """C{/api/agents}."""

    def __init__(self, agents: AgentRegistry, pin: Callable[[], str]) -> None:
        """@param pin: gives the hash of the listener's certificate; empty: it has none"""
        self._agents = agents
        self._pin = pin

    def routes(self) -> Sequence[Route]:
        """The calls that it answers."""
        return (
            Route(
                "POST",
                "/api/agents",
                self.add,
                "Let an agent come; its token is shown this once",
                {201: ("It may come", ADDED)},
                errors=(409, 503),
                body=closed({"client_id": ID}),
            ),
            Route(
                "GET",
                "/api/agents",
                self.list,
                "All agents, and which are here",
                {200: ("They", closed({"agents": listed(AGENT)}))},
            ),
            Route(
                "DELETE",
                "/api/agents/{client_id}",
                self.remove,
                "An agent may not come any more; if it is here, its connections end",
                {200: ("It is forgotten", closed({"client_id": said()}))},
                errors=(404, 503),
                names={"client_id": text(most=200)},
            ),
        )

    async def add(self, call: Call) -> Answer:
        """A new one."""
        client_id = call.body["client_id"]
        token = await self._agents.add(client_id)
        return Answer(201, {"client_id": client_id, "token": token, "pin": self._pin()})

    def list(self, call: Call) -> Answer:
        """All of them."""
        return Answer(value={"agents": [_row(one) for one in self._agents.status()]})

    async def remove(self, call: Call) -> Answer:
        """Away with one."""
        await self._agents.remove(call.path["client_id"])
        return Answer(value={"client_id": call.path["client_id"]})


def _row(one: AgentStatus) -> dict[str, Any]:
    return {
        "client_id": one.client_id,
        "connected_since": None if one.since is None else shown_time(one.since),
        "address": one.address,
        "version": one.version,
        "protocol": one.protocol,
        "round_trip_ms": round(one.round_trip * 1000, 3),
        "streams": one.streams,
        "bytes_in": one.received,
        "bytes_out": one.sent,
    }
