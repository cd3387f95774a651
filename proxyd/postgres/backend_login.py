"""
C{auth: backend}: a client's password is tried on the real server, and thrown away.

The server decides, with all it knows (VALID UNTIL, CONNECTION LIMIT, NOLOGIN,
pg_hba.conf), on a connection of its own that carries no setting of the
client's and ends at once. Nothing but that answer is ever kept, for a few
seconds, under a hash that nobody outside this process can compute; any other
password goes to the server again (the class of CVE-2025-46801).
"""

from __future__ import annotations

import hashlib
import secrets
from collections import OrderedDict
from collections.abc import Callable
from typing import NoReturn

from twisted.internet.defer import Deferred, DeferredSemaphore
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger

from proxyd.config.times import PasswordTimes
from proxyd.errors import DialError
from proxyd.net.failures import Failures, Who
from proxyd.postgres.admission import Admission
from proxyd.postgres.answers import (
    NOT_NOW,
    Fatal,
    Refused,
    login_refused,
    unreachable,
    wrong_password,
)
from proxyd.postgres.directory import Place
from proxyd.postgres.server import Account, Server
from proxyd.postgres.server_connection import ServerConnection
from proxyd.target import Principal
from proxyd.wire.pg.login import Unchallenged

_log = Logger()

AT_ONCE = 8
"""Verifications that run on one server at the same time; more wait their turn."""

_REMEMBERED = 10_000
_CHANCE = secrets.SystemRandom()
_USUAL_FAILURE = 0.02


class BackendCheck:
    """Has a password checked by the server that the client wants to go to."""

    def __init__(self, verifier: Verifier) -> None:
        self._verifier = verifier

    def takes(self, password: bytes) -> bool:
        """Any: only the server knows what its users call a password."""
        return True

    async def check(self, place: Place | None, principal: Principal, password: bytes) -> Admission:
        """
        Ask the server.

        @raise Fatal: it said no, or could not be asked, or there is none
        """
        if place is None:
            await self._verifier.refuse(principal, "there is no server to ask")
        await self._verifier.verify(place.server, place.database, password, principal)
        return Admission(principal)


