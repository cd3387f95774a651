"""
The words of a libpq connection string: which are read, and why others are not.

What each means for a login is in L{proxyd.postgres.manner}.

Source: PostgreSQL documentation, "Database Connection Control Functions",
"Parameter Key Words" (libpq 18).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from proxyd.config.values import BadValue, one_of

SSLMODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
"""From none to full proof of the server."""

PLACE_WORDS = frozenset({"host", "hostaddr", "port", "dbname", "user", "password"})
"""Words that have a field of their own in L{proxyd.config.model.Dsn}."""

SESSION_ATTRIBUTES = (
    "any",
    "read-write",
    "read-only",
    "primary",
    "standby",
    "prefer-standby",
)
"""What a server may have to be."""

PROTOCOL_VERSIONS = {"3.0": 0, "3.2": 2, "latest": 2}
"""The minor version of each that may be named; there is no 3.1."""

TLS_VERSIONS = {"TLSv1.2": 12, "TLSv1.3": 13}

_AUTH_METHODS = ("password", "md5", "gss", "sspi", "scram-sha-256", "oauth", "none")
_AUTH_OFFERED = frozenset({"password", "md5", "scram-sha-256", "none"})
_NO_KERBEROS = "Kerberos is not offered"


def _any_text(text: str) -> str:
    return text


def _whole(text: str) -> str:
    if not re.fullmatch(r"[0-9]{1,9}", text, re.ASCII):
        raise BadValue("must be a whole number")
    return text


def _switch(text: str) -> str:
    return one_of(text, ("0", "1"))


def _seconds(text: str) -> str:
    """As the system takes it for a socket (tcp(7)); 0 is proxyd's own."""
    if int(_whole(text)) > 32767:
        raise BadValue("is at most 32767")
    return text


def _probes(text: str) -> str:
    if int(_whole(text)) > 127:
        raise BadValue("is at most 127")
    return text


def _encoding(text: str) -> str:
    if text.lower() == "auto":
        raise BadValue("auto asks for a terminal's locale, and a daemon has none: name one")
    return text


def _tls_version(text: str) -> str:
    for version in TLS_VERSIONS:
        if text.lower() == version.lower():
            return version
    if text.lower() in ("tlsv1", "tlsv1.1"):
        raise BadValue(f"{text} is not spoken: TLS 1.2 and newer are")
    return one_of(text, tuple(TLS_VERSIONS))


def _auth_methods(text: str) -> str:
    """A list of methods, each one forbidden (C{!md5}) or none of them."""
    methods = text.split(",")
    if len({method.startswith("!") for method in methods}) > 1:
        raise BadValue("methods allowed and methods forbidden (!) can't be mixed")
    for method in methods:
        one_of(method.removeprefix("!"), _AUTH_METHODS)
    if len(set(methods)) < len(methods):
        raise BadValue("names a method twice")
    if _AUTH_OFFERED.isdisjoint(methods) and not text.startswith("!"):
        raise BadValue(f"proxyd lets a server ask for {', '.join(sorted(_AUTH_OFFERED))} only")
    return text


READ: dict[str, Callable[[str], str]] = {
    "application_name": _any_text,
    "channel_binding": lambda text: one_of(text, ("disable", "prefer", "require")),
    "client_encoding": _encoding,
    "connect_timeout": _whole,
    "fallback_application_name": _any_text,
    "keepalives": _switch,
    "keepalives_count": _probes,
    "keepalives_idle": _seconds,
    "keepalives_interval": _seconds,
    "load_balance_hosts": lambda text: one_of(text, ("disable", "random")),
    "max_protocol_version": lambda text: one_of(text, tuple(PROTOCOL_VERSIONS)),
    "min_protocol_version": lambda text: one_of(text, tuple(PROTOCOL_VERSIONS)),
    "options": _any_text,
    "require_auth": _auth_methods,
    "requirepeer": _any_text,
    "ssl_max_protocol_version": _tls_version,
    "ssl_min_protocol_version": _tls_version,
    "sslcert": _any_text,
    "sslcrl": _any_text,
    "sslkey": _any_text,
    "sslmode": lambda text: one_of(text, SSLMODES),
    "sslnegotiation": lambda text: one_of(text, ("postgres", "direct")),
    "sslrootcert": _any_text,
    "sslsni": _switch,
    "target_session_attrs": lambda text: one_of(text, SESSION_ATTRIBUTES),
}
"""Words that are read, each with the check of its value."""

