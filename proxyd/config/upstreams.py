"""
The section C{upstreams}, and the keys of a file that is one upstream.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Mapping

from proxyd.config import values
from proxyd.config.model import Connection
from proxyd.config.section import Section
from proxyd.config.values import BadValue
from proxyd.config.ways import Aws, Ssh, Upstream
from proxyd.rules.routes import DIRECT
from proxyd.target import Target

ALONE = ("ssh", "aws", "instances", "hosts")
"""The keys of a file that is one upstream: at its top, without C{upstreams}."""

THE_ONE = "default"
"""How the upstream of such a file is called."""

DENY = "deny"
"""The word for no way at all."""

_RESERVED = (DIRECT, DENY)
_INSTANCE = re.compile(r"[A-Za-z0-9][A-Za-z0-9:_./-]{0,200}", re.ASCII)
_AGENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9:_.@-]{0,127}", re.ASCII)
_SEED_LACKS = ("socks5", "postgres", "connections", "agents", "api", "tokens")


def read_upstreams(root: Section) -> dict[str, Upstream]:
    """
    Every upstream of the file, by name, in its order.

    In a file as the first proxies had it, with nothing in it but SOCKS5,
    C{start} is C{required} where it isn't said.
    """
    start = "lazy" if any(root.has(name) for name in _SEED_LACKS) else "required"
    if not root.has("upstreams"):
        if not any(root.has(name) for name in ALONE):
            return {}
        return {THE_ONE: _read(THE_ONE, root, start, alone=True)}
    section = root.section("upstreams")
    found: dict[str, Upstream] = {}
    sections: dict[str, Section] = {}
    for name in () if section is None else section.keys():
        assert section is not None
        below = section.section(name)
        if below is None:
            continue
        sections[name] = below
        _check_name(name, below)
        found[name] = _read(name, below, start, alone=False)
    for name, below in sections.items():
        _check_via(found[name], below, found)
    return found


def check_vias(
    root: Section, connections: Mapping[str, Connection], upstreams: Collection[str]
) -> None:
    """Tell of connections whose C{via} is no upstream."""
    section = root.section("connections")
    for name, connection in connections.items():
        below = None if section is None else section.section(name)
        if below is not None and connection.via is not None:
            check_known(below, "via", connection.via, upstreams)


def check_known(section: Section, key: str, name: str, upstreams: Collection[str]) -> bool:
    """Tell of a key that names no upstream, and which one may have been meant."""
    if name in upstreams:
        return True
    known = sorted(upstreams)
    meant = difflib.get_close_matches(name, known, 1, 0.6)
    hint = f"; did you mean {meant[0]}?" if meant else ""
    there = f" (there are: {', '.join(known)})" if known and not hint else ""
    section.wrong(key, f"{values.shown(name)} is not one of the upstreams{there}{hint}")
    return False


def _read(name: str, section: Section, start: str, *, alone: bool) -> Upstream:
    ssh, aws = _read_ssh(section), _read_aws(section)
    instances = section.each("instances", _instance) or ()
    port = 22 if ssh is None else ssh.port
    hosts = section.each("hosts", lambda text: _host(text, port)) or ()
    if alone:
        upstream = Upstream(name, ssh, aws, instances=instances, hosts=hosts, start=start)
        _check_kind(upstream, section, alone=True)
        return upstream
    via = section.text("via")
    upstream = Upstream(
        name,
        ssh,
        aws,
        agents=section.each("agent", _agent) or (),
        instances=instances,
        hosts=hosts,
        sessions=section.count("sessions", 1, 1, 64),
        start=section.word("start", ("required", "lazy"), start),
        resolve=section.word("resolve", ("remote", "local"), "remote"),
        via=None if via == DIRECT else via,
    )
    _check_kind(upstream, section, alone=False)
    section.close()
    return upstream


def _check_name(name: str, section: Section) -> None:
    if name in _RESERVED:
        section.wrong("", f"{name} has a meaning of its own: call this upstream something else")
    elif not name or any(c.isspace() or not c.isprintable() for c in name):
        section.wrong("", "the name of an upstream has no spaces and is not empty")


def _check_kind(upstream: Upstream, section: Section, *, alone: bool) -> None:
    """Tell of keys that contradict each other, or don't make a way out."""
    has = section.has
    if not alone and has("agent"):
        for key in ("ssh", "aws", "instances", "hosts", "sessions", "via"):
            if has(key):
                section.wrong(key, "an upstream with `agent` has no other way: leave one out")
        if section.each("agent", str) == ():
            section.wrong("agent", "names no agent")
        return
    hosts = has("hosts")
    if hosts and has("instances"):
        section.wrong("hosts", "instances are reached by SSM, hosts by SSH: two upstreams")
    elif hosts:
        if not has("ssh"):
            section.wrong("hosts", "are SSH servers: ssh: {user: …} is missing")
        if has("aws"):
            section.wrong("aws", "is for instances, not for hosts")
        if upstream.hosts == () and section.each("hosts", str) == ():
            section.wrong("hosts", "names no host")
    elif has("instances"):
        if not has("aws"):
            section.wrong("instances", "are reached by AWS: aws: {profile: …} is missing")
        if section.each("instances", str) == ():
            section.wrong("instances", "names no instance")
        if not alone and has("via"):
            section.wrong("via", "is for hosts: AWS is always reached directly")
    else:
        names = "neither instances nor hosts" + ("" if alone else " nor an agent")
        section.wrong("" if not alone else "ssh" if has("ssh") else "aws", f"names {names}")


