"""The ways out: dialers, streams, upstreams, and the router that chooses among them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from socket import socket
from typing import Any

from twisted.application.service import IService
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import (
    IConsumer,
    IPushProducer,
    IStreamClientEndpoint,
    ITransport,
)
from zope.interface import Attribute, Interface

from proxyd.rules.routes import Rule, Rules
from proxyd.target import Principal, Target


class IDialer(Interface):
    """Whoever knows the way to a target."""

    def endpoint_for(
        target: Target,  # noqa: N805 (an interface of zope has no self)
        principal: Principal,
    ) -> IStreamClientEndpoint:
        """
        The way to a target, not yet gone.

        Nothing is looked up or opened before C{connect()} is called on the
        endpoint. That call's Deferred fires with the protocol that the factory
        built, once it is connected. It fails with
        L{DialError<proxyd.errors.DialError>} only; when it is cancelled it
        fails with C{CancelledError}. In both cases nothing is left behind: no
        socket, no timer, no name look-up that somebody waits for.

        @param target: where to go
        @param principal: for whom; a way may depend on it
        """


class ISocketEndpoint(IStreamClientEndpoint):
    """An endpoint that can also give the socket itself, with nothing of Twisted's on it."""

    def connect_socket(link: Any) -> Deferred[socket]:  # noqa: N805
        """
        As C{connect}, but the caller sees to the deadline, and owns what it gets.

        @param link: the L{Link<proxyd.net.link.Link>}, which waits for the
            connection; the socket is not in it afterwards
        @return: a non-blocking socket
        """


class IStream(ITransport, IPushProducer, IConsumer):
    """
    A transport of ours, with the manners of Twisted's TCP: what the protocol
    that an L{IUpstream}'s endpoint connects finds as its C{transport}.

    While it is paused (C{pauseProducing}, also from C{connectionMade}) its
    protocol is given no data, and the far side is held back after a bounded
    number of bytes. A push producer registered with it is paused while more
    than a bounded number of bytes wait to be sent. The protocol's
    C{connectionLost} is called once: with C{ConnectionDone} after an end in
    order, with C{ConnectionLost} or C{ConnectionAborted} after any other. A
    protocol that provides C{IHalfCloseableProtocol} is told
    C{readConnectionLost} when the far side has sent its last byte; for one
    that does not, that is the end of the connection, as in Twisted.
    """

    def loseWriteConnection() -> None:
        """
        Send what waits, then tell the far side that no more will come.

        Where the way can't say it: send what waits, then close (TLS), or wait
        for the far side's end first, as long as it says something (SSM, whose
        word for it would cut the answer off).
        """

    def abortConnection() -> None:
        """Close at once, and throw away what waits; a reset where the way can carry it."""


@dataclass(frozen=True, slots=True)
class InstanceStatus:
    """
    One of the places by which an upstream may be reached.

    @param name: instance id, C{HOST:PORT}, or agent id
    @param state: C{connected}, C{connecting} or C{lost}
    @param sessions: how many sessions (SSH or SSM) stand to it
    @param streams: how many connections go through it now
    @param last_error: why it was lost or could not be reached, last time; empty: never
    """

    name: str
    state: str
    sessions: int = 0
    streams: int = 0
    last_error: str = ""


@dataclass(frozen=True, slots=True)
class UpstreamStatus:
    """
    How an upstream is, for the status and the metrics.

    @param state: C{up} (new connections can be made at once), C{connecting},
        C{down}, or C{stopped}
    @param in_use: the name of the instance that new connections go to; None: none
    @param instances: in failover order
    @param last_error: what went wrong last, in one line; empty: nothing yet
    @param opened: connections made through it since the start
    @param failed: connections that could not be made because the way failed
    """

    state: str
    in_use: str | None
    instances: tuple[InstanceStatus, ...]
    last_error: str = ""
    opened: int = 0
    failed: int = 0


class IUpstream(IDialer, IService):
    """
    A way out that is known by a name: direct, SSH, SSM, a reverse agent.

    Since it is an L{IDialer}, a way that runs over another one is simply given
    that other one where it would be given the direct dialer. As a service it
    is started before any listener opens and stopped after all have closed;
    C{startService} does not wait for it to be up.

    C{endpoint_for(...).connect()} gives a protocol whose transport is an
    L{IStream}. Its failures tell whose fault it was, which failover depends
    on: C{REFUSED}, C{UNREACHABLE}, C{NAME}, C{TIMEOUT} and C{DENIED} are what
    became of the I{target}; C{BROKEN}, C{LOST} and C{TLS} mean that the way
    itself failed on every instance that could be tried within the dial's time.
    """

    name = Attribute("C{str}: as routes and C{via} call it")

    resolves = Attribute(
        """
        C{str}: C{far}: a name in a target goes there unresolved. C{local}: it
        is resolved, checked and pinned here first, so targets are addresses.
        """
    )

    carries_udp = Attribute("C{bool}: whether datagrams can go this way")

    def ready() -> Deferred[None]:
        """
        When the way has first been made, or could not be.

        What C{start: required} waits for. Calling it twice is no trouble.

        @return: a Deferred that fires with None as soon as one instance is
            connected, and fails with L{StartError<proxyd.errors.StartError>},
            whose one line names the upstream, its instances and why, when all
            of them have failed once
        """

    def status() -> UpstreamStatus:
        """How it is at this moment."""


@dataclass(frozen=True, slots=True)
class Passage:
    """
    A way that was found for a target, and not gone yet.

    @param way: C{direct}, or the name of an upstream
    @param rule: which route says so; None: the default
    @param target: what was asked for, its host in its one form
    @param addresses: where it will be dialled, each judged; none: the far side looks the name up
    @param endpoint: makes the connection, as an L{IDialer}'s does
    @param instance: says by which instance of the upstream it goes now
    """

    way: str
    rule: Rule | None
    target: Target
    addresses: tuple[str, ...]
    endpoint: IStreamClientEndpoint
    instance: Callable[[], str]


class IRouter(IDialer):
    """Whoever knows which way a target goes: the rules and the ways together."""

    def find(target: Target, principal: Principal) -> Deferred[Passage]:  # noqa: N805
        """
        The way of a target. Cancelling it leaves nothing behind.

        Fails with L{DialError<proxyd.errors.DialError>} only: C{DENIED} by the
        rules, C{NAME} where it had to be looked up here and was not found.
        """

    def known(target: Target, principal: Principal) -> Passage | None:  # noqa: N805
        """What L{find} found before and would find again; None: L{find} must be asked."""

    def goes_direct(user: str) -> bool:  # noqa: N805
        """Whether anything goes the direct way for this user: what BIND and UDP need."""

    def pac_rules() -> Rules:
        """The routes in force, for a PAC file."""