WITHOUT_EFFECT: dict[str, tuple[tuple[str, ...], str]] = {
    "gssdelegation": (("0",), _NO_KERBEROS),
    "gssencmode": (("disable", "prefer"), _NO_KERBEROS),
    "replication": (("false", "off", "no", "0"), "a replication stream can't be pooled"),
    "sslcertmode": (
        ("allow",),
        "a certificate is shown where the server asks for one; leave out sslcert to show none",
    ),
    "sslcompression": (("0", "1"), ""),
}
"""
Words that say, with these values, what proxyd does anyway; other values are refused,
with the reason. TLS compression is gone from libpq too, which ignores the word.
"""

NOT_READ = {
    "gsslib": _NO_KERBEROS,
    "krbsrvname": _NO_KERBEROS,
    "oauth_client_id": "OAuth toward a server is not offered",
    "oauth_client_secret": "OAuth toward a server is not offered",
    "oauth_issuer": "OAuth toward a server is not offered",
    "oauth_scope": "OAuth toward a server is not offered",
    "passfile": "give the password as `password: file:PATH`",
    "requiressl": "say sslmode=require",
    "scram_client_key": "give the password",
    "scram_server_key": "give the password",
    "service": "write out what the service file says",
    "servicefile": "write out what the service file says",
    "sslcrldir": "name one file by sslcrl",
    "sslkeylogfile": "it would give the keys of the connections away",
    "sslpassword": "the key's file must be without a password",
    "tcp_user_timeout": "Linux counts a closed window against it, so that it would cut a slow"
    " reader; keepalives notice a peer that is gone",
}
"""Words of libpq that are refused, each with what to do instead."""

ALL_WORDS = sorted(PLACE_WORDS | READ.keys() | WITHOUT_EFFECT.keys() | NOT_READ.keys())
"""Every word of libpq, for a guess at what was meant."""


def check_together(said: Mapping[str, str], sslmode: str, on_this_machine: bool) -> None:
    """
    See whether the words agree with each other.

    @param said: the words with their values, each checked
    @param sslmode: as it is in the end
    @param on_this_machine: a host is a UNIX socket, which knows no TLS
    @raise BadValue: two of them contradict each other, or one would have no effect
    """
    if ("sslcert" in said) != ("sslkey" in said):
        raise BadValue("sslcert and sslkey go together")
    root = said.get("sslrootcert")
    if root == "system" and sslmode != "verify-full":
        raise BadValue("sslrootcert=system needs sslmode=verify-full")
    if sslmode == "verify-ca" and root is None:
        raise BadValue(
            "sslmode=verify-ca needs sslrootcert: anybody can have a certificate that the"
            " system's CAs signed; say verify-full to have the name verified too"
        )
    if "sslcrl" in said and (sslmode not in ("verify-ca", "verify-full") and root is None):
        raise BadValue("sslcrl needs sslmode=verify-ca or verify-full")
    if said.get("sslnegotiation") == "direct" and SSLMODES.index(sslmode) < 3:
        raise BadValue(f"sslnegotiation=direct needs sslmode=require or more, not {sslmode}")
    if said.get("channel_binding") == "require":
        if sslmode == "disable" or on_this_machine:
            raise BadValue("channel_binding=require needs TLS")
        ways = said.get("require_auth", "scram-sha-256").split(",")
        if "!scram-sha-256" in ways or not (ways[0][0] == "!" or "scram-sha-256" in ways):
            raise BadValue("channel_binding=require needs scram-sha-256 in require_auth")
    for least, most, versions in (
        ("min_protocol_version", "max_protocol_version", PROTOCOL_VERSIONS),
        ("ssl_min_protocol_version", "ssl_max_protocol_version", TLS_VERSIONS),
    ):
        lower, upper = said.get(least), said.get(most)
        if lower and upper and versions[lower] > versions[upper]:
            raise BadValue(f"{least}={lower} is above {most}={upper}")