def _check_via(upstream: Upstream, section: Section, all_: Mapping[str, Upstream]) -> None:
    if upstream.via is None or not check_known(section, "via", upstream.via, all_):
        return
    seen = [upstream.name]
    while (name := all_[seen[-1]].via) is not None and name in all_:
        if name in seen:
            if name == upstream.name:
                round_ = " → ".join([*seen, name])
                section.wrong("via", f"goes round in a circle: {round_}")
            return
        seen.append(name)


def _read_ssh(section: Section) -> Ssh | None:
    below = section.section("ssh")
    if below is None:
        return None
    ssh = Ssh(
        user=below.text("user"),
        key=below.file("key"),
        passphrase=below.secret("passphrase"),
        port=below.count("port", 22, 1, 65535),
        known_hosts=below.file("known_hosts"),
    )
    if below.has("passphrase") and not below.has("key"):
        below.wrong("passphrase", "is of a key file: key is missing")
    below.close()
    return ssh


def _read_aws(section: Section) -> Aws | None:
    below = section.section("aws")
    if below is None:
        return None
    aws = Aws(
        profile=below.text("profile"),
        region=below.text("region"),
        access_key=below.secret("access_key"),
        secret_key=below.secret("secret_key"),
        session_token=below.secret("session_token"),
        endpoint_url=below.value("endpoint_url", _url),
    )
    inline = [key for key in ("access_key", "secret_key", "session_token") if below.has(key)]
    if inline and below.has("profile"):
        below.wrong(inline[0], "and profile: credentials come from one of them, not both")
    elif inline:
        for key in ("access_key", "secret_key"):
            if not below.has(key):
                below.wrong(inline[0], f"goes together with {key}, which is missing")
        if not below.has("region"):
            below.wrong(inline[0], "region is missing: keys, unlike a profile, name none")
    elif not below.has("profile") and not below.has("region"):
        below.wrong("", "names neither a profile, nor a region with access_key and secret_key")
    below.close()
    return aws


def _instance(text: str) -> str:
    if not _INSTANCE.fullmatch(text):
        raise BadValue(f"{values.shown(text)} is not the id of an instance (i-0123456789abcdef0)")
    return text


def _agent(text: str) -> str:
    if not _AGENT.fullmatch(text):
        raise BadValue(f"{values.shown(text)} is not the id of an agent")
    return text


def _host(text: str, port: int) -> Target:
    """C{HOST}, C{HOST:PORT} or C{[::1]:PORT}."""
    if values.address_of(text) is not None or ":" not in text:
        return Target(values.host(text), port)
    return Target(*values.host_and_port(text))


def _url(text: str) -> str:
    if not re.fullmatch(r"https?://[^\s/?#@]+/?", text):
        raise BadValue(f"{values.shown(text)} is not a URL such as https://HOST")
    return text
