"""
The sections C{state}, C{log} and C{postgres}, and the names of those to come.
"""

from __future__ import annotations

from dataclasses import dataclass

from proxyd.config import values
from proxyd.config.dsn import SCHEMES, check_for_libpq
from proxyd.config.environment import Variables, wrong_variable
from proxyd.config.model import Listener, Log, Postgres, PostgresTls, State
from proxyd.config.report import Report
from proxyd.config.section import Section
from proxyd.config.values import BadValue

LOG_LEVELS = ("debug", "info", "warn", "error", "critical")
"""The levels of C{log.level} and C{--log-level}, from the loudest."""

TLS_MODES = ("disable", "prefer", "require", "verify-full")

_UNFIT = {
    "ssl": "a PostgreSQL client starts TLS by itself: name the port, and postgres.tls",
    "tls": "a PostgreSQL client starts TLS by itself: name the port, and postgres.tls",
    "haproxy": "say postgres.proxy_protocol",
    "stdio": "it is no listener",
}
_SERVICE_PORT = 7777


@dataclass(frozen=True, slots=True)
class Flags:
    """
    What the command line said; each wins over the file, None leaves it as it is.

    @param postgres_listen: the one listener for PostgreSQL
    @param socks5_listen: the one listener for SOCKS5
    @param log_level: one of L{LOG_LEVELS}
    """

    postgres_listen: str | None = None
    socks5_listen: str | None = None
    log_level: str | None = None


def read_state(root: Section, variables: Variables) -> State:
    """The keys C{state} and C{state_key}."""
    key = root.secret("state_key")
    url = root.value("state", lambda text: _state_url(text, root))
    if url is not None and not url.startswith("sqlite:"):
        if key is None:
            root.wrong("state", "several nodes share this store: state_key must be given")
        tokens = root.section("tokens") if root.has("tokens") else None
        given = tokens is not None and tokens.has("secret")
        if not given and variables.get("JWT_SECRET") is None:
            root.wrong("state", "several nodes share this store: tokens.secret must be given")
    return State(url, key)


def read_log(root: Section, flags: Flags, report: Report) -> Log:
    """The section C{log}, under what C{--log-level} said."""
    default = Log()
    section = root.section("log")
    level, form, statements = default.level, default.format, default.statements
    if section is not None:
        level = section.word("level", LOG_LEVELS, level)
        form = section.word("format", ("text", "json"), form)
        statements = section.word("statements", ("off", "on"), statements)
        section.close()
    if flags.log_level is not None:
        try:
            level = values.one_of(flags.log_level, LOG_LEVELS)
        except BadValue as error:
            report.wrong("--log-level", str(error), file="")
    return Log(level, form, statements)


def read_postgres(
    root: Section, variables: Variables, flags: Flags, report: Report
) -> Postgres | None:
    """The section C{postgres}; None where nothing asks for it."""
    section = root.section("postgres")
    wanted = root.has("postgres") or root.has("connections") or bool(variables.set_names())
    default = Postgres()
    listen = _default_listen(root, variables, report)
    public: str | None = None
    node: str | None = None
    postgres = default
    if section is not None:
        listen = section.listeners("listen", _UNFIT) or listen
        public = section.value("public", lambda text: _public(text))
        node = section.value("node", lambda text: _public(text))
        postgres = Postgres(
            listen=listen,
            proxy_protocol=section.networks("proxy_protocol") or (),
            tls=_read_tls(section),
            auth_timeout=section.duration("auth_timeout", default.auth_timeout),
            max_clients=section.count("max_clients", default.max_clients, 1, 1_000_000),
        )
        section.close()
    if flags.postgres_listen is not None:
        wanted = True
        try:
            listen = (values.fit(values.listener(flags.postgres_listen, root.environment), _UNFIT),)
        except BadValue as error:
            report.wrong("--postgres-listen", str(error), file="")
    if not wanted:
        return None
    return Postgres(
        listen=listen,
        proxy_protocol=postgres.proxy_protocol,
        public=public or _announced(variables, listen, report),
        node=node,
        tls=postgres.tls,
        auth_timeout=postgres.auth_timeout,
        max_clients=postgres.max_clients,
    )


def _state_url(text: str, root: Section) -> str:
    if text.startswith(SCHEMES):
        check_for_libpq(text)
        return text
    scheme, _, path = text.partition("://")
    if scheme != "sqlite" or not path.startswith(("/", "~")):
        raise BadValue("must be sqlite:///PATH (postgresql:// for several nodes)")
    if "?" in path or "#" in path:
        raise BadValue("takes no parameters; in a path ? is written %3F, and # %23")
    path = values.expanded(path, root.environment)
    return f"sqlite:///{path.lstrip('/')}"


def _read_tls(postgres: Section) -> PostgresTls:
    section = postgres.section("tls")
    default = PostgresTls()
    if section is None:
        return default
    mode = section.word("mode", TLS_MODES, default.mode)
    certificate, key = section.file("certificate"), section.file("key")
    client_ca, client_crl = section.file("client_ca"), section.file("client_crl")
    if section.has("certificate") != section.has("key"):
        there, missing = ("certificate", "key")[:: 1 if section.has("certificate") else -1]
        section.wrong(there, f"goes together with {missing}, which is missing")
    if mode == "verify-full" and not section.has("client_ca"):
        section.wrong("mode", "verify-full asks clients for certificates: client_ca must be given")
    if mode == "disable" and section.has("client_ca"):
        section.wrong("client_ca", "contradicts mode: disable")
    if section.has("client_crl") and not section.has("client_ca"):
        section.wrong("client_crl", "is for certificates that client_ca signed, which is missing")
    section.close()
    return PostgresTls(mode, certificate, key, client_ca, client_crl)


def _default_listen(root: Section, variables: Variables, report: Report) -> tuple[Listener, ...]:
    """Where to listen when neither the file nor the command line says it."""
    number = variables.get("PROXY_PORT")
    if number is not None:
        try:
            port = values.port(number.value)
            return (Listener(f"127.0.0.1:{port}", "tcp", "127.0.0.1", port),)
        except BadValue as error:
            wrong_variable(report, number, str(error))
    # A file that names its connections may well take their passwords from these
    # variables: only where they are all there is do they choose the port.
    alone = not root.has("postgres") and not root.has("connections")
    if variables.has_service_account and alone:
        return (Listener(f"127.0.0.1:{_SERVICE_PORT}", "tcp", "127.0.0.1", _SERVICE_PORT),)
    return Postgres().listen


def _public(text: str) -> str:
    values.host_and_port(text)
    return text


def _announced(variables: Variables, listen: tuple[Listener, ...], report: Report) -> str | None:
    """PROXY_HOST with the port of the first listener that has one."""
    announced = variables.get("PROXY_HOST")
    if announced is None:
        return None
    text = announced.value
    try:
        if values.address_of(text) is None and ":" in text:
            return _public(text)
        values.host(text)
    except BadValue as error:
        wrong_variable(report, announced, str(error))
        return None
    ports = [place.port for place in listen if place.kind == "tcp" and place.port]
    shown = f"[{text}]" if ":" in text else text
    return f"{shown}:{ports[0]}" if ports else shown
