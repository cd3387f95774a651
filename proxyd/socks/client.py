"""
One client: what it says first, the way that is found for it, and the relay.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from proxyd.errors import DialError, DialFailure, ProtocolError
from proxyd.interfaces import Passage
from proxyd.net.end import End
from proxyd.net.held import Reached, reach
from proxyd.rules.routes import NO_LIMITS
from proxyd.socks.joined import Joined
from proxyd.socks.replies import Refused, reply_for
from proxyd.target import Principal, Target
from proxyd.wire.socks.front import Machine, handshake_for
from proxyd.wire.socks.http import HttpConnect
from proxyd.wire.socks.words import Asked, Command, Event, Login, PacAsked, Refusal, State

if TYPE_CHECKING:
    from proxyd.socks.listener import SocksListener

_log = Logger()


class SocksClient(Joined):
    """
    A client, from its first byte to its end; the subject of its own End and of its target's.

    @ivar number: of its session; 0: it has asked for nothing yet
    @ivar route: which route said where it goes, for people
    @ivar instance: which of its upstream's instances carries it; empty: none
    @ivar began: when it did, in seconds of the clock
    """

    __slots__ = (
        "_counted",
        "_dial",
        "_handshake",
        "_late",
        "_listener",
        "_over",
        "_work",
        "asked",
        "began",
        "instance",
        "number",
        "passage",
        "principal",
        "route",
        "source",
    )

    def __init__(self, listener: SocksListener, source: str) -> None:
        """@param source: the client's address, for rules and logs"""
        super().__init__()
        self._listener = listener
        self._handshake: Machine | None = None
        self._dial: Deferred[Any] | None = None
        self._work: Work | None = None
        self._counted = (0, 0)
        self._late = False
        self._over = False
        self.source = source
        self.principal = Principal("", source)
        self.asked: Asked | None = None
        self.passage: Passage | None = None
        self.instance = self.route = ""
        self.number = 0
        self.began = 0.0

    # What is known of it

    @property
    def place(self) -> str:
        """Where it wants to go, for people."""
        asked = self.asked
        return "" if asked is None else str(Target(_shown(asked.host), asked.port))

    @property
    def up(self) -> int:
        """Bytes that its target was sent."""
        if self._work is not None:
            return self._work.up
        return 0 if self.target is None else self.target.sent

    @property
    def down(self) -> int:
        """Bytes that came from its target."""
        if self._work is not None:
            return self._work.down
        return 0 if self.target is None else self.target.received

    @property
    def state(self) -> str:
        """What it is doing, in a word."""
        if self.asked is None:
            return "login"
        return "dialling" if self.target is None and self._work is None else "open"

    # Its handshake

    def received(self, end: End, data: bytes) -> None:
        """The client has said something."""
        if self.asked is not None:
            return  # beside a UDP association there is nothing to say
        handshake = self._handshake
        try:
            if handshake is None:
                handshake = handshake_for(data[0], self._listener.login_needed)
                self._handshake = handshake
            events = handshake.receive_data(data)
        except ProtocolError as error:
            self._hang_up(str(error))
            return
        self._serve(events)

    def _serve(self, events: list[Event]) -> None:
        handshake = self._handshake
        assert handshake is not None
        for event in events:
            if isinstance(event, Login):
                pause = self._listener.pause(event, self.source)
                if pause is None:
                    self._log_in(handshake, event)
                else:
                    self.end.pause()
                    self._dial = pause
                    pause.addCallbacks(self._log_in_late, lambda _: None, (handshake, event))
                return
            if isinstance(event, PacAsked):
                self._give_pac()
                return
            self._asked(event)
            return
        if handshake.state is State.FAILED:
            self._hang_up("it did not log in")
        else:
            self.end.write(handshake.data_to_send())

    def _log_in_late(self, _: object, handshake: Machine, login: Login) -> None:
        """It had failed too often, and has waited."""
        self._dial = None
        if not (self._over or self.end.closed):
            self.end.resume()
            self._log_in(handshake, login)

    def _log_in(self, handshake: Machine, login: Login) -> None:
        user = self._listener.verify(login, self.source)
        if user is None:
            handshake.login_bad()
            self._hang_up("wrong user or password")
            return
        self.principal = Principal(user, self.source)
        try:
            self._serve(handshake.login_good())
        except ProtocolError as error:
            self._hang_up(str(error))

    def _give_pac(self) -> None:
        handshake = self._handshake
        assert isinstance(handshake, HttpConnect)
        text = self._listener.pac(self.end)
        if text is None:
            handshake.refuse(Refusal.GENERAL)
        else:
            handshake.pac(text)
        self._hang_up("a PAC file" if text is not None else "no PAC file is served")

    def _hang_up(self, why: str) -> None:
        """Nothing was asked for, or nothing that is known."""
        handshake = self._handshake
        self.end.close(b"" if handshake is None else handshake.data_to_send())
        self._listener.refused(self, why)

    def _asked(self, asked: Asked) -> None:
        """It is known who wants to go where."""
        self.asked = asked
        self.end.pause()
        self._listener.begun(self)
        try:
            user = self.principal.user
            if user:
                self._take(f"user {user}", self._listener.accounts.limits(user))
            if asked.command is Command.CONNECT:
                self._connect(asked)
            else:
                self._work = self._listener.work_for(self, asked)
                self._work.begin()
        except Refused as refused:
            self._refuse(refused)

    def _connect(self, asked: Asked) -> None:
        """
        Dial what was asked for; without a question where the way is known already.

        @raise Refused: there can be no way
        """
        passage = self._listener.router.known(Target(asked.host, asked.port), self.principal)
        if passage is None:
            dial = self.find(asked)
            dial.addCallback(self._found)
        else:
            dial = self._await(self._found(passage))
        dial.addCallbacks(self._reached, self.dial_failed)

    def _take(self, name: str, limits: Any) -> None:
        allowance = self._listener.allowances.of(name, limits)
        allowance.take()
        self.allowances.append(allowance)

    def find(self, asked: Asked) -> Deferred[Any]:
        """
        The way to what was asked for; given up at the deadline of a dial.

        @raise Refused: there can be none
        """
        target = Target(asked.host, asked.port)
        if target.is_unix:
            raise Refused(Refusal.DENIED, "a path is no host")
        return self._await(self._listener.router.find(target, self.principal))

    def _await(self, dial: Deferred[Any]) -> Deferred[Any]:
        """It is given up at the deadline, or when the client leaves."""
        self._dial = dial
        self._listener.dials.add(self)
        return dial

    def give_up(self) -> None:
        """The dial takes too long, or nobody comes."""
        self._late = True
        if self._work is None and self._dial is not None:
            self._dial.cancel()
        else:
            self._refuse(self._said_late())

    def _said_late(self) -> DialError:
        seconds = self._listener.settings.connect_timeout
        return DialError(DialFailure.TIMEOUT, f"{self.place}: no connection in {seconds:g} s")

    def work_done(self) -> None:
        """BIND's peer has come: what is left is a relay."""
        self._work = None
        self.dialled()

    def dialled(self) -> None:
        """The dial is over, well or badly."""
        self._dial = None
        self._listener.dials.discard(self)

    def _found(self, passage: Passage) -> Deferred[Any]:
        """The rules let it go."""
        self.admit(passage)
        return reach(self._listener.link, self._listener.reactor, passage.endpoint, self)

    def admit(self, passage: Passage) -> None:
        """
        It goes this way, and counts for its route.

        @raise Refused: the route is full
        """
        self.passage = passage
        rule = passage.rule
        self.route = "default" if rule is None else str(rule)
        self._take(self.route, NO_LIMITS if rule is None else rule.limits)

    # Its target

    def _reached(self, reached: Reached) -> None:
        """The target is there."""
        self.dialled()
        assert self.passage is not None
        self.instance = self.passage.instance()
        target = reached.end
        if self._over or target.closed:
            target.abort()
            self._refuse(DialError(DialFailure.LOST, f"{self.place}: lost at once"))
            return
        self.join(target, *reached.local)

    def join(self, target: End, host: str, port: int) -> None:
        """
        Say yes, and carry bytes from now on.

        @param host: what the client is told: our own end's address, or for
            BIND the peer's
        """
        handshake = self._handshake
        assert handshake is not None
        self.target = target
        handshake.accept(host, port)
        self.end.write(handshake.data_to_send())
        early = handshake.trailing_data
        self._handshake = None
        if self.end.closed:
            return
        if early:
            target.write(early)
            if target.closed:
                return
        self.carry(target)

    def answer(self, host: str, port: int) -> None:
        """Say yes, and carry nothing: a UDP association stands, or BIND listens."""
        assert self._handshake is not None
        self._handshake.accept(host, port)
        self.end.write(self._handshake.data_to_send())
        self.end.resume()

    def leave(self, why: str) -> None:
        """It has not said in time what it wants."""
        self._end_with(why)
        self.end.drop()

    def dial_failed(self, failure: Failure) -> None:
        """The target could not be reached: the client is told."""
        self.dialled()
        if isinstance(failure.value, CancelledError):
            if self._late:
                self._refuse(self._said_late())
            return
        if not isinstance(failure.value, DialError | Refused):
            _log.failure("a dial failed", failure)
        self._refuse(failure.value or DialError(DialFailure.BROKEN, self.place))

    def _refuse(self, problem: BaseException) -> None:
        """The client is told why not."""
        if self._over:
            return
        handshake = self._handshake
        if handshake is not None and handshake.state is not State.FAILED:
            handshake.refuse(reply_for(problem))
            self.end.close(handshake.data_to_send())
        else:
            self.end.close()
        self._end_with(str(problem), refused=True)

    # The end

    def left(self) -> None:
        """It sends no more: it gives up, or ends what else it asked for."""
        if self._work is None:
            self._hang_up("it left")
        else:
            self.end.close()
            self.over("closed by the client")

    def over(self, why: str) -> None:
        """It has ended."""
        self._end_with(why)

    def _end_with(self, why: str, *, refused: bool = False) -> None:
        """It is over: once."""
        if self._over:
            return
        self._over = True
        up, down = self.up, self.down
        dial = self._dial
        if dial is not None:
            self.dialled()
            dial.cancel()
        if self._work is not None:
            self._work.stop()
        for allowance in self.allowances:
            allowance.give_back(up, down)
        self._listener.ended(self, why, up, down, refused=refused)


class Work:
    """
    What is done for a client that asked for something other than CONNECT.

    @ivar up: bytes that were sent for it
    @ivar down: bytes that came for it
    """

    up = 0
    down = 0

    def begin(self) -> None:
        """
        Begin.

        @raise Refused: it can't be done
        """

    def stop(self) -> None:
        """The client is gone."""


def _shown(text: str) -> str:
    """A host as a client wrote it, printable."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else "?" for c in text)
