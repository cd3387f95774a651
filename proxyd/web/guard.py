"""
Who may call the API: the token, and whether a browser was tricked into it.

On the UNIX socket its mode and the peer's user decide, before a byte is read
(L{proxyd.web.local_socket}). On TCP it is the admin token. A page of somebody
else's can make a browser call C{http://127.0.0.1:8080}: it does not know the
token, but what needs none could be read after "DNS rebinding" (the page's name
suddenly has our address). So the C{Host} must be one of ours, and an
C{Origin} must be our own.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable
from dataclasses import dataclass, field
from hashlib import sha256
from ipaddress import ip_address

from proxyd.web.answer import ApiError
from proxyd.web.route import Access

_FORWARDED = ("forwarded", "x-forwarded-for", "x-real-ip")
_CHALLENGE = {"WWW-Authenticate": 'Bearer realm="proxyd"'}


@dataclass(frozen=True, slots=True)
class Visit:
    """
    A request as the guard sees it: where it came from and what it says of itself.

    @param local: it came by the UNIX socket, from a user who may do all
    @param peer: the client's IP address; empty where it came by a UNIX socket
    @param here: the IP address that it came to; empty likewise
    @param headers: the header lines of a name, which is in lower case
    """

    local: bool
    peer: str
    here: str
    secure: bool
    headers: dict[str, list[str]] = field(repr=False)

    def header(self, name: str) -> str | None:
        """The one header line of this name; None: there is none."""
        found = self.headers.get(name)
        return found[-1] if found else None

    @property
    def on_this_machine(self) -> bool:
        """Whether the client is here, as far as can be told: not behind another proxy."""
        if self.local or not self.peer:
            return True
        forwarded = any(name in self.headers for name in _FORWARDED)
        return ip_address(_plain(self.peer)).is_loopback and not forwarded


class Guard:
    """
    Lets a call pass, or raises why not.

    @param admin: the admin token
    @param metrics: what C{/metrics} may be asked for with, beside it; None: nothing
    @param hosts: names by which browsers may call us, beside localhost and the
        address that they came to
    """

    def __init__(self, admin: str, metrics: str | None, hosts: Iterable[str]) -> None:
        # Digests have one length: a comparison tells nothing of a token's.
        self._admin = _digest(admin)
        self._metrics = None if metrics is None else _digest(metrics)
        self._hosts = frozenset(("localhost", *(_plain(host) for host in hosts)))

    def __repr__(self) -> str:
        return "<Guard>"

    def check_origin(self, visit: Visit) -> None:
        """
        Refuse what a browser was tricked into.

        @raise ApiError: 403 for a foreign Host or Origin, 400 for none or several Hosts
        """
        if visit.local or not visit.peer:
            return
        hosts = visit.headers.get("host", [])
        if len(hosts) != 1:
            raise ApiError(400, "a request has one Host header")
        name = _host_of(hosts[0])
        if name is None or not (name in self._hosts or name == _plain(visit.here)):
            raise ApiError(
                403,
                "this Host is none of proxyd's: call it by its address, or name it in api.hosts",
                "wrong_host",
            )
        origin = visit.header("origin")
        ours = f"{'https' if visit.secure else 'http'}://{hosts[0]}"
        if origin is not None and origin.lower() != ours.lower():
            raise ApiError(403, "a page of another origin may not call proxyd", "wrong_origin")

    def check_access(self, visit: Visit, access: Access) -> None:
        """
        Refuse who may not make this call.

        @raise ApiError: 401 without a good token
        """
        if access is Access.FREE or visit.local:
            return
        if access is Access.METRICS and visit.on_this_machine:
            return
        given = _bearer(visit.header("authorization"))
        if given is None:
            raise ApiError(
                401, "say who you are: Authorization: Bearer <admin token>", headers=_CHALLENGE
            )
        digest = _digest(given)
        good = hmac.compare_digest(digest, self._admin)
        if access is Access.METRICS and self._metrics is not None:
            good = hmac.compare_digest(digest, self._metrics) or good
        if not good:
            raise ApiError(401, "this token is not good here", "wrong_token", headers=_CHALLENGE)


def _digest(token: str) -> bytes:
    return sha256(token.encode("utf-8", "surrogateescape")).digest()


def _bearer(header: str | None) -> str | None:
    """The token of an Authorization header (RFC 6750, section 2.1); None: it has none."""
    scheme, _, token = (header or "").strip().partition(" ")
    token = token.strip()
    return token if scheme.lower() == "bearer" and token else None


def _host_of(header: str) -> str | None:
    """The name in a Host header, without the port; None: it is malformed."""
    if header.startswith("["):
        name, bracket, rest = header[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            return None
    else:
        name, _, rest = header.partition(":")
        rest = f":{rest}" if rest else ""
    if rest[1:] and not rest[1:].isdigit():
        return None
    return _plain(name) or None


def _plain(name: str) -> str:
    """A name as names are compared: addresses in one form, others without case and end dot."""
    name = name.strip("[]").partition("%")[0].lower().removesuffix(".")
    try:
        address = ip_address(name)
    except ValueError:
        return name
    mapped = getattr(address, "ipv4_mapped", None)
    return str(mapped or address)
