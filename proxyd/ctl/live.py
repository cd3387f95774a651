"""
C{proxyctl check --live}: what a configuration names, looked at on this machine.

Files are opened and variables read, as the daemon would at its start; nothing
is changed.
"""

from __future__ import annotations

import os
import ssl
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from proxyd.config.api_model import Api
from proxyd.config.model import Config, Connection
from proxyd.config.secrets import Secret
from proxyd.config.token_settings import TokenSettings
from proxyd.errors import StartError
from proxyd.net.pem import load_revocation_lists
from proxyd.web.admin_token import admin_token, metrics_token


@dataclass(frozen=True, slots=True)
class Finding:
    """
    One thing that a look around has found.

    @param failed: proxyd would not work; False: it would, but someone should look
    @param where: the configuration's key
    @param what: what is wrong, and what to do; no secret is told
    """

    failed: bool
    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


def check_all(config: Config) -> list[Finding]:
    """Look at the files, the variables, and then the servers."""
    return [*check_files(config), *check_servers(config)]


def check_servers(config: Config) -> list[Finding]:
    """
    Each server is reached, and the service user logs in.

    Done on a reactor of its own, which is gone afterwards.
    """
    if not config.connections:
        return []
    from twisted.internet.defer import Deferred
    from twisted.internet.epollreactor import EPollReactor

    from proxyd.ctl.servers import look_around
    from proxyd.postgres.probe import Seen

    reactor = EPollReactor()  # type: ignore[no-untyped-call]
    seen: list[Seen] = []
    looking = Deferred.fromCoroutine(look_around(reactor, config))
    looking.addCallback(seen.extend)
    looking.addErrback(lambda failure: seen.append(Seen("", True, str(failure.value))))
    looking.addCallback(lambda _: reactor.callLater(0, reactor.stop))
    reactor.run(installSignalHandlers=False)
    return [Finding(one.failed, f"connections.{one.connection}", one.what) for one in seen]


def check_files(config: Config) -> list[Finding]:
    """Every secret can be read, every certificate loaded, and what is private is so."""
    found: list[Finding] = []
    if config.state.key is not None:
        found += _secret("state_key", config.state.key)
    found += _tokens(config.tokens)
    if config.postgres is not None:
        tls = config.postgres.tls
        found += _certificate("postgres.tls", "certificate", tls.certificate, "key", tls.key)
        found += _authorities("postgres.tls.client_ca", tls.client_ca)
        found += _revocation_lists("postgres.tls.client_crl", tls.client_crl)
    if config.api is not None:
        found += _api(config.api)
    for name, connection in config.connections.items():
        found += _connection(f"connections.{name}", connection)
    found += _ways_in_and_out(config)
    if _has_plain_secret(config):
        found += _private("password", config.path, "passwords stand in it")
    return found


def _api(api: Api) -> Iterator[Finding]:
    for name, secret, token in (
        ("admin_token", api.admin_token, admin_token),
        ("metrics_token", api.metrics_token, metrics_token),
    ):
        if secret is None:
            continue
        bad = list(_secret(f"api.{name}", secret))
        yield from bad
        if not bad:
            try:
                token(secret)
            except StartError as error:
                yield Finding(True, f"api.{name}", str(error))
    if api.tls is not None:
        yield from _certificate("api.tls", "certificate", api.tls.certificate, "key", api.tls.key)


def _tokens(tokens: TokenSettings) -> Iterator[Finding]:
    if tokens.secret is not None:
        yield from _secret("tokens.secret", tokens.secret)
    for place, secret in enumerate(tokens.previous):
        yield from _secret(f"tokens.previous_secrets[{place}]", secret)
    for place, issuer in enumerate(tokens.issuers):
        yield from _authorities(f"tokens.issuers[{place}].ca", issuer.ca)


def _ways_in_and_out(config: Config) -> Iterator[Finding]:
    """What C{socks5}, C{agents} and C{upstreams} name."""
    if config.socks5 is not None:
        for account in config.socks5.accounts:
            yield from _secret(f"socks5.auth ({account.user})", account.password)
        if (tls := config.socks5.tls) is not None:
            yield from _certificate("socks5.tls", "certificate", tls.certificate, "key", tls.key)
    if config.agents is not None:
        own = config.agents.tls
        yield from _certificate("agents.tls", "certificate", own.certificate, "key", own.key)
    for name, upstream in config.upstreams.items():
        where = f"upstreams.{name}"
        if (ssh := upstream.ssh) is not None:
            yield from _readable(f"{where}.ssh.key", ssh.key)
            yield from _private(f"{where}.ssh.key", ssh.key, "it is a private key")
            yield from _readable(f"{where}.ssh.known_hosts", ssh.known_hosts)
            if ssh.passphrase is not None:
                yield from _secret(f"{where}.ssh.passphrase", ssh.passphrase)
        if (aws := upstream.aws) is not None:
            for key in ("access_key", "secret_key", "session_token"):
                if (secret := getattr(aws, key)) is not None:
                    yield from _secret(f"{where}.aws.{key}", secret)
            if aws.profile is not None:
                yield from _profile(f"{where}.aws.profile", aws.profile)


