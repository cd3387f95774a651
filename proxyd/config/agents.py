"""
The section C{agents}: where agents come to, and the ports that lead through them.
"""

from __future__ import annotations

import re

from proxyd.config import values
from proxyd.config.agents_model import Agents, AgentTls, ReversePort
from proxyd.config.section import Section
from proxyd.config.values import BadValue

CLIENT_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9:_.@-]{0,127}", re.ASCII)
"""What an agent may be called."""

USUAL_PLACE = "127.0.0.1:8443"
"""Where agents come to when the section does not say it."""


def read_agents(root: Section) -> Agents | None:
    """The section C{agents}; None where it is absent: then no agent can come."""
    section = root.section("agents")
    if section is None:
        return None
    usual = Agents()
    listen = section.listeners("listen") or ()
    if not section.has("listen"):
        listen = (values.listener(USUAL_PLACE, section.environment),)
    for place in listen:
        kind = place.text.partition(":")[0]
        if place.kind == "endpoint" and kind in ("ssl", "tls", "haproxy", "stdio"):
            section.wrong("listen", f"{values.shown(place.text)}: name the port, and agents.tls")
    tls = _read_tls(section)
    for place in listen:
        if tls.mode == "disable" and not values.is_local(place):
            section.warn(
                "tls",
                f"is disabled: whoever listens in on {values.shown(place.text)} gets the agents' "
                "tokens",
            )
    ports = section.value("ports", port_range) or usual.ports
    proxies = [
        read
        for below in (section.sections("proxies") or ())
        if (read := _read_proxy(below)) is not None
    ]
    taken: set[tuple[str, int]] = set()
    for proxy in proxies:
        if (proxy.bind, proxy.local_port) in taken:
            section.wrong("proxies", f"{proxy.bind}:{proxy.local_port} stands there twice")
        taken.add((proxy.bind, proxy.local_port))
    found = Agents(
        listen=listen,
        tls=tls,
        ports=ports,
        grace=section.duration("grace", usual.grace),
        proxies=tuple(proxies),
    )
    section.close()
    return found


def client_id(text: str) -> str:
    """
    An agent's name.

    @raise BadValue: it can't be one
    """
    if CLIENT_ID.fullmatch(text) is None:
        raise BadValue(f"{values.shown(text)} can't be an agent's id: letters, digits, : _ . @ -")
    return text


def port_range(text: str) -> tuple[int, int]:
    """
    C{LOW-HIGH}, or one port.

    @raise BadValue: it is none
    """
    low, dash, high = text.partition("-")
    first = values.port(low.strip())
    last = values.port(high.strip()) if dash else first
    if last < first:
        raise BadValue(f"{values.shown(text)} ends before it begins")
    return first, last


def _read_tls(agents: Section) -> AgentTls:
    section = agents.section("tls")
    if section is None:
        return AgentTls()
    mode = section.word("mode", ("disable", "require"), "require")
    certificate, key = section.file("certificate"), section.file("key")
    section.close()
    if mode == "disable" and (certificate or key):
        section.wrong("mode", "disable contradicts the certificate beside it")
    elif section.has("certificate") != section.has("key"):
        section.wrong("", "certificate and key go together")
    return AgentTls(mode, certificate, key)


def _read_proxy(section: Section) -> ReversePort | None:
    ids = section.each("client_id", client_id)
    host, remote = (
        section.value("remote_host", values.host),
        section.count("remote_port", 0, 1, 65535),
    )
    local = section.count("local_port", 0, 1, 65535)
    usual = ReversePort((), "", 0, 0)
    for name in ("client_id", "remote_host", "remote_port", "local_port"):
        if not section.has(name):
            section.wrong(name, "is missing")
    read = ReversePort(
        ids or (),
        host or "",
        remote,
        local,
        bind=section.value("bind", values.host) or usual.bind,
        protocol=section.word("protocol", ("tcp",), usual.protocol),
        allow=section.networks("allow"),
        bandwidth=section.size("bandwidth"),
        max_connections=_positive(section, "max_connections"),
        idle_timeout=section.duration("idle_timeout", 0.0) or None,
        proxy_protocol=section.word("proxy_protocol", ("", "v1", "v2"), "") or None,
        pool=section.count("pool", 0, 0, 1000),
        compress=section.flag("compress") or False,
    )
    section.close()
    return read if ids and host and remote and local else None


def _positive(section: Section, name: str) -> int | None:
    return section.count(name, 1, 1, 1_000_000) if section.has(name) else None
