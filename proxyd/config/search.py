"""
Where the configuration is looked for, and what is said when there is none.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from proxyd.config.environment import PROCESS, Variables, read_dotenv
from proxyd.errors import ConfigError, Problem

_ENDINGS = (".yaml", ".yml", ".toml")


@dataclass(frozen=True, slots=True)
class Found:
    """
    Where the configuration is.

    @param path: the file; None: the environment is all there is
    @param sentence: what the first line of the log says about it
    """

    path: str | None
    sentence: str


def find(
    explicit: str | None,
    *,
    directory: str,
    environment: Mapping[str, str],
    home: str,
    system: str = "/etc/proxyd",
) -> Found:
    """
    Find the configuration: the file named, else the first that exists of
    C{./proxyd.yaml} and C{./config.yaml} (also C{.yml}, C{.toml}), the user's
    C{proxyd/config.yaml} and C{session-proxy/config.yaml} (C{.toml}) below
    C{$XDG_CONFIG_HOME}, and C{/etc/proxyd/proxyd.yaml}; else the environment,
    if a variable is set there or in C{./.env}.

    @param explicit: what C{-c} named
    @param directory: where C{./} is
    @param home: where C{.config} is, if C{XDG_CONFIG_HOME} is not set
    @param system: the system's folder
    @raise ConfigError: there is nothing, or the file named does not exist
    """
    if explicit is not None:
        if not os.path.exists(explicit):
            raise ConfigError([Problem(explicit, None, "", "there is no such file")])
        return Found(explicit, f"configuration: {explicit}")
    looked = _places(directory, environment, home, system)
    for path in looked:
        if os.path.exists(path):
            return Found(path, f"configuration: {path}")
    variables = Variables(environment, read_dotenv(dotenv_beside(None, directory)))
    sources = variables.sources()
    if sources:
        named = " and ".join("the environment" if s == PROCESS else s for s in sources)
        return Found(None, f"configuration: from {named} ({', '.join(variables.set_names())})")
    raise ConfigError([Problem("", None, "", _nothing(directory, environment, home, system))])


def dotenv_beside(path: str | None, directory: str) -> str:
    """Where the C{.env} is: beside the file, or in C{directory} where there is no file."""
    return os.path.join(directory if path is None else os.path.dirname(path) or ".", ".env")


def _places(
    directory: str, environment: Mapping[str, str], home: str, system: str
) -> tuple[str, ...]:
    user = _user_folder(environment, home)
    return (
        *(os.path.join(directory, f"proxyd{ending}") for ending in _ENDINGS),
        *(os.path.join(directory, f"config{ending}") for ending in _ENDINGS),
        *(os.path.join(user, "proxyd", f"config{ending}") for ending in _ENDINGS),
        *(os.path.join(user, "session-proxy", f"config{ending}") for ending in _ENDINGS),
        *(os.path.join(system, f"proxyd{ending}") for ending in _ENDINGS),
    )


def _user_folder(environment: Mapping[str, str], home: str) -> str:
    folder = environment.get("XDG_CONFIG_HOME", "")
    # "If an implementation encounters a relative path, it should consider it
    # invalid and ignore it" (XDG Base Directory Specification).
    return folder if os.path.isabs(folder) else os.path.join(home, ".config")


def _nothing(directory: str, environment: Mapping[str, str], home: str, system: str) -> str:
    user = _user_folder(environment, home)
    places = (
        os.path.join(directory, "proxyd.yaml"),
        os.path.join(directory, "config.yaml"),
        os.path.join(user, "proxyd", "config.yaml"),
        os.path.join(user, "session-proxy", "config.yaml"),
        os.path.join(system, "proxyd.yaml"),
    )
    return (
        f"no configuration: looked for {', '.join(places)} (also .yml and .toml) and for "
        f"GPRXY_USER, DB_HOST and the like in the environment and "
        f"{os.path.join(directory, '.env')}; `proxyctl init` writes a file to start from"
    )
