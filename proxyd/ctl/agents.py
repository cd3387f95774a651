"""C{proxyctl agents}: machines of private networks that may dial in."""

from __future__ import annotations

import click

from proxyd.ctl.asking import Asking, asks, shown

_COLUMNS = {
    "id": "client_id",
    "since": "connected_since",
    "address": "address",
    "version": "version",
    "protocol": "protocol",
    "rtt ms": "round_trip_ms",
    "streams": "streams",
    "in": "bytes_in",
    "out": "bytes_out",
}


@click.group()
def agents() -> None:
    """Let reverse agents come, list and remove them."""


@agents.command("add")
@click.argument("client_id")
@asks
def add(asking: Asking, client_id: str) -> None:
    """Let the agent CLIENT_ID come; its token is shown this once."""
    made = asking.client.post("/api/agents", {"client_id": client_id})
    pin = made.get("pin", "")
    lines = [made["token"]]
    if pin:
        lines.append(f"the server's certificate, for --pin: {shown(pin)}")
    lines.append(f"agent {shown(client_id)} may come with this token; it is not shown again")
    asking.done(made, *lines)


@agents.command("list")
@asks
def list_them(asking: Asking) -> None:
    """List the agents that may come, and which are here."""
    value = asking.client.get("/api/agents")
    asking.table(value, _COLUMNS, value["agents"], "no agent may come")


@agents.command("remove")
@click.argument("client_id")
@asks
def remove(asking: Asking, client_id: str) -> None:
    """Forget the agent CLIENT_ID; if it is here, its connections end."""
    value = asking.client.delete("/api/agents", client_id)
    asking.done(value, f"agent {shown(client_id)} may not come any more")
