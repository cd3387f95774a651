"""
The section C{socks5}, and the same at the top of a file that is nothing else.
"""

from __future__ import annotations

from proxyd.config import values
from proxyd.config.model import Listener
from proxyd.config.report import Report
from proxyd.config.routes import read_limits
from proxyd.config.section import Section
from proxyd.config.upstreams import ALONE
from proxyd.config.values import BadValue
from proxyd.config.ways import Account, Socks5, SocksTls

USUAL = Socks5((Listener("127.0.0.1:1080", "tcp", "127.0.0.1", 1080),))
"""What holds where nothing is said."""

FLAT = ("listen", "auth", *ALONE)
"""Keys at the top of a file that is a SOCKS5 configuration."""

_UNFIT = dict.fromkeys(("ssl", "tls", "haproxy", "stdio"), "name the port; for TLS, socks5.tls")


def read_socks(root: Section, flag: str | None, report: Report) -> Socks5 | None:
    """
    The SOCKS5 listener; None where nothing asks for it.

    @param flag: what C{--socks5-listen} said, which wins
    """
    flat = [name for name in FLAT if root.has(name)]
    if root.has("socks5"):
        for name in flat:
            root.wrong(name, "belongs to a SOCKS5 configuration without `socks5:`: move it there")
    if root.has("upstreams"):
        for name in (name for name in ALONE if root.has(name)):
            root.wrong(name, "belongs to a file without `upstreams:`: move it to one of them")
    section = root.section("socks5")
    if section is not None:
        found = _read_section(section)
    elif flat:
        found = Socks5(root.listeners("listen", _UNFIT) or USUAL.listen, _accounts(root))
    elif flag is not None:
        found = USUAL
    else:
        return None
    if flag is not None:
        try:
            listen = (values.fit(values.listener(flag, root.environment), _UNFIT),)
        except BadValue as error:
            report.wrong("--socks5-listen", str(error), file="")
            return found
        found = Socks5(
            listen,
            found.accounts,
            found.tls,
            found.bind,
            found.pac,
            found.auth_timeout,
            found.connect_timeout,
            found.max_clients,
        )
    _check_open(found, section or root)
    return found


def _read_section(section: Section) -> Socks5:
    found = Socks5(
        listen=section.listeners("listen", _UNFIT) or USUAL.listen,
        accounts=_accounts(section),
        tls=_tls(section),
        bind=section.flag("bind") or False,
        pac=section.flag("pac") or False,
        auth_timeout=section.duration("auth_timeout", USUAL.auth_timeout),
        connect_timeout=section.duration("connect_timeout", USUAL.connect_timeout),
        max_clients=section.count("max_clients", USUAL.max_clients, 1, 1_000_000),
    )
    section.close()
    return found


def _accounts(section: Section) -> tuple[Account, ...]:
    found: list[Account] = []
    sections = section.sections("auth")
    if sections == ():
        section.wrong("auth", "an empty list lets nobody in: leave it out for no login")
    for below in sections or ():
        user, password = below.value("user", _credential), below.secret("pass")
        limits = read_limits(below)
        for key in ("user", "pass"):
            if not below.has(key):
                below.wrong("", f"has no {key}: auth: {{user: NAME, pass: SECRET}}")
        below.close()
        if user is None or password is None:
            continue
        if any(user == other.user for other in found):
            below.wrong("user", f"{values.shown(user)} is named twice")
        found.append(Account(user, password, limits))
    return tuple(found)


def _credential(text: str) -> str:
    """RFC 1929: a name has from 1 to 255 bytes."""
    if len(text.encode("utf-8", "surrogateescape")) > 255:
        raise BadValue("has at most 255 bytes (RFC 1929)")
    return text


def _tls(section: Section) -> SocksTls | None:
    below = section.section("tls")
    if below is None:
        return None
    certificate, key = below.file("certificate"), below.file("key")
    for name in ("certificate", "key"):
        if not below.has(name):
            below.wrong("", f"has no {name}")
    below.close()
    return None if certificate is None or key is None else SocksTls(certificate, key)


def _check_open(socks: Socks5, section: Section) -> None:
    """Refuse a listener that lets everybody out, and warn of passwords in clear."""
    far = next((place for place in socks.listen if not values.is_local(place)), None)
    if far is None:
        return
    if not section.has("auth"):
        section.wrong(
            "listen",
            f"{values.shown(far.text)} may be reached from elsewhere, and anybody could go "
            "anywhere by it: say auth: {user: NAME, pass: SECRET}, or listen on 127.0.0.1",
        )
    elif socks.tls is None and not section.has("tls"):
        section.warn(
            "listen",
            f"{values.shown(far.text)} may be reached from elsewhere, and without tls "
            "passwords go there in clear",
        )
