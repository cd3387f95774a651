"""
The texts of a configuration as values: durations, sizes, listeners, networks, paths.

Each function takes the text that stood in the configuration and gives the
value, or raises L{BadValue}, whose text says what is wrong and what would be
right. Where a text stood is the business of L{proxyd.config.section}.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Mapping, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from proxyd.config.model import Listener, Network

SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
"""The units of a duration, in seconds."""

SIZES = {
    "B": 1,
    "kB": 10**3,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
    "TiB": 2**40,
}
"""The units of a size, in bytes."""

LONGEST = 100 * 365 * 86400.0
"""No duration is longer, in seconds: a hundred years, so that no clock overflows."""

ENDPOINT_KINDS = frozenset({"tcp", "tcp6", "unix", "systemd", "ssl", "tls", "stdio", "haproxy"})
"""First words of a Twisted endpoint description, which therefore can't be host names here."""

SOCKET_PATH_LIMIT = 107
"""The bytes that the path of a UNIX socket may have (unix(7): C{sun_path})."""

_DURATION = re.compile(r"(?:[0-9]{1,12}(?:\.[0-9]{1,9})?(?:ms|s|m|h|d))+", re.ASCII)
_DURATION_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d)", re.ASCII)
_SIZE = re.compile(r"([0-9]{1,15})\s?([A-Za-z]+)", re.ASCII)
_LABEL = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?", re.ASCII)


class BadValue(ValueError):
    """A text is not the value that its key needs; the message says what is wrong with it."""


def duration(text: str) -> float:
    """
    Seconds from C{500ms}, C{30s}, C{14m}, C{1h}, C{730d} or several at once, C{1h30m}.

    @raise BadValue: there is no unit, an unknown one, or too long a time
    """
    if not _DURATION.fullmatch(text):
        if re.fullmatch(r"[0-9]+(\.[0-9]+)?", text, re.ASCII):
            raise BadValue(f"{shown(text)} has no unit: 30s, 14m, 1h and 730d are durations")
        raise BadValue(f"{shown(text)} is not a duration such as 30s, 14m, 1h or 730d")
    seconds = sum(float(number) * SECONDS[unit] for number, unit in _DURATION_PART.findall(text))
    if seconds > LONGEST:
        raise BadValue(f"{shown(text)} is more than a hundred years")
    return seconds


def size(text: str) -> int:
    """
    Bytes from C{512B}, C{64KiB}, C{10MB}.

    @raise BadValue: there is no unit or an unknown one
    """
    match = _SIZE.fullmatch(text)
    if match is None or match[2] not in SIZES:
        raise BadValue(f"{shown(text)} is not a size such as 512B, 64KiB or 10MB")
    return int(match[1]) * SIZES[match[2]]


def network(text: str) -> tuple[Network, bool]:
    """
    The network C{10.0.0.0/8}, or of one address, and whether host bits had to be masked.

    @raise BadValue: it is neither an address nor a CIDR block
    """
    try:
        found = ip_network(text, strict=False)
    except ValueError:
        raise BadValue(f"{shown(text)} is not an address or a CIDR block (10.0.0.0/8)") from None
    address, _, _ = text.partition("/")
    return found, ip_address(address) != found.network_address


def port(text: str, *, least: int = 1) -> int:
    """
    A TCP port from its decimal digits.

    @param least: 0 where "any free port" makes sense
    @raise BadValue: it is no number from C{least} to 65535
    """
    if not re.fullmatch(r"[0-9]{1,5}", text, re.ASCII) or not least <= int(text) <= 65535:
        raise BadValue(f"{shown(text)} is not a port ({least} to 65535)")
    return int(text)


def host(text: str) -> str:
    """
    A host name, or an IP address without brackets.

    @raise BadValue: it can be neither (RFC 1123, section 2.1; underscores are let pass)
    """
    if address_of(text) is not None:
        return text
    labels = text.removesuffix(".").split(".")
    if len(text) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        raise BadValue(f"{shown(text)} is not a host name or an IP address")
    if labels[-1].isdigit():
        raise BadValue(f"{shown(text)} is not an IP address")
    return text


def host_and_port(text: str, *, least: int = 1) -> tuple[str, int]:
    """
    The two parts of C{HOST:PORT} or C{[::1]:PORT}.

    @raise BadValue: one of them is missing or wrong
    """
    if text.startswith("["):
        name, bracket, rest = text[1:].partition("]")
        if not bracket or not rest.startswith(":") or ":" not in name or not address_of(name):
            raise BadValue(f"{shown(text)} is not [IPV6-ADDRESS]:PORT")
        return name, port(rest[1:], least=least)
    name, colon, digits = text.rpartition(":")
    if not colon:
        if re.fullmatch(r"[0-9]+", text, re.ASCII):
            raise BadValue(f"{shown(text)} names no address: write 127.0.0.1:{shown(text)}")
        raise BadValue(f"{shown(text)} names no port: HOST:PORT")
    if ":" in name:
        raise BadValue(f"{shown(text)}: an IPv6 address stands in brackets, [::1]:PORT")
    if name in ("", "*"):
        raise BadValue(
            f"{shown(text)} names no address: write 127.0.0.1:{shown(digits)}, "
            f"or 0.0.0.0:{shown(digits)} for every interface"
        )
    return host(name), port(digits, least=least)


