"""
The HTTP API as values of the configuration; L{proxyd.config.api} reads them from a file.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from proxyd.config.secrets import Secret

if TYPE_CHECKING:
    from proxyd.config.model import Listener


@dataclass(frozen=True, slots=True)
class ApiTls:
    """The certificate of the API's listeners, and its key."""

    certificate: str
    key: str


@dataclass(frozen=True, slots=True)
class Api:
    """
    The HTTP API.

    @param listen: none: only the UNIX socket
    @param tls: None: plain HTTP
    @param socket: the path of the UNIX socket; None: in the runtime or state directory
    @param admin_token: None: made and kept in the state directory
    @param metrics_token: opens C{/metrics} only
    @param hosts: names that a C{Host} header may say
    """

    listen: tuple[Listener, ...] = ()
    tls: ApiTls | None = None
    socket: str | None = None
    admin_token: Secret | None = field(default=None, repr=False)
    metrics_token: Secret | None = field(default=None, repr=False)
    hosts: tuple[str, ...] = ()
