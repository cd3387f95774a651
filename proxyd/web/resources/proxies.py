"""Reverse ports: made, looked at and closed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from proxyd.agents.ports import Port
from proxyd.agents.proxies import Proxies
from proxyd.config import values
from proxyd.config.agents_model import ReversePort
from proxyd.config.values import BadValue
from proxyd.web.answer import Answer, invalid
from proxyd.web.resources.agents import ID
from proxyd.web.route import Call, Route
from proxyd.web.schema import Wrong, closed, flag, listed, or_null, said, text, whole

_PORT = whole(least=1, most=65535)

_DURATION = {
    "description": "Seconds, or a text such as 30m",
    "anyOf": [
        {**whole(least=1), "title": "seconds"},
        {**text(most=40), "title": "a text such as 30m"},
    ],
}

CREATE = closed(
    {
        "client_id": {
            "description": "The agent, or several: the least loaded is used",
            "anyOf": [
                {**ID, "title": "an agent's id"},
                {
                    "type": "array",
                    "items": ID,
                    "minItems": 1,
                    "maxItems": 100,
                    "title": "a list of agents' ids",
                },
            ],
        },
        "remote_host": text("Where it leads, as the agent knows it", most=255),
        "remote_port": _PORT,
        "local_port": _PORT,
    },
    {
        "protocol": {"type": "string", "enum": ["tcp"]},
        "bind": text("The address to listen at; 127.0.0.1 if absent", most=255),
        "allow": {
            "type": "array",
            "items": text(most=60),
            "maxItems": 1000,
            "description": "Networks that users may come from",
        },
        "bandwidth": whole("Bytes a second, each way", least=1),
        "max_connections": whole(least=1, most=1_000_000),
        "idle_timeout": _DURATION,
        "proxy_protocol": {"type": "string", "enum": ["v1", "v2"]},
        "pool": whole("Connections made ahead", most=1000),
        "compress": flag("Compress where it pays"),
    },
)

PROXY = closed(
    {
        "proxy_id": said(),
        "connected": flag("Whether one of its agents is here"),
        "client_id": listed(said()),
        "remote_host": said(),
        "remote_port": _PORT,
        "local_port": _PORT,
        "bind": said(),
        "protocol": said(),
        "allow": or_null(listed(said())),
        "bandwidth": or_null(whole()),
        "max_connections": or_null(whole()),
        "idle_timeout": {"type": ["number", "null"], "description": "Seconds"},
        "proxy_protocol": or_null(said()),
        "pool": whole(),
        "compress": flag(),
        "bytes_in": whole("From users"),
        "bytes_out": whole("To users"),
        "users": whole("Now"),
        "users_total": whole("Since it is open"),
        "errors": {
            "type": "object",
            "additionalProperties": whole(),
            "description": "By kind: how often",
        },
    }
)


class ProxiesResource:
    """C{/api/proxy}."""

    def __init__(self, proxies: Proxies) -> None:
        self._proxies = proxies

    def routes(self) -> Sequence[Route]:
        """The calls that it answers."""
        names = {"proxy_id": text(most=200)}
        return (
            Route(
                "POST",
                "/api/proxy/create",
                self.create,
                "Open a local port that leads to a host behind an agent",
                {201: ("It is open", PROXY)},
                errors=(404, 409, 503),
                body=CREATE,
            ),
            Route(
                "GET",
                "/api/proxy/list",
                self.list,
                "All reverse ports",
                {200: ("They", closed({"proxies": listed(PROXY)}))},
            ),
            Route(
                "GET",
                "/api/proxy/{proxy_id}",
                self.show,
                "One reverse port",
                {200: ("It", PROXY)},
                errors=(404,),
                names=names,
            ),
            Route(
                "DELETE",
                "/api/proxy/{proxy_id}",
                self.remove,
                "Close a reverse port for ever, and end its users",
                {200: ("It is closed", PROXY)},
                errors=(404, 503),
                names=names,
            ),
        )

    async def create(self, call: Call) -> Answer:
        """A new one."""
        port = await self._proxies.create(_wanted(call.body))
        return Answer(201, _row(port))

    def list(self, call: Call) -> Answer:
        """All of them."""
        return Answer(value={"proxies": [_row(port) for port in self._proxies]})

    def show(self, call: Call) -> Answer:
        """One of them."""
        return Answer(value=_row(self._proxies.find(call.path["proxy_id"])))

    async def remove(self, call: Call) -> Answer:
        """Away with one."""
        return Answer(value=_row(await self._proxies.remove(call.path["proxy_id"])))


def _wanted(body: Any) -> ReversePort:
    """
    What the body asks for.

    @raise ApiError: 422, with everything that is wrong
    """
    ids = body["client_id"]
    usual = ReversePort((), "", 1, 1)
    problems: list[Wrong] = []

    def checked(where: str, parse: Any, given: Any) -> Any:
        try:
            return parse(given)
        except BadValue as error:
            problems.append(Wrong(where, str(error)))
            return None

    idle = body.get("idle_timeout")
    allow = body.get("allow")
    wanted = ReversePort(
        client_ids=(ids,) if isinstance(ids, str) else tuple(dict.fromkeys(ids)),
        remote_host=checked("remote_host", values.host, body["remote_host"]) or "",
        remote_port=body["remote_port"],
        local_port=body["local_port"],
        bind=checked("bind", values.host, body.get("bind", usual.bind)) or "",
        allow=None
        if allow is None
        else tuple(
            checked(f"allow[{place}]", lambda text: values.network(text)[0], one)
            for place, one in enumerate(allow)
        ),
        bandwidth=body.get("bandwidth"),
        max_connections=body.get("max_connections"),
        idle_timeout=checked("idle_timeout", values.duration, idle)
        if isinstance(idle, str)
        else idle,
        proxy_protocol=body.get("proxy_protocol"),
        pool=body.get("pool", 0),
        compress=body.get("compress", False),
    )
    if problems:
        raise invalid(problems)
    return wanted


def _row(port: Port) -> dict[str, Any]:
    settings = port.settings
    return {
        "proxy_id": port.proxy_id,
        "connected": port.connected,
        "client_id": list(settings.client_ids),
        "remote_host": settings.remote_host,
        "remote_port": settings.remote_port,
        "local_port": settings.local_port,
        "bind": settings.bind,
        "protocol": settings.protocol,
        "allow": None if settings.allow is None else [str(one) for one in settings.allow],
        "bandwidth": settings.bandwidth,
        "max_connections": settings.max_connections,
        "idle_timeout": settings.idle_timeout,
        "proxy_protocol": settings.proxy_protocol,
        "pool": settings.pool,
        "compress": settings.compress,
        "bytes_in": port.received,
        "bytes_out": port.sent,
        "users": len(port.users),
        "users_total": port.total,
        "errors": dict(port.errors),
    }