class Verifier:
    """Asks real servers whether a password is right."""

    def __init__(
        self,
        clock: IReactorTime,
        times: PasswordTimes,
        random: Callable[[], float] = _CHANCE.random,
    ) -> None:
        """@param random: a number from 0 up to 1, for jitter"""
        self._clock = clock
        self._times = times
        self._random = random
        self._key = secrets.token_bytes(32)
        self._good: OrderedDict[bytes, float] = OrderedDict()
        self._asking: dict[bytes, list[Deferred[bool]]] = {}
        self._turns: dict[str, DeferredSemaphore] = {}
        self._failures = Failures(clock, times)
        self._usual = _USUAL_FAILURE

    async def verify(
        self, server: Server, database: str, password: bytes, principal: Principal
    ) -> None:
        """
        Done when the server let the client in with this password.

        @param principal: the user's name and the address it comes from
        @raise Fatal: it did not, or could not be asked
        """
        who = (principal.source, principal.user)
        await self._pause(who)
        if not password:
            self._failures.failed(who)
            raise wrong_password(principal.user, "an empty password")
        # By its hosts too: after a reload the name may stand for another server.
        hosts = ",".join(map(repr, server.connection.dsn.hosts))
        proof = self._proof(server.connection.name, hosts, principal.user, database, password)
        if self._good.get(proof, 0.0) > self._clock.seconds():
            return
        try:
            while not await self._joined(proof):
                if proof not in self._asking:
                    await self._ask_once(proof, server, database, password, principal)
                    break
        except Fatal as fatal:
            if fatal.sqlstate.startswith("28"):
                self._failures.failed(who)
            raise
        self._failures.succeeded(who)

    async def refuse(self, principal: Principal, reason: str) -> NoReturn:
        """
        Refuse a login that no server can be asked about, as a wrong password is.

        @raise Fatal: always, after the time that a server usually takes
        """
        who = (principal.source, principal.user)
        await self._pause(who)
        self._failures.failed(who)
        await deferLater(self._clock, self._usual, lambda: None)
        raise wrong_password(principal.user, reason)

    async def _joined(self, proof: bytes) -> bool:
        """
        Wait for somebody's answer to the same question, if it is being asked.

        @return: whether there was a good answer; False: nobody asks, or whoever
            did hung up before the answer came
        """
        waiting = self._asking.get(proof)
        if waiting is None:
            return False
        turn: Deferred[bool] = Deferred(waiting.remove)
        waiting.append(turn)
        return await turn

    async def _ask_once(
        self, proof: bytes, server: Server, database: str, password: bytes, principal: Principal
    ) -> None:
        """Ask the server; whoever comes with the same question meanwhile shares the answer."""
        waiting = self._asking[proof] = []
        good = False
        refusal: Fatal | None = None
        try:
            await self._ask(server, database, password, principal)
            good = True
            self._good[proof] = self._clock.seconds() + self._times.kept
            while len(self._good) > _REMEMBERED:
                self._good.popitem(last=False)
        except Fatal as fatal:
            self._good.pop(proof, None)
            refusal = fatal
            raise
        finally:
            del self._asking[proof]
            for turn in list(waiting):
                if refusal is None:
                    turn.callback(good)
                else:
                    turn.errback(refusal)

    async def _ask(
        self, server: Server, database: str, password: bytes, principal: Principal
    ) -> None:
        account = Account(principal.user, password, challenged=True)
        turns = self._turns.setdefault(server.connection.name, DeferredSemaphore(AT_ONCE))
        patient_until = self._clock.seconds() + server.connection.connect_timeout
        await turns.acquire()
        began = self._clock.seconds()
        try:
            connection = await self._log_in(server, account, database, principal, patient_until)
        except Refused as refused:
            if refused.error.sqlstate == "28P01":
                self._usual += (self._clock.seconds() - began - self._usual) / 8
                raise wrong_password(principal.user, "the server refused the password") from None
            raise login_refused(refused.error, refused.authenticated, principal.user) from None
        except Unchallenged:
            _log.error(
                "server {server} let {user} in without asking for the password: its pg_hba.conf "
                "trusts this address, so no password can be checked there; "
                "use scram-sha-256 for it",
                server=server.connection.name,
                user=principal.user,
            )
            raise Fatal(
                "28000",
                "the database server does not check passwords of connections from proxyd",
                hint="Its pg_hba.conf trusts proxyd's address: it must ask for a password there.",
            ) from None
        except DialError as error:
            raise unreachable(error) from error
        finally:
            turns.release()
        connection.goodbye()

    async def _log_in(
        self,
        server: Server,
        account: Account,
        database: str,
        principal: Principal,
        patient_until: float,
    ) -> ServerConnection:
        """
        Log in; to a server that is starting up again and again.

        Whoever waits here keeps its turn, so that a server that comes up is
        not asked by a crowd.

        @param patient_until: until when, by the clock
        """
        pause = server.connection.server_times.retry_first
        while True:
            try:
                return await server.login(account, database, {}, principal)
            except Refused as refused:
                if refused.error.sqlstate not in NOT_NOW or self._clock.seconds() >= patient_until:
                    raise
            await deferLater(self._clock, pause * (0.5 + self._random() / 2), lambda: None)

    def _proof(self, *parts: str | bytes) -> bytes:
        """All that the answer depends on, under a key that dies with this process."""
        keyed = hashlib.blake2b(key=self._key, digest_size=32)
        for part in parts:
            data = part.encode("utf-8", "surrogateescape") if isinstance(part, str) else part
            keyed.update(len(data).to_bytes(8, "big"))
            keyed.update(data)
        return keyed.digest()

    async def _pause(self, who: Who) -> None:
        """Let somebody wait who has failed too often."""
        pause = self._failures.pause(who)
        if pause is not None:
            await pause
