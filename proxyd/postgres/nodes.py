"""
The other proxyd nodes that share a store: who they are, and cancel requests that are for them.

Behind a balancer a CancelRequest comes by a connection of its own, and so
often to another node than the one its session is on. The key tells whose it is.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Protocol

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.protocol import Factory, connectionDone
from twisted.internet.protocol import Protocol as Connection
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from proxyd.config import values
from proxyd.config.token_settings import NODES_AGAIN
from proxyd.errors import DialError
from proxyd.interfaces import IDialer, IStore
from proxyd.net.tasks import spawn
from proxyd.records import NodeRecord, StoreError
from proxyd.target import Principal, Target
from proxyd.wire.pg.messages import cancel_request

_log = Logger()

_NOBODY = Principal("", "")


class NodeKeys(Protocol):
    """Cancel keys that carry their node's number."""

    node: int

    def node_of(self, pid: int) -> int:
        """The node that a key's number names."""


class Nodes(Service):
    """This node among the others."""

    name = "nodes"

    def __init__(
        self,
        clock: IReactorTime,
        store: IStore,
        keys: NodeKeys,
        dialer: IDialer,
        address: Callable[[], str],
        *,
        every: float,
        patience: float,
    ) -> None:
        """
        @param keys: whose numbers carry this node's, as soon as it has one
        @param dialer: goes straight to another node
        @param address: C{HOST:PORT} where the others reach our listener
        @param every: seconds between two signs of life
        @param patience: seconds that a cancel request to another node may take
        """
        self._clock = clock
        self._store = store
        self._keys = keys
        self._dialer = dialer
        self._address = address
        self._patience = patience
        self._every = every
        self._mark = secrets.token_hex(8)
        self._known: dict[int, NodeRecord] = {}
        self._look_again = float("-inf")
        self._living = LoopingCall(self._live)
        self._living.clock = clock
        self._work: Deferred[None] | None = None

    def startService(self) -> None:
        """Tell the others that we are here."""
        super().startService()  # type: ignore[no-untyped-call]
        self._living.start(self._every, now=True).addErrback(
            lambda failure: _log.failure("the signs of life stopped", failure)
        )

    def stopService(self) -> Deferred[None]:
        """Tell the others that we are gone."""
        super().stopService()  # type: ignore[no-untyped-call]
        if self._living.running:
            self._living.stop()
        if self._work is not None:
            self._work.cancel()
        return self._store.leave(self._mark).addErrback(lambda _: None)

    async def cancel(self, pid: int, key: bytes) -> None:
        """Hand a cancel request on to the node that its key is of; never fails."""
        number = self._keys.node_of(pid)
        try:
            # Whoever sends numbers of nodes that there are not must not make us ask for each.
            if number not in self._known and self._clock.seconds() >= self._look_again:
                await self._look()
            node = self._known.get(number)
            if node is None:
                return
            host, port = values.host_and_port(node.address)
            endpoint = self._dialer.endpoint_for(Target(host, port), _NOBODY)
            asking: Deferred[None] = Deferred.fromCoroutine(_ask(endpoint, pid, key))
            await asking.addTimeout(self._patience, self._clock)
        except (DialError, StoreError, TimeoutError, values.BadValue) as error:
            _log.warn(
                "a cancel request for node {number} could not be handed on: {reason}",
                number=number,
                reason=str(error) or type(error).__name__,
            )

    def _live(self) -> None:
        if self._work is None:
            self._work = spawn(self._join(), _log, "telling other nodes that we live")
            self._work.addCallback(lambda _: self._joined())

    def _joined(self) -> None:
        self._work = None

    async def _join(self) -> None:
        try:
            node = await self._store.join(self._mark, self._address())
            self._keys.node = node.number
            await self._look()
        except StoreError as error:
            _log.debug("no sign of life: {reason}", reason=str(error))

    async def _look(self) -> None:
        self._look_again = self._clock.seconds() + NODES_AGAIN
        self._known = {node.number: node for node in await self._store.nodes()}


async def _ask(endpoint: object, pid: int, key: bytes) -> None:
    """Send a cancel request, and wait until it was taken: the other side closes then."""
    asking: _Asking = await endpoint.connect(Factory.forProtocol(_Asking))  # type: ignore[attr-defined]
    try:
        asking.transport.write(cancel_request(pid, key))  # type: ignore[union-attr]
        await asking.closed
    finally:
        asking.transport.abortConnection()  # type: ignore[union-attr]


class _Asking(Connection):
    """A connection on which one thing is said."""

    def __init__(self) -> None:
        self.closed: Deferred[None] = Deferred()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """It was taken."""
        if not self.closed.called:
            self.closed.callback(None)
