"""Where the API's UNIX socket is: for the daemon that opens it, and for who looks for it."""

from __future__ import annotations

import os
from collections.abc import Mapping

from proxyd.config.model import Config
from proxyd.net.certificates import state_directory

NAME = "api.sock"

USUAL = "/run/proxyd/api.sock"
"""Where it is under the systemd unit that comes with proxyd."""


def socket_path(config: Config, environment: Mapping[str, str]) -> str:
    """
    The path of the socket that a daemon of this configuration opens.

    C{api.socket}, else in C{$RUNTIME_DIRECTORY} (which systemd sets), else in
    the state directory.
    """
    if config.api is not None and config.api.socket is not None:
        return config.api.socket
    # systemd names several folders with colons between them: systemd.exec(5).
    runtime = environment.get("RUNTIME_DIRECTORY", "").split(":")[0]
    folder = os.path.abspath(runtime) if runtime else state_directory(config.state, environment)
    return os.path.join(folder, NAME)


def socket_candidates(config: Config, environment: Mapping[str, str]) -> list[str]:
    """
    Where to look for the socket of a daemon that may have other variables than we.

    The first that is there is the one.
    """
    first = socket_path(config, environment)
    if config.api is not None and config.api.socket is not None:
        return [first]
    kept = os.path.join(state_directory(config.state, environment), NAME)
    return list(dict.fromkeys((first, kept, USUAL)))
