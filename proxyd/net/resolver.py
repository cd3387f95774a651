"""
Name look-ups in threads of our own.

Twisted's look-ups share ten threads with everything else that blocks, so that
a few dead name servers would keep a connect to localhost waiting. These
threads look up names and do nothing else; an address in text needs none.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.internet.interfaces import IReactorFromThreads
from twisted.python.failure import Failure

from proxyd.errors import DialError, DialFailure
from proxyd.net.threads import Overloaded, Threads

MOST_ASKED = 10_000
"""Names that may be asked for at a time."""


@dataclass(frozen=True, slots=True)
class Address:
    """
    One place that a name stands for.

    @param family: C{AF_INET} or C{AF_INET6}
    @param host: the IP address in text; a link-local one keeps its C{%zone}
    @param port: as it was asked for
    """

    family: socket.AddressFamily
    host: str
    port: int


LookUp = Callable[[str, int], Sequence[Address]]
"""A blocking look-up: may raise OSError or ValueError; runs in a thread."""


def system_look_up(host: str, port: int) -> list[Address]:
    """
    Ask the system's resolver (getaddrinfo(3)), in its order (RFC 6724). Blocks.

    @raise OSError: C{socket.gaierror}: there is no such name, or nobody to ask
    @raise ValueError: this can't be a name (labels too long, a NUL...)
    """
    found = socket.getaddrinfo(  # noqa: TID251 (this is the resolver)
        host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP
    )
    addresses = [
        Address(family, _with_zone(str(address[0]), address), port)
        for family, _, _, _, address in found
    ]
    return list(dict.fromkeys(addresses))


def literal(host: str, port: int) -> Address | None:
    """The address that this text is, or None when it is a name."""
    try:
        address = ip_address(host)
    except ValueError:
        return None
    family = socket.AF_INET6 if isinstance(address, IPv6Address) else socket.AF_INET
    return Address(family, host, port)


class Resolver(Service):
    """
    Looks names up in a bounded number of threads, without ever blocking the reactor.

    There is no deadline in here: callers C{addTimeout}. A look-up that was
    cancelled while it waited for a thread is never begun; one that was begun
    runs to its end unseen.

    @param reactor: where answers come back
    @param threads: the most look-ups at a time; the rest wait in order
    @param look_up: the blocking look-up
    @param most: names that may be asked for at a time; one more fails
    """

    name = "resolver"

    def __init__(
        self,
        reactor: IReactorFromThreads,
        threads: int = 8,
        look_up: LookUp = system_look_up,
        most: int = MOST_ASKED,
    ) -> None:
        self._threads = Threads(reactor, self.name, threads, most)
        self._look_up = look_up

    def startService(self) -> None:
        """Take questions."""
        super().startService()  # type: ignore[no-untyped-call]
        self._threads.startService()  # type: ignore[no-untyped-call]

    def stopService(self) -> None:
        """
        Fail what is still asked, and let the threads go.

        A thread in the midst of a look-up ends by itself or with the process:
        nothing waits for it.
        """
        self.running = 0
        self._threads.stopService()

    def resolve(self, host: str, port: int) -> Deferred[list[Address]]:
        """
        The addresses of a host, best first.

        @param host: a name or an IP address in text; an address is answered at once
        @return: fires with at least one address; fails with L{DialError} NAME
        """
        address = literal(host, port)
        if address is not None:
            return succeed([address])
        if not host:
            return fail(DialError(DialFailure.NAME, "no host is named"))
        looking = self._threads.run(self._look_up, host, port)
        return looking.addCallbacks(
            _found, self._not_found, callbackArgs=(host,), errbackArgs=(host,)
        )

    def _not_found(self, failure: Failure, host: str) -> list[Address]:
        problem = failure.value
        if isinstance(problem, CancelledError):
            raise problem
        if isinstance(problem, Overloaded):
            why = "too many names are asked for" if self.running else "the resolver is stopped"
        elif isinstance(problem, OSError):
            why = problem.strerror or type(problem).__name__
        elif isinstance(problem, ValueError):  # also UnicodeError, of the IDNA encoding
            why = "not a host name"
        else:
            why = f"look-up failed ({type(problem).__name__})"
        raise _refusal(host, why)


def _found(addresses: Sequence[Address], host: str) -> list[Address]:
    if not addresses:
        raise _refusal(host, "has no IPv4 or IPv6 address")
    return list(addresses)


def _refusal(host: str, why: str) -> DialError:
    return DialError(DialFailure.NAME, f"{host}: {why}")


def _with_zone(host: str, address: Sequence[Any]) -> str:
    """A link-local IPv6 address is only whole with its zone (RFC 4007, section 11)."""
    if len(address) == 4 and address[3] and "%" not in host:
        return f"{host}%{address[3]}"
    return host
