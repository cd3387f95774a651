"""
libpq connection strings: C{postgresql://} URIs and C{key=value} lists.

Source: PostgreSQL documentation, "Connection Strings"; where that is silent,
the order of libpq's own parser (C{conninfo_uri_parse_options},
C{conninfo_parse} in C{fe-connect.c}). No error quotes the string, since a
password may stand anywhere in it.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from proxyd.config import values
from proxyd.config.dsn_words import (
    ALL_WORDS,
    NOT_READ,
    PLACE_WORDS,
    READ,
    WITHOUT_EFFECT,
    check_together,
)
from proxyd.config.model import Dsn
from proxyd.config.values import BadValue
from proxyd.target import Target

DEFAULT_PORT = 5432
SCHEMES = ("postgresql://", "postgres://")

_ESCAPES = " (in a URI's user and password, / @ : and % are written %2F %40 %3A and %25)"
_WORD = re.compile(
    r"""\s*([^\s=]+)\s*=\s*
    (   '(?:[^'\\]|\\.)*'                       # in quotes
    |   (?:[^\s'\\]|\\.)(?:[^\s\\]|\\.)*        # up to a space
    |   )                                       # nothing, at the end
    """,
    re.VERBOSE | re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class ParsedDsn:
    """
    What a connection string said.

    @param dsn: all that may be shown
    @param password: its password, decoded; None: it has none
    @param connect_timeout: seconds; None: not said
    """

    dsn: Dsn
    password: str | None = field(default=None, repr=False)
    connect_timeout: float | None = None


def parse_dsn(
    text: str,
    environment: Mapping[str, str],
    *,
    default_host: Target | None = None,
    default_user: str | None = None,
) -> ParsedDsn:
    """
    Take a connection string apart.

    @param environment: where C{~} in the paths of certificates finds C{HOME}
    @param default_host: taken where the string names no host; None: localhost:5432
    @param default_user: taken where it names no user
    @raise BadValue: it is no connection string, or asks for what is not offered
    """
    if text.startswith(SCHEMES):
        said = _from_uri(text.partition("://")[2])
    elif "://" in text.partition("=")[0] or "=" not in text:
        raise BadValue("must be a postgresql:// URI or libpq's key=value words")
    else:
        said = _from_words(text)
    addresses = said.pop("hostaddr", "")
    hosts = _hosts(said.pop("host", "") or addresses, said.pop("port", ""), default_host)
    if addresses:
        hosts = _with_addresses(hosts, addresses.split(","))
    parameters = _checked(said)
    sslmode = parameters.pop("sslmode", "prefer")
    if parameters.get("sslrootcert") == "system" and "sslmode" not in said:
        sslmode = "verify-full"  # as libpq 16 and newer have it
    check_together(parameters, sslmode, any(host.is_unix for host in hosts))
    for name in ("sslcert", "sslkey", "sslrootcert", "sslcrl"):
        if name in parameters and parameters[name] != "system":
            parameters[name] = values.expanded(parameters[name], environment)
    timeout = parameters.pop("connect_timeout", None)
    if timeout is not None and int(timeout) == 0:
        raise BadValue("connect_timeout=0 would wait without end")
    password = parameters.pop("password", None)
    user = parameters.pop("user", "") or default_user
    database = parameters.pop("dbname", "") or None
    dsn = Dsn(hosts, user, database, sslmode, parameters)
    return ParsedDsn(dsn, password or None, None if timeout is None else float(timeout))


def check_for_libpq(uri: str) -> None:
    """
    See whether libpq itself takes a URI, as it must that of the state store.

    What its own error would quote may be a password.

    @param uri: begins with one of L{SCHEMES}
    @raise BadValue: it does not
    """
    if re.search(r"\s", uri):
        raise BadValue("has a space in it (which is written %20)")
    said = _from_uri(uri.partition("://")[2])
    _hosts(said.get("host", "") or said.get("hostaddr", ""), said.get("port", ""), None)
    for name in said:
        if name not in ALL_WORDS:
            raise BadValue(f"{values.shown(name)} is not a parameter of libpq")


def _checked(said: Mapping[str, str]) -> dict[str, str]:
    """The words that have an effect, each value checked; an empty one counts as not said."""
    kept: dict[str, str] = {}
    for name, value in said.items():
        if name in NOT_READ:
            raise BadValue(f"{name} is not read: {NOT_READ[name]}")
        if name not in PLACE_WORDS and name not in READ and name not in WITHOUT_EFFECT:
            meant = difflib.get_close_matches(name, ALL_WORDS, 1, 0.7)
            hint = f"; did you mean {meant[0]}?" if meant else ""
            raise BadValue(f"{values.shown(name)} is not a parameter of libpq{hint}")
        if not value:
            continue
        if name in WITHOUT_EFFECT:
            usual, reason = WITHOUT_EFFECT[name]
            if value not in usual:
                raise BadValue(f"{name}={values.shown(value)} is refused: {reason}")
            continue
        if name in READ:
            try:
                value = READ[name](value)
            except BadValue as error:
                raise BadValue(f"{name}: {error}") from None
        kept[name] = value
    return kept


def _hosts(hosts: str, ports: str, default: Target | None) -> tuple[Target, ...]:
    """
    The places to try, in order; one port is for all hosts, else there is one for each.

    @raise BadValue: a host or port is wrong, or their numbers differ
    """
    default = default or Target("localhost", DEFAULT_PORT)
    names = hosts.split(",")
    numbers = ports.split(",")
    if len(numbers) == 1:
        numbers *= len(names)
    if len(numbers) != len(names):
        raise BadValue(f"names {len(names)} hosts but {len(numbers)} ports")
    found = []
    for name, number in zip(names, numbers, strict=True):
        if name:
            found.append(place_of(name, _port(number, DEFAULT_PORT)))
        elif default.is_unix and number:
            folder = default.host.rpartition("/.s.PGSQL.")[0]
            found.append(place_of(folder, _port(number, DEFAULT_PORT)))
        else:
            found.append(Target(default.host, _port(number, default.port)))
    return tuple(found)


def _with_addresses(hosts: tuple[Target, ...], addresses: list[str]) -> tuple[Target, ...]:
    """
    The hosts, each with the address it is taken to have; an empty one is looked up.

    @raise BadValue: an address is none, or their number is another than the hosts'
    """
    if len(addresses) != len(hosts):
        raise BadValue(f"names {len(hosts)} hosts but {len(addresses)} addresses by hostaddr")
    found = []
    for host, address in zip(hosts, addresses, strict=True):
        if address and values.address_of(address) is None:
            raise BadValue("hostaddr: is a list of IP addresses")
        if address and host.is_unix:
            raise BadValue("hostaddr: a UNIX socket has no IP address")
        found.append(Target(host.host, host.port, address))
    return tuple(found)


def _port(digits: str, default: int) -> int:
    """A port; what is none is not quoted, as it may be the start of a password."""
    try:
        return values.port(digits) if digits else default
    except BadValue:
        raise BadValue(f"its port is not a number from 1 to 65535{_ESCAPES}") from None


def place_of(name: str, port: int) -> Target:
    """
    Where a server is: a host, or (starting with C{/}) the folder of its UNIX socket.

    @raise BadValue: it can be neither; the text does not quote it
    """
    if name.startswith("@"):
        raise BadValue("abstract UNIX sockets are not offered")
    if not name.startswith("/"):
        try:
            return Target(values.host(name), port)
        except BadValue:
            raise BadValue(f"its host is not a name or an IP address{_ESCAPES}") from None
    path = f"{name.rstrip('/')}/.s.PGSQL.{port}"
    if len(path.encode()) > values.SOCKET_PATH_LIMIT:
        raise BadValue(f"the path of a socket has at most {values.SOCKET_PATH_LIMIT} bytes")
    return Target(path, port)


def _from_uri(rest: str) -> dict[str, str]:
    """The words of a URI, after its scheme."""
    said: dict[str, str] = {}
    at = re.match(r"[^@/]*@", rest)
    if at is not None:
        user, colon, password = rest[: at.end() - 1].partition(":")
        if user:
            _say(said, "user", _decoded(user))
        if colon and password:
            _say(said, "password", _decoded(password))
        rest = rest[at.end() :]
    match = re.fullmatch(r"((?:\[[^\]]*\]|[^/?\[])*)(?:/([^?]*))?(?:\?(.*))?", rest, re.DOTALL)
    if match is None:
        raise BadValue("a [ in the host has no ]")
    places, database, query = match.groups()
    _say_places(said, places)
    if database:
        _say(said, "dbname", _decoded(database))
    if query and "@" in query and not _names_known(query):
        # What looks like a parameter may be the rest of a password: it is not quoted.
        raise BadValue(f"a parameter after the ? is not libpq's{_ESCAPES}")
    for part in query.split("&") if query else ():
        name, equals, value = part.partition("=")
        if not equals or "=" in value:
            raise BadValue("a parameter after the ? is not NAME=VALUE (= is written %3D)")
        name, value = _decoded(name), _decoded(value)
        if (name, value) == ("ssl", "true"):  # as JDBC says it; libpq reads it too
            name, value = "sslmode", "require"
        _say(said, name, value)
    return said


def _names_known(query: str) -> bool:
    return all(part.partition("=")[0] in (*ALL_WORDS, "ssl") for part in query.split("&"))


def _say_places(said: dict[str, str], places: str) -> None:
    """C{HOST:PORT,[::1]:PORT,...} as libpq's two lists C{host} and C{port}."""
    hosts, ports = [], []
    for place in places.split(","):
        match = re.fullmatch(r"(?:\[([^\]]+)\]|([^:\[\]]*))(?::(.*))?", place, re.DOTALL)
        if match is None:
            raise BadValue("a host is not HOST:PORT or [IPV6-ADDRESS]:PORT")
        if match[1] is not None and ":" not in match[1]:
            raise BadValue("only an IPv6 address stands in brackets")
        hosts.append(_decoded(match[1] or match[2]))
        ports.append(_decoded(match[3] or ""))
    if any(hosts):
        said["host"] = ",".join(hosts)
    if any(ports):
        said["port"] = ",".join(ports)


def _from_words(text: str) -> dict[str, str]:
    """The words of a C{key = value} list; values with spaces stand in single quotes."""
    said: dict[str, str] = {}
    place, last = 0, ""
    while place < len(text.rstrip()):
        match = _WORD.match(text, place)
        if match is None:
            raise BadValue("is not a list of NAME=VALUE: a = is missing after a word")
        name, value = match[1], match[2]
        if name not in ALL_WORDS and last == "password":
            raise BadValue("a password with spaces stands in single quotes")
        last = name
        place = match.end()
        if place < len(text) and not text[place].isspace():
            raise BadValue(f"the value of {values.shown(name)} has a quote or backslash too many")
        if value.startswith("'"):
            value = value[1:-1]
        _say(said, name, re.sub(r"\\(.)", r"\1", value, flags=re.S))
    return said


def _say(said: dict[str, str], name: str, value: str) -> None:
    if name in said:
        raise BadValue(f"{values.shown(name)} is given twice")
    said[name] = value


def _decoded(text: str) -> str:
    """
    Percent-decoding as libpq's: only whole escapes, and none of a NUL.

    @raise BadValue: an escape is broken, or the result is not UTF-8
    """
    if re.search(r"%(?![0-9A-Fa-f]{2})", text):
        raise BadValue("a % in it is not followed by two hexadecimal digits (% is written %25)")
    if "%00" in text:
        raise BadValue("%00 is not allowed in it")
    raw = re.sub(
        rb"%([0-9A-Fa-f]{2})", lambda match: bytes([int(match[1], 16)]), text.encode("utf-8")
    )
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        raise BadValue("its percent escapes are not UTF-8") from None
