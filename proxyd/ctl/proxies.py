"""C{proxyctl proxies}: local ports that lead to hosts behind agents."""

from __future__ import annotations

from typing import Any

import click

from proxyd.config.values import BadValue, host_and_port, size
from proxyd.ctl.asking import Asking, asks, shown

_COLUMNS = {
    "id": "proxy_id",
    "bind": "bind",
    "port": "local_port",
    "agents": "client_id",
    "host": "remote_host",
    "remote": "remote_port",
    "up": "connected",
    "users": "users",
    "total": "users_total",
    "in": "bytes_in",
    "out": "bytes_out",
}


@click.group()
def proxies() -> None:
    """Open reverse ports, list and close them."""


@proxies.command("create")
@click.argument("client_ids", metavar="CLIENT_ID[,...]")
@click.argument("remote", metavar="HOST:PORT")
@click.argument("local_port", type=click.IntRange(1, 65535))
@click.option("--bind", metavar="ADDRESS", help="Where to listen; 127.0.0.1.")
@click.option("--allow", metavar="CIDR", multiple=True, help="Where users may come from.")
@click.option("--bandwidth", metavar="SIZE", help="Bytes a second, each way: 10MB.")
@click.option("--max-connections", type=click.IntRange(min=1), help="Users at a time.")
@click.option("--idle-timeout", metavar="DURATION", help="Close users who are silent: 30m.")
@click.option("--proxy-protocol", type=click.Choice(["v1", "v2"]), help="Tell the target who.")
@click.option("--pool", type=click.IntRange(min=0), help="Connections made ahead.")
@click.option("--compress", is_flag=True, help="Compress where it pays.")
@asks
def create(asking: Asking, client_ids: str, remote: str, local_port: int, **options: Any) -> None:
    """Open LOCAL_PORT, which leads to HOST:PORT behind the agent CLIENT_ID (or several)."""
    try:
        host, port = host_and_port(remote)
        if options["bandwidth"] is not None:
            options["bandwidth"] = size(options["bandwidth"])
    except BadValue as error:
        raise click.UsageError(str(error)) from None
    ids = client_ids.split(",")
    body: dict[str, Any] = {
        "client_id": ids[0] if len(ids) == 1 else ids,
        "remote_host": host,
        "remote_port": port,
        "local_port": local_port,
    }
    options["allow"] = list(options["allow"])
    body.update({name: value for name, value in options.items() if value})
    made = asking.client.post("/api/proxy/create", body)
    here = "" if made["connected"] else "; no agent of it is here yet"
    asking.done(
        made,
        f"proxy {shown(made['proxy_id'])}: {shown(made['bind'])}:{made['local_port']} leads to "
        f"{shown(made['remote_host'])}:{made['remote_port']}{here}",
    )


@proxies.command("list")
@asks
def list_them(asking: Asking) -> None:
    """List the reverse ports."""
    value = asking.client.get("/api/proxy/list")
    rows = [{**row, "client_id": ", ".join(row["client_id"])} for row in value["proxies"]]
    asking.table(value, _COLUMNS, rows, "no port is open")


@proxies.command("close")
@click.argument("proxy_id")
@asks
def close(asking: Asking, proxy_id: str) -> None:
    """Close the port PROXY_ID for ever, and end its users."""
    value = asking.client.delete("/api/proxy", proxy_id)
    asking.done(value, f"proxy {shown(proxy_id)} is closed")
