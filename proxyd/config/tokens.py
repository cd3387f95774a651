"""
The section C{tokens}.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from proxyd.config import values
from proxyd.config.environment import Variables
from proxyd.config.report import Report
from proxyd.config.secrets import Secret
from proxyd.config.section import Section
from proxyd.config.token_settings import ALGORITHMS, STORE_POLL, Issuer, TokenSettings
from proxyd.config.values import BadValue

LEAST_SECRET = 32
"""Bytes that a secret of HS256 should have (RFC 7518, section 3.2)."""

LEAST_STALENESS = 1.0
"""Seconds; a store that answers well would seem to be silent where it were less."""

WHEN_STORE_LOST = ("refuse_new", "end_sessions", "keep")


def read_tokens(root: Section, variables: Variables, report: Report) -> TokenSettings:
    """The section C{tokens}, and JWT_SECRET where it names no secret."""
    usual = TokenSettings()
    section = root.section("tokens")
    if section is None:
        return TokenSettings(secret=_from_environment(variables, report))
    found = TokenSettings(
        secret=_secret(section, "secret") or _from_environment(variables, report),
        previous=section.secrets("previous_secrets") or (),
        ttl=section.duration("ttl", usual.ttl),
        max_staleness=section.duration("max_staleness", usual.max_staleness),
        when_store_lost=section.word("when_store_lost", WHEN_STORE_LOST, usual.when_store_lost),
        issuers=_issuers(section),
    )
    if found.ttl < 1:
        section.wrong("ttl", "must be a second at least")
    if found.max_staleness < LEAST_STALENESS:
        section.wrong(
            "max_staleness",
            f"must be a second at least: the store is looked at every {STORE_POLL:g} s",
        )
    section.close()
    return found


def _secret(section: Section, name: str) -> Secret | None:
    secret = section.secret(name)
    if secret is not None and secret.place == "the configuration":
        length = len(secret.read().encode("utf-8", "surrogateescape"))
        if length < LEAST_SECRET:
            section.warn(name, f"is shorter than {LEAST_SECRET} bytes, so it could be guessed")
    return secret


def _from_environment(variables: Variables, report: Report) -> Secret | None:
    """JWT_SECRET, with a warning where it is too short to be safe."""
    variable = variables.get("JWT_SECRET")
    if variable is None:
        return None
    if len(variable.value.encode("utf-8", "surrogateescape")) < LEAST_SECRET:
        what = f"is shorter than {LEAST_SECRET} bytes, so it could be guessed"
        report.warn(variable.name, what, variable.line, variable.file)
    return Secret("env:JWT_SECRET", variables.all)


def _issuers(section: Section) -> tuple[Issuer, ...]:
    found: list[Issuer] = []
    for one in section.sections("issuers") or ():
        issuer = _issuer(one)
        if issuer is None:
            continue
        if any(issuer.issuer == other.issuer for other in found):
            one.wrong("issuer", f"{values.shown(issuer.issuer)} is named twice")
        found.append(issuer)
    return tuple(found)


def _issuer(section: Section) -> Issuer | None:
    name = section.text("issuer")
    audience = section.each("audience", str)
    url = section.value("jwks_url", _url)
    algorithms = section.each("algorithms", lambda text: values.one_of(text, ALGORITHMS))
    if algorithms == ():
        section.wrong("algorithms", "an empty list takes no token")
    database_claim = section.text("database_claim")
    role_claim = section.text("role_claim")
    ca = section.file("ca")
    for key, value in (("issuer", name), ("audience", audience), ("jwks_url", url)):
        if not value and not section.has(key):
            section.wrong(key, "must be given")
    if audience == ():
        section.wrong("audience", "must name whom the tokens are for")
    section.close()
    if not name or not audience or not url:
        return None
    usual = Issuer(name, audience, url)
    return Issuer(
        name,
        audience,
        url,
        algorithms or usual.algorithms,
        database_claim or usual.database_claim,
        role_claim or usual.role_claim,
        ca,
    )


def _url(text: str) -> str:
    """
    Where keys may be fetched: by https, or by http from this machine itself.

    @raise BadValue: anybody on the way could change them
    """
    if not text.isascii() or not text.isprintable() or " " in text:
        raise BadValue("must be ASCII without spaces (names as xn--…, others by %XX)")
    try:
        url = urlsplit(text)
        host, port = values.host(url.hostname or ""), url.port
    except ValueError:
        raise BadValue("names no host and port that there could be") from None
    address = values.address_of(host)
    local = host == "localhost" or (address is not None and address.is_loopback)
    if url.scheme not in ("https", "http") or url.username or url.fragment:
        raise BadValue("must be an https:// URL")
    if url.scheme == "http" and not local:
        raise BadValue(
            "must be https: over http anybody on the way could put keys of his own there"
        )
    if port == 0:
        raise BadValue("names no host and port that there could be")
    return text
