"""
What a way to authenticate is given, and what it gives back.

A *way* is what one value of C{auth:} stands for. It has a file of its own and
one entry in L{proxyd.postgres.authentication}.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from proxyd.net.end import End
from proxyd.postgres.directory import Address, Place
from proxyd.records import Grant
from proxyd.target import Principal


@dataclass(frozen=True, slots=True)
class Term:
    """
    What ends a session before its client does.

    @param grant: of the token that let the client in
    """

    grant: Grant


@dataclass(frozen=True, slots=True)
class Admission:
    """
    A client is who it says it is.

    @param principal: who it is: the name it came with, or the one that its
        token or certificate stands for
    @param term: None: the session ends when its client does
    """

    principal: Principal
    term: Term | None = None


class Stranger(Protocol):
    """A client that nobody has checked yet, as a way to authenticate sees it."""

    @property
    def end(self) -> End:
        """Its socket; C{end.secure} is None where it came without TLS."""

    @property
    def address(self) -> Address | None:
        """Where it comes from, as announced; None: a UNIX socket."""

    @property
    def source(self) -> str:
        """Its address as the log shows it, with the port."""

    @property
    def host(self) -> str:
        """Its address as text, or C{unix}."""

    @property
    def local(self) -> bool:
        """Whether its bytes never leave this machine."""

    @property
    def private(self) -> bool:
        """Whether a secret may be asked for: nobody can listen, or C{tls: disable} accepts it."""

    async def ask(self, request: bytes, answer: str = "password response") -> bytes:
        """
        Send an Authentication message, and wait for what the client says to it.

        May be called several times in one login (SASL); C{auth_timeout} holds
        for all of it.

        @param answer: what is expected, in words for the client that sends another message
        @return: the body of its message C{p}: 65,536 bytes at most
        @raise Fatal: it can't be waited for: too many clients are here
        @raise PgProtocolError: it sent something else, or too much
        """


class Way(Protocol):
    """One way to authenticate."""

    async def admit(
        self, stranger: Stranger, place: Place | None, principal: Principal
    ) -> Admission:
        """
        Find out whether a client is who it says it is.

        Nothing that the client can see or measure may depend on whether C{place} is None.

        @param place: where it wants to go; None: there is no such database,
            and it is to be refused as somebody with a wrong password is
        @param principal: who it says it is
        @raise Fatal: it is not
        """
