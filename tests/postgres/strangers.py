"""Clients that nobody has checked yet, for tests of the ways to authenticate."""

from __future__ import annotations

from collections.abc import Awaitable
from ipaddress import ip_address
from typing import Any, TypeVar

from twisted.internet.defer import Deferred

from proxyd.postgres.directory import Address
from tests.support import pgbytes

T = TypeVar("T")


class FakeStranger:
    """
    A L{Stranger<proxyd.postgres.admission.Stranger>} that answers from a list.

    @ivar asked: what it was asked, with what was expected of it
    """

    end: Any = None

    def __init__(self, *answers: bytes, host: str = "127.0.0.1", private: bool = True) -> None:
        """@param answers: bodies of the messages that it will send"""
        self._answers = list(answers)
        self.host = self.source = host
        self.private = private
        self.asked: list[tuple[bytes, str]] = []

    @property
    def address(self) -> Address | None:
        """Where it comes from."""
        return None if self.host == "unix" else ip_address(self.host)

    @property
    def local(self) -> bool:
        """Whether it comes from this machine."""
        return self.address is None or self.address.is_loopback

    async def ask(self, request: bytes, answer: str = "password response") -> bytes:
        """Give the next answer."""
        self.asked.append((request, answer))
        return self._answers.pop(0)


def password(text: str) -> bytes:
    """The body of a PasswordMessage."""
    return pgbytes.cstring(text)


def begun(work: Awaitable[T]) -> Deferred[T]:
    """Begin a coroutine."""
    return Deferred.fromCoroutine(work)  # type: ignore[arg-type]
