"""
All reverse ports: those of the configuration, and those that the API made, which
the store brings back after a restart.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, fields
from ipaddress import ip_network
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList
from twisted.logger import Logger

from proxyd.agents.ports import Port
from proxyd.agents.registry import AgentRegistry
from proxyd.config.agents_model import Agents as Settings
from proxyd.config.agents_model import ReversePort
from proxyd.errors import StartError
from proxyd.interfaces import IStore
from proxyd.net.clock import hour
from proxyd.records import Conflict, Invalid, ProxyRecord, Unknown

_log = Logger()


class Proxies(Service):
    """
    The reverse ports there are.

    @ivar settings: the C{agents} section in force
    """

    name = "proxies"

    def __init__(
        self,
        reactor: Any,
        store: IStore,
        agents: AgentRegistry,
        settings: Settings,
        next_number: Callable[[], int],
    ) -> None:
        self.settings = settings
        self._reactor = reactor
        self._store = store
        self._agents = agents
        self._next_number = next_number
        self._ports: dict[str, Port] = {}
        self._of_file: dict[ReversePort, str] = {}

    def __iter__(self) -> Iterator[Port]:
        return iter(list(self._ports.values()))

    def find(self, proxy_id: str) -> Port:
        """
        A port by its id.

        @raise Unknown: there is none
        """
        port = self._ports.get(proxy_id)
        if port is None:
            raise Unknown(f"there is no proxy {proxy_id}")
        return port

    def open_configured(self) -> None:
        """
        Open the ports of the configuration.

        @raise StartError: one can't be had
        """
        for settings in self.settings.proxies:
            self._open_of_file(settings)

    async def open_kept(self) -> None:
        """Open the ports that the store remembers; one that can't be had is an error in the log."""
        for record in await self._store.proxies():
            try:
                self._open(record.proxy_id, _read(record.document))
            except (StartError, ValueError, TypeError, KeyError) as error:
                _log.error(
                    "proxy {proxy_id} is not open: {reason}",
                    proxy_id=record.proxy_id,
                    reason=str(error),
                )

    def adopt(self, settings: Settings) -> None:
        """Follow a reload: ports that went are closed, ports that came are opened."""
        self.settings = settings
        closing = []
        for old in set(self._of_file) - set(settings.proxies):
            port = self._ports.pop(self._of_file.pop(old))
            closing.append(port.close("the configuration has it so no more"))
        # One that has changed comes again, as soon as its old self has let go of the address.
        DeferredList(closing).addCallback(lambda _: self._open_new())

    def _open_new(self) -> None:
        """Open those of the configuration that are not open."""
        for new in self.settings.proxies if self.running else ():
            if new not in self._of_file:
                try:
                    self._open_of_file(new)
                except StartError as error:
                    _log.error("not opened: {reason}", reason=str(error))

    async def create(self, settings: ReversePort) -> Port:
        """
        Open a port, and remember it.

        @raise Unknown: an agent is not known
        @raise Invalid: the port is none that may be opened
        @raise Conflict: the port is taken
        @raise StoreError: it could not be kept
        """
        for client_id in settings.client_ids:
            if not self._agents.known(client_id):
                raise Unknown(f"there is no agent {client_id}: POST /api/agents makes one")
        low, high = self.settings.ports
        if not low <= settings.local_port <= high:
            raise Invalid(f"local_port must be from {low} to {high} (agents.ports)")
        proxy_id = secrets.token_hex(8)
        try:
            port = self._open(proxy_id, settings)
        except StartError as error:
            raise Conflict(str(error)) from error
        try:
            record = ProxyRecord(proxy_id, _written(settings), int(hour()))
            await self._store.add_proxy(record)
        except BaseException:
            del self._ports[proxy_id]
            port.close("it could not be kept")
            raise
        return port

    async def remove(self, proxy_id: str) -> Port:
        """
        Close a port for ever.

        @raise Unknown: there is none
        @raise Invalid: the configuration has it
        """
        port = self.find(proxy_id)
        if proxy_id in self._of_file.values():
            raise Invalid("this one is in the configuration: take it away there, and reload")
        await self._store.remove_proxy(proxy_id)
        self._ports.pop(proxy_id, None)
        await port.close("it was deleted")
        return port

    def stopService(self) -> Deferred[Any]:
        """Close all ports; they are opened again at the next start."""
        super().stopService()  # type: ignore[no-untyped-call]
        ports, self._ports = list(self._ports.values()), {}
        self._of_file.clear()
        return DeferredList([port.close("proxyd stops") for port in ports])

    def _open_of_file(self, settings: ReversePort) -> None:
        proxy_id = f"{settings.bind}:{settings.local_port}"
        self._open(proxy_id, settings)
        self._of_file[settings] = proxy_id

    def _open(self, proxy_id: str, settings: ReversePort) -> Port:
        port = Port(proxy_id, settings, self._agents, self._reactor, self._next_number)
        port.open()
        self._ports[proxy_id] = port
        return port


def _written(settings: ReversePort) -> str:
    """As JSON text, for the store."""
    found: dict[str, Any] = asdict(settings)
    if settings.allow is not None:
        found["allow"] = [str(network) for network in settings.allow]
    return json.dumps(found)


def _read(document: str) -> ReversePort:
    """
    What L{_written} wrote; a key that this version does not know is left out.

    @raise ValueError: it is none
    """
    found: Mapping[str, Any] = json.loads(document)
    known = {field.name for field in fields(ReversePort)}
    values = {name: value for name, value in found.items() if name in known}
    values["client_ids"] = tuple(values["client_ids"])
    allow: Sequence[str] | None = values.get("allow")
    values["allow"] = None if allow is None else tuple(ip_network(text) for text in allow)
    return ReversePort(**values)