def _profile(where: str, name: str) -> Iterator[Finding]:
    """An AWS profile is there."""
    # Costs a third of a second to import.
    from botocore.exceptions import BotoCoreError

    from proxyd.dial.aws.account import AwsSession
    from proxyd.dial.aws.words import told

    try:
        AwsSession(profile=name).region()
    except BotoCoreError as error:
        yield Finding(True, where, told(error, "its settings"))


def _readable(where: str, path: str | None) -> Iterator[Finding]:
    """A file can be read."""
    if path is not None and (reason := _unreadable(path)) is not None:
        yield Finding(True, where, f"{path}: {reason}")


def _connection(where: str, connection: Connection) -> Iterator[Finding]:
    if connection.password is not None:
        yield from _secret(f"{where}.password", connection.password)
    said = connection.dsn.parameters
    yield from _certificate(
        f"{where}.dsn", "sslcert", said.get("sslcert"), "sslkey", said.get("sslkey")
    )
    root = said.get("sslrootcert")
    if root != "system":
        yield from _authorities(f"{where}.dsn: sslrootcert", root)
    yield from _revocation_lists(f"{where}.dsn: sslcrl", said.get("sslcrl"))


def _secret(where: str, secret: Secret) -> Iterator[Finding]:
    try:
        text = secret.read()
    except StartError as error:
        yield Finding(True, where, str(error))
        return
    if not text:
        yield Finding(True, where, f"{secret.place} is empty")
    yield from _private(where, secret.file, "it is a secret")


def _certificate(
    where: str, name: str, certificate: str | None, key_name: str, key: str | None
) -> Iterator[Finding]:
    """A certificate can be loaded, and its key belongs to it."""
    if certificate is None or key is None:
        return
    readable = True
    for part, path in ((name, certificate), (key_name, key)):
        if (reason := _unreadable(path)) is not None:
            readable = False
            yield Finding(True, f"{where}.{part}", f"{path}: {reason}")
    if not readable:
        return
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, _no_password)
    except (ssl.SSLError, ValueError, OSError):
        yield Finding(
            True,
            f"{where}.{name}",
            f"{certificate} and {key} are no PEM certificate and its key (without a password)",
        )
    yield from _private(f"{where}.{key_name}", key, "it is a private key")


def _authorities(where: str, path: str | None) -> Iterator[Finding]:
    """A file of certificates can be loaded."""
    if path is None:
        return
    if (reason := _unreadable(path)) is not None:
        yield Finding(True, where, f"{path}: {reason}")
        return
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
    except (ssl.SSLError, ValueError, OSError):
        yield Finding(True, where, f"{path} holds no PEM certificates")


def _revocation_lists(where: str, path: str | None) -> Iterator[Finding]:
    """A file of revocation lists can be loaded, and none of them is outdated."""
    if path is None:
        return
    try:
        found = load_revocation_lists(path)
    except StartError as error:
        yield Finding(True, where, str(error))
        return
    now = datetime.now(UTC)
    for revoked in found:
        if revoked.next_update_utc is not None and revoked.next_update_utc < now:
            issuer = revoked.issuer.rfc4514_string()
            yield Finding(
                True, where, f"{path}: the list of {issuer} is outdated: nobody of it is believed"
            )


def _private(where: str, path: str | None, why: str) -> Iterator[Finding]:
    """Warn of a file that others on this machine can read."""
    if path is None:
        return
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return  # told by whoever had to read it
    if stat.S_ISREG(mode) and mode & stat.S_IROTH:
        yield Finding(False, where, f"{path} can be read by anyone on this machine, but {why}")


def _has_plain_secret(config: Config) -> bool:
    secrets = [
        config.state.key,
        config.tokens.secret,
        *config.tokens.previous,
        *(one.password for one in config.connections.values()),
    ]
    return any(secret is not None and secret.place == "the configuration" for secret in secrets)


def _unreadable(path: str) -> str | None:
    """Why a file can't be read, or None."""
    try:
        with open(path, "rb") as file:
            file.read(1)
    except OSError as error:
        return error.strerror or "it can't be read"
    return None


def _no_password() -> str:
    """Stand in for OpenSSL's question for a key's password, which would wait at a terminal."""
    return ""
