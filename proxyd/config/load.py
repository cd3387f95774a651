"""
A configuration file, or the environment, as a L{Config}.

The doors of this package: L{load} for a file, L{from_environment} for none,
L{load_config} for whichever the search finds. All look at nothing but the
file, its C{.env} and the environment they are handed: whether the files and
servers that a configuration names exist is seen at start.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from proxyd.config.agents import read_agents
from proxyd.config.api import read_api
from proxyd.config.connections import read_connections
from proxyd.config.defaults import read_defaults
from proxyd.config.document import Table, read_document
from proxyd.config.environment import PROCESS, Variables, read_dotenv
from proxyd.config.model import Config, Postgres
from proxyd.config.report import Report
from proxyd.config.routes import read_default, read_routes
from proxyd.config.search import dotenv_beside, find
from proxyd.config.section import Section
from proxyd.config.sections import (
    Flags,
    read_log,
    read_postgres,
    read_state,
)
from proxyd.config.socks import read_socks
from proxyd.config.tokens import read_tokens
from proxyd.config.upstreams import check_vias, read_upstreams
from proxyd.errors import ConfigError

__all__ = ["Flags", "from_environment", "load", "load_config"]

NO_FLAGS = Flags()
"""A command line that said nothing."""


def load(path: str, *, environment: Mapping[str, str], flags: Flags = NO_FLAGS) -> Config:
    """
    Read a file: TOML if its name ends so, else YAML, with the C{.env} beside it.

    @param environment: the variables of the process
    @param flags: what the command line said, which wins over the file
    @raise ConfigError: it can't be used; all that is wrong with it, in the order of the file
    """
    report = Report(path)
    variables = Variables(environment, read_dotenv(dotenv_beside(path, ".")))
    return _assembled(read_document(path, report), report, variables, flags, path)


def from_environment(
    *,
    directory: str,
    environment: Mapping[str, str],
    flags: Flags = NO_FLAGS,
) -> Config:
    """
    What the variables alone say: those of the process, and of the C{.env} in C{directory}.

    @raise ConfigError: they can't be used
    """
    report = Report(PROCESS)
    variables = Variables(environment, read_dotenv(dotenv_beside(None, directory)))
    return _assembled(Table((), None), report, variables, flags, None)


def load_config(
    explicit: str | None,
    flags: Flags,
    *,
    directory: str,
    environment: Mapping[str, str],
) -> tuple[Config, str]:
    """
    Find the configuration and load it.

    @param explicit: the file that C{-c} named
    @param directory: the working directory, where C{./proxyd.yaml} is looked for
    @return: the configuration, and the line that tells the log where it came from
    @raise ConfigError: there is none, or it can't be used
    """
    home = environment.get("HOME") or os.path.expanduser("~")
    found = find(explicit, directory=directory, environment=environment, home=home)
    if found.path is None:
        config = from_environment(directory=directory, environment=environment, flags=flags)
    else:
        config = load(found.path, environment=environment, flags=flags)
    return config, found.sentence


def _assembled(
    table: Table, report: Report, variables: Variables, flags: Flags, path: str | None
) -> Config:
    """Read all sections, and raise what they found wrong."""
    root = Section(table, "", report, variables.all)
    state = read_state(root, variables)
    log = read_log(root, flags, report)
    drain_timeout = root.duration("drain_timeout", Config().drain_timeout, zero=True)
    postgres = read_postgres(root, variables, flags, report)
    tokens = read_tokens(root, variables, report)
    defaults = read_defaults(variables, report)
    connections = read_connections(root, variables, defaults, report, postgres)
    upstreams = read_upstreams(root)
    check_vias(root, connections, upstreams)
    routes = read_routes(root, upstreams)
    default = read_default(root, upstreams)
    socks5 = read_socks(root, flags.socks5_listen, report)
    api = read_api(root)
    agents = read_agents(root)
    root.close()
    if report.problems:
        raise ConfigError(report.problems)
    if postgres is None and api is not None:
        # For databases that are registered by it.
        postgres = Postgres(on_demand=True)
    if postgres is not None and not connections and api is None:
        report.warn("connections", "there are none, so every PostgreSQL client will be refused")
    return Config(
        path=path,
        state=state,
        log=log,
        drain_timeout=drain_timeout,
        postgres=postgres,
        tokens=tokens,
        connections=connections,
        pool_size=defaults.pool_size,
        socks5=socks5,
        upstreams=upstreams,
        routes=routes,
        default=default,
        api=api,
        agents=agents,
        later=report.later,
        warnings=report.warnings,
    )
