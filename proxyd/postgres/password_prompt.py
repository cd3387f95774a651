"""
The password, asked for in clear, and who is asked whether it is right.

One prompt serves all ways that check a password. Where several are offered,
the password's shape decides once which of them is asked: its answer stands, and
no other hears of the password.
"""

from __future__ import annotations

from typing import Protocol

from proxyd.postgres.admission import Admission, Stranger
from proxyd.postgres.answers import Fatal, wrong_password
from proxyd.postgres.directory import Place
from proxyd.target import Principal
from proxyd.wire.pg import messages


class PasswordCheck(Protocol):
    """Whoever knows whether a password is right."""

    def takes(self, password: bytes) -> bool:
        """Whether a password has the shape of those checked here; never waits."""

    async def check(self, place: Place | None, principal: Principal, password: bytes) -> Admission:
        """
        Check a password; it is not empty.

        @param place: None: no password is right, and it takes as long to say so
        @raise Fatal: it is wrong, or can't be checked
        """


class ByPassword:
    """A way to authenticate: by a password that one of several checks."""

    def __init__(self, *checks: PasswordCheck) -> None:
        """@param checks: asked for the shape in this order; the last takes any password"""
        self._checks = checks

    async def admit(
        self, stranger: Stranger, place: Place | None, principal: Principal
    ) -> Admission:
        """
        Ask for the password, and have it checked.

        @raise Fatal: it is wrong, empty, or could be listened to
        """
        password = await ask_password(stranger, principal)
        for check in self._checks[:-1]:
            if check.takes(password):
                return await check.check(place, principal, password)
        return await self._checks[-1].check(place, principal, password)


async def ask_password(stranger: Stranger, principal: Principal) -> bytes:
    """
    Ask for the password in clear, where nobody can listen.

    @raise Fatal: somebody could, or it is empty
    """
    if not stranger.private:
        raise Fatal(
            "28000",
            f"a password is asked for inside TLS only, and {stranger.host} came without",
            hint="Connect with sslmode=require, or stronger.",
        )
    password = messages.parse_password(await stranger.ask(messages.authentication_cleartext()))
    if not password:
        raise wrong_password(principal.user, "an empty password")
    return password