def listener(text: str, environment: Mapping[str, str]) -> Listener:
    """
    A place to listen: C{HOST:PORT}, C{[::1]:PORT}, C{unix:PATH}, C{systemd:NAME} or
    any Twisted endpoint description. Port 0 is any free port.

    @param environment: where C{~} finds C{HOME}
    @raise BadValue: it is none of them
    """
    kind, colon, rest = text.partition(":")
    plain = bool(rest) and ":" not in rest and "=" not in rest
    if colon and kind == "unix" and plain:
        return Listener(text, "unix", path=_socket_path(expanded(rest, environment)))
    if colon and kind == "systemd" and plain:
        return Listener(text, "systemd", name=rest)
    if _is_endpoint(kind, rest):
        if not rest and kind != "stdio":
            raise BadValue(f"{shown(text)} ends after its first word")
        return Listener(text, "endpoint")
    name, number = host_and_port(text, least=0)
    return Listener(text, "tcp", host=name, port=number)


def fit(place: Listener, unfit: Mapping[str, str]) -> Listener:
    """
    A listener that a kind of client can use.

    @param unfit: the kinds of endpoints that it can't, and what to say instead
    @raise BadValue: it is one of those
    """
    kind = place.text.partition(":")[0]
    if place.kind == "endpoint" and kind in unfit:
        raise BadValue(f"{shown(place.text)}: {unfit[kind]}")
    return place


def is_local(place: Listener) -> bool:
    """Whether only this machine can reach a listener, as far as its text tells."""
    if place.kind == "unix":
        return True
    if place.kind != "tcp":
        return False
    address = address_of(place.host)
    return place.host == "localhost" or (address is not None and address.is_loopback)


def expanded(path: str, environment: Mapping[str, str]) -> str:
    """
    A path with a leading C{~} (C{HOME} of C{environment}) or C{~NAME} put in full.

    @raise BadValue: there is no such home, or the path is empty or holds a NUL
    """
    if not path or "\0" in path:
        raise BadValue("is not a path")
    if not path.startswith("~"):
        return path
    home = environment.get("HOME", "")
    if home and (path == "~" or path.startswith("~/")):
        return home.rstrip("/") + path[1:]
    full = os.path.expanduser(path)
    if full.startswith("~"):
        raise BadValue(f"{shown(path)}: whose home that is can't be found")
    return full


def one_of(text: str, words: Sequence[str]) -> str:
    """
    A text that must be one of a few words.

    @raise BadValue: it is none of them
    """
    if text in words:
        return text
    meant = difflib.get_close_matches(text, words, 1, 0.6)
    hint = f"; did you mean {meant[0]}?" if meant else ""
    raise BadValue(f"{shown(text)} is not one of {', '.join(words)}{hint}")


def sound(text: str) -> str:
    """
    A text that can be sent and stored: no NUL, no half of a surrogate pair.

    @raise BadValue: it holds one
    """
    if "\0" in text:
        raise BadValue("must not hold a NUL")
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise BadValue("must be UTF-8 text")
    return text


def address_of(text: str) -> IPv4Address | IPv6Address | None:
    """The IP address that a text is, or None."""
    try:
        return ip_address(text)
    except ValueError:
        return None


def shown(text: str) -> str:
    """A text as an error quotes it: in one line, printable, and not without end."""
    return "".join(c if c.isprintable() else "?" for c in text[:60]) + ("…" if text[60:] else "")


def _is_endpoint(kind: str, rest: str) -> bool:
    """Whether C{KIND:REST} is to be read as a Twisted endpoint, not as HOST:PORT."""
    if kind in ENDPOINT_KINDS:
        return True
    # A plug-in's endpoint (onion:80:hostname=...): no address has this shape.
    return bool(re.fullmatch(r"[a-z][a-z0-9_-]*", kind)) and "=" in rest


def _socket_path(path: str) -> str:
    if not path.startswith("/"):
        path = os.path.abspath(path)
    if len(os.fsencode(path)) > SOCKET_PATH_LIMIT:
        raise BadValue(f"the path of a socket has at most {SOCKET_PATH_LIMIT} bytes")
    return path
