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
from queue import SimpleQueue
from threading import Thread
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IReactorFromThreads

from proxyd.errors import DialError, DialFailure


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
    """

    name = "resolver"

    def __init__(
        self, reactor: IReactorFromThreads, threads: int = 8, look_up: LookUp = system_look_up
    ) -> None:
        self._reactor = reactor
        self._most = threads
        self._look_up = look_up
        self._wanted: SimpleQueue[_Question | None] = SimpleQueue()
        self._unanswered: dict[_Question, None] = {}
        self._threads = 0

    def stopService(self) -> None:
        """
        Fail what is still asked, and let the threads go.

        A thread in the midst of a look-up ends by itself or with the process:
        nothing waits for it.
        """
        self.running = 0
        for question in list(self._unanswered):
            self._settle(question, _refusal(question.host, "the resolver is stopped"))
        for _ in range(self._threads):
            self._wanted.put(None)
        # A thread that hangs takes its None from the old queue, whatever is asked after a restart.
        self._wanted = SimpleQueue()
        self._threads = 0

    def resolve(self, host: str, port: int) -> Deferred[list[Address]]:
        """
        The addresses of a host, best first.

        @param host: a name or an IP address in text; an address is answered at once
        @return: fires with at least one address; fails with L{DialError} NAME
        """
        address = literal(host, port)
        if address is not None:
            return succeed([address])
        if not host or not self.running:
            why = "the resolver is stopped" if host else "no host is named"
            return fail(DialError(DialFailure.NAME, f"{host}: {why}" if host else why))
        question = _Question(host, port)
        question.answer = Deferred(lambda _: self._forget(question))
        self._unanswered[question] = None
        if self._threads < min(self._most, len(self._unanswered)):
            self._threads += 1
            # A daemon: a look-up that hangs must not hold up the end of the process.
            Thread(
                target=self._work,
                args=(self._wanted,),
                name=f"resolver-{self._threads}",
                daemon=True,
            ).start()
        self._wanted.put(question)
        return question.answer

    def _forget(self, question: _Question) -> None:
        question.given_up = True
        self._unanswered.pop(question, None)

    def _work(self, wanted: SimpleQueue[_Question | None]) -> None:
        """A thread's life: one question after the other, until it gets None."""
        while (question := wanted.get()) is not None:
            if question.given_up:
                continue
            outcome: list[Address] | DialError
            try:
                outcome = list(self._look_up(question.host, question.port))
            except OSError as error:
                outcome = _refusal(question.host, error.strerror or type(error).__name__)
            except ValueError:  # also UnicodeError, of the IDNA encoding
                outcome = _refusal(question.host, "not a host name")
            except Exception as error:
                # A thread that died here would leave its question open for ever.
                outcome = _refusal(question.host, f"look-up failed ({type(error).__name__})")
            self._reactor.callFromThread(self._settle, question, outcome)

    def _settle(self, question: _Question, outcome: list[Address] | DialError) -> None:
        if question not in self._unanswered:
            return
        self._forget(question)
        if isinstance(outcome, DialError):
            question.answer.errback(outcome)
        elif not outcome:
            question.answer.errback(_refusal(question.host, "has no IPv4 or IPv6 address"))
        else:
            question.answer.callback(outcome)


class _Question:
    """A look-up somebody waits for."""

    __slots__ = ("answer", "given_up", "host", "port")

    answer: Deferred[list[Address]]

    def __init__(self, host: str, port: int) -> None:
        self.host = host
        self.port = port
        self.given_up = False


def _refusal(host: str, why: str) -> DialError:
    return DialError(DialFailure.NAME, f"{host}: {why}")


def _with_zone(host: str, address: Sequence[Any]) -> str:
    """A link-local IPv6 address is only whole with its zone (RFC 4007, section 11)."""
    if len(address) == 4 and address[3] and "%" not in host:
        return f"{host}%{address[3]}"
    return host
