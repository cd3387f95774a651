"""
C{auth: trust}: whoever comes from this machine is who it says it is.
"""

from __future__ import annotations

from proxyd.postgres.admission import Admission, Stranger
from proxyd.postgres.backend_login import Verifier
from proxyd.postgres.directory import Place
from proxyd.postgres.password_prompt import ByPassword
from proxyd.target import Principal


class Trust:
    """A way to authenticate: from loopback or a UNIX socket, without any proof."""

    def __init__(self, verifier: Verifier) -> None:
        self._others = ByPassword(_NoneIsRight(verifier))

    async def admit(
        self, stranger: Stranger, place: Place | None, principal: Principal
    ) -> Admission:
        """
        Let a local client in; any other is asked for a password, and none is right.

        @raise Fatal: it comes from afar, or to a database that there is not
        """
        if stranger.local and place is not None:
            return Admission(principal)
        return await self._others.admit(stranger, place, principal)


class _NoneIsRight:
    """Refuses every password."""

    def __init__(self, verifier: Verifier) -> None:
        self._verifier = verifier

    def takes(self, password: bytes) -> bool:
        """Any."""
        return True

    async def check(self, place: Place | None, principal: Principal, password: bytes) -> Admission:
        """Refuse it, as a wrong password is."""
        await self._verifier.refuse(principal, "auth: trust is for loopback clients only")
