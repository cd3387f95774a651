"""
The words of a libpq connection string: which are read, and why others are not.

Source: PostgreSQL documentation, "Database Connection Control Functions",
"Parameter Key Words" (libpq 18).
"""

from __future__ import annotations

import re
from collections.abc import Callable

from proxyd.config.values import BadValue, one_of

SSLMODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
"""From none to full proof of the server."""

PLACE_WORDS = frozenset({"host", "port", "dbname", "user", "password"})
"""Words that have a field of their own in L{proxyd.config.model.Dsn}."""

_AUTH_METHODS = ("password", "md5", "gss", "sspi", "scram-sha-256", "oauth", "none")
_SESSION_ATTRIBUTES = (
    "any",
    "read-write",
    "read-only",
    "primary",
    "standby",
    "prefer-standby",
)


def _any_text(text: str) -> str:
    return text


def _whole(text: str) -> str:
    if not re.fullmatch(r"[0-9]{1,9}", text, re.ASCII):
        raise BadValue("must be a whole number")
    return text


def _switch(text: str) -> str:
    return one_of(text, ("0", "1"))


def _auth_methods(text: str) -> str:
    """A list of methods, each one forbidden (C{!md5}) or none of them."""
    methods = text.split(",")
    if len({method.startswith("!") for method in methods}) > 1:
        raise BadValue("methods allowed and methods forbidden (!) can't be mixed")
    for method in methods:
        one_of(method.removeprefix("!"), _AUTH_METHODS)
    if len(set(methods)) < len(methods):
        raise BadValue("names a method twice")
    return text


READ: dict[str, Callable[[str], str]] = {
    "application_name": _any_text,
    "channel_binding": lambda text: one_of(text, ("disable", "prefer", "require")),
    "client_encoding": _any_text,
    "connect_timeout": _whole,
    "fallback_application_name": _any_text,
    "keepalives": _switch,
    "keepalives_count": _whole,
    "keepalives_idle": _whole,
    "keepalives_interval": _whole,
    "options": _any_text,
    "require_auth": _auth_methods,
    "sslcert": _any_text,
    "sslkey": _any_text,
    "sslmode": lambda text: one_of(text, SSLMODES),
    "sslrootcert": _any_text,
    "target_session_attrs": lambda text: one_of(text, _SESSION_ATTRIBUTES),
}
"""Words that are read, each with the check of its value."""

NOT_YET: dict[str, tuple[str, ...]] = {
    "application_name": (),
    "channel_binding": ("prefer",),
    "client_encoding": (),
    "fallback_application_name": (),
    "keepalives": ("1",),
    "keepalives_count": (),
    "keepalives_idle": (),
    "keepalives_interval": (),
    "options": (),
    "target_session_attrs": ("any",),
}
"""
Words of L{READ} that wait for a later version, each with the values that mean
what is done anyway: a server connection that ignored them would be another
than the one asked for, and C{channel_binding=require} less safe.
"""

WITHOUT_EFFECT = {
    "gssencmode": ("disable", "prefer"),
    "sslcompression": ("0",),
    "sslsni": ("1",),
    "sslnegotiation": ("postgres",),
    "replication": ("false", "off", "no", "0"),
    "load_balance_hosts": ("disable",),
    "gssdelegation": ("0",),
    "sslcertmode": ("allow",),
}
"""Words that say, with these values, what proxyd does anyway; other values are refused."""

NOT_READ = {
    "hostaddr": "write the address as host",
    "krbsrvname": "Kerberos is not offered",
    "gsslib": "Kerberos is not offered",
    "max_protocol_version": "protocol 3.0 is spoken",
    "min_protocol_version": "protocol 3.0 is spoken",
    "oauth_client_id": "OAuth toward a server is not offered",
    "oauth_client_secret": "OAuth toward a server is not offered",
    "oauth_issuer": "OAuth toward a server is not offered",
    "oauth_scope": "OAuth toward a server is not offered",
    "passfile": "give the password as `password: file:PATH`",
    "requirepeer": "it is not offered",
    "requiressl": "say sslmode=require",
    "scram_client_key": "give the password",
    "scram_server_key": "give the password",
    "service": "write out what the service file says",
    "servicefile": "write out what the service file says",
    "ssl_max_protocol_version": "TLS 1.2 and newer are spoken",
    "ssl_min_protocol_version": "TLS 1.2 and newer are spoken",
    "sslcrl": "revocation lists are not read",
    "sslcrldir": "revocation lists are not read",
    "sslkeylogfile": "it would give the keys of the connections away",
    "sslpassword": "the key's file must be without a password",
    "tcp_user_timeout": "it is not offered",
}
"""Words of libpq that are refused, each with what to do instead."""

ALL_WORDS = sorted(PLACE_WORDS | READ.keys() | WITHOUT_EFFECT.keys() | NOT_READ.keys())
"""Every word of libpq, for a guess at what was meant."""


def waits(name: str, value: str) -> bool:
    """Whether a word of L{READ}, with this value, is not in this version yet."""
    if name == "require_auth":
        return "!" in value
    return name in NOT_YET and value not in NOT_YET[name]
