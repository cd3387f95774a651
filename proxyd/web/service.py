"""The API as a service: its listeners, opened and closed."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from typing import Any

from OpenSSL import SSL
from twisted.application.service import Service
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import (
    IListeningPort,
    IProtocolFactory,
)
from twisted.logger import Logger
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.web.resource import IResource

from proxyd.config.model import Listener
from proxyd.net.context import Context
from proxyd.net.listening import open_port
from proxyd.web.http import ApiSite
from proxyd.web.local_socket import LocalDoor, is_ours

_log = Logger()

LOCAL_CLIENTS = 64
"""Connections at a time by the UNIX socket, beside those by TCP."""


class Web(Service):
    """
    Serves the API at its listeners, and at its UNIX socket.

    @ivar tls: how TLS is spoken at the listeners
    @ivar path: of the UNIX socket
    """

    name = "web"

    def __init__(
        self,
        reactor: Any,
        resource: IResource,
        listen: Sequence[Listener],
        path: str,
        tls: SSL.Context | None,
        counted: Callable[[str, int], object],
        allowed: Callable[[int], bool] = is_ours,
    ) -> None:
        """
        @param path: of the UNIX socket
        @param counted: told of each answer: which call, and its status
        @param allowed: whether the user of this id may use the UNIX socket
        """
        self.tls = Context(tls)
        self._reactor = reactor
        self._listen = listen
        self.path = path
        self._allowed = allowed
        self._site = ApiSite(resource, reactor, counted)
        self._local_site = ApiSite(resource, reactor, counted, LOCAL_CLIENTS)
        self._ports: list[IListeningPort] = []
        self._door: LocalDoor | None = None

    def open(self) -> None:
        """
        Open the listeners and the socket.

        @raise StartError: one can't be opened
        """
        factory: IProtocolFactory = self._site
        if self.tls.context is not None:
            factory = TLSMemoryBIOFactory(self.tls, False, self._site)
        for listener in self._listen:
            self._ports.append(open_port(self._reactor, listener, factory))
            _log.info("the API is at {url}", url=self.urls()[-1])
        self._door = LocalDoor(self._reactor, self.path, self._local_site, self._allowed)
        _log.info("the API is at {path}", path=self.path)

    def urls(self) -> list[str]:
        """Where it is, as URLs."""
        scheme = "http" if self.tls.context is None else "https"
        return [_url(scheme, port.getHost()) for port in self._ports]

    def clients(self) -> int:
        """Connections that are open."""
        return len(self._site.clients) + len(self._local_site.clients)

    def stopService(self) -> Deferred[None]:
        """Close the listeners, and every connection."""
        super().stopService()  # type: ignore[no-untyped-call]
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        ports, self._ports = self._ports, []
        door, self._door = self._door, None
        for port in ports:
            await maybeDeferred(port.stopListening)
        if door is not None:
            await door.stop()
        await self._site.close()
        await self._local_site.close()


def _url(scheme: str, address: Any) -> str:
    """The URL of an address that is listened at."""
    host = getattr(address, "host", None)
    if host is None:
        return f"unix:{getattr(address, 'name', b'').decode('utf-8', 'replace')}"
    host = {"0.0.0.0": socket.gethostname(), "::": socket.gethostname()}.get(host, host)
    return (
        f"{scheme}://[{host}]:{address.port}"
        if ":" in host
        else f"{scheme}://{host}:{address.port}"
    )
