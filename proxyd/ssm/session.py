"""
One session of Session Manager: started, shaken hands on, resumed when its socket is lost, ended.

What is in it, one connection or many, is the business of its L{Port}.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import deferLater
from twisted.logger import Logger

from proxyd.errors import DialError, DialFailure, ProtocolError
from proxyd.net.tasks import spawn
from proxyd.session_source import SessionTicket
from proxyd.ssm.blame import blamed
from proxyd.ssm.ground import Ground, Phase, Port
from proxyd.ssm.socket import SsmSocket
from proxyd.wire.ssm import message as wire
from proxyd.wire.ssm.channel import TICK, Channel
from proxyd.wire.ssm.handshake import CLIENT_VERSION, TERMINATE_SINCE, Handshake, State

_log = Logger()


class Session:
    """
    One session, from C{StartSession} to C{TerminateSession}.

    @ivar phase: where it is
    @ivar gone: fires with the reason when it is over; never fails
    @ivar handshake: what is known of the agent
    @ivar resumed: how often its socket was replaced
    """

    def __init__(
        self,
        ground: Ground,
        port: Port,
        instance: str,
        document: str,
        parameters: Mapping[str, str],
    ) -> None:
        self.phase = Phase.STARTING
        self.gone: Deferred[str] = Deferred()
        self.handshake = Handshake()
        self.resumed = 0
        self.channel = Channel(ground.new_id, ground.since)
        self._ground = ground
        self._clock = ground.clock
        self._port = port
        self._instance = instance
        self._document = document
        self._parameters = parameters
        self._client_id = ground.new_id()
        self._id = ""
        self._socket: SsmSocket | None = None
        self._clogged = False
        self._held = False
        self._opened: Deferred[None] = Deferred()
        self._tick: IDelayedCall | None = None
        self._pulse: IDelayedCall | None = None
        self._asked = False
        self._resuming: Deferred[None] | None = None
        self._tries = 0
        self._last_cut = ""
        self._ended: Deferred[None] = Deferred()
        self._bye: IDelayedCall | None = None

    @property
    def writable(self) -> bool:
        """Whether more data can be sent now."""
        return (
            self.phase is Phase.OPEN
            and self._socket is not None
            and not self._clogged
            and self.channel.room > 0
        )

    # -- its beginning

    async def start(self) -> None:
        """
        Start it, until data can be sent.

        @raise DialError: why not; then nothing is left behind
        """
        unended = self._ground.unended
        unended.begin()
        self._ended.addCallback(lambda _: unended.end())
        try:
            ticket = await self._ground.source.start(
                self._instance, self._document, self._parameters
            )
            self._id = ticket.session_id
            await self._connect(ticket)
            limit = self._ground.times.handshake
            self._opened.addTimeout(limit, self._clock, self._too_late)
            await self._opened
        except BaseException as problem:
            error = problem if isinstance(problem, DialError) else None
            self._over(error or DialError(DialFailure.BROKEN, f"{self._instance}: given up"))
            raise

    def _too_late(self, _: object, seconds: float) -> None:
        raise DialError(
            DialFailure.BROKEN,
            f"{self._instance}: its SSM agent said nothing in {seconds:g} s after the session "
            "was started: is it running?",
        )

    async def _connect(self, ticket: SessionTicket) -> None:
        """Open a socket, and say whose session it is for; nothing answers to that."""
        socket = await self._ground.opener.open(ticket.url)
        if self.phase is Phase.OVER:
            socket.leave()
            return
        self._socket = socket
        self._clogged = False
        self._asked = False
        socket.owner = self
        socket.send_text(
            wire.open_channel(ticket.token, self._ground.new_id(), self._client_id, CLIENT_VERSION)
        )
        if self._held:
            socket.hold(True)
        self._schedule_pulse()

    # -- in: what the socket tells its owner

    def messages_received(self, messages: Sequence[bytes]) -> None:
        """Frames came: all that one read of the socket gave."""
        if self.phase is Phase.OVER:
            return
        self._asked = False
        self._tries = 0
        now = self._clock.seconds()
        data: list[bytes] = []
        try:
            for message in messages:
                if data and wire.is_last(message):
                    data = self._take_data(data)
                for payload_type, payload in self.channel.receive(message, now):
                    if payload_type == wire.DATA:
                        data.append(payload)
                        continue
                    data = self._take_data(data)
                    self._take(payload_type, payload)
                if self.channel.closed is not None:
                    break
            self._take_data(data)
        except ProtocolError as problem:
            _log.warn(
                "SSM session to {instance} broke the protocol: {reason}",
                instance=self._instance,
                reason=str(problem),
            )
            self._over(
                DialError(
                    DialFailure.LOST, f"{self._instance}: the session made no sense: {problem}"
                )
            )
            return
        said = self.channel.closed
        if said is not None:
            self._over(blamed(self._instance, said, self._parameters))
            return
        self._port.progress()
        self.flush()

    def _take_data(self, data: list[bytes]) -> list[bytes]:
        """Hand on what came in a row, at once; nothing is left."""
        if data and self.phase is Phase.OPEN:
            self._port.data_received(b"".join(data))
        return []

    def _take(self, payload_type: int, payload: bytes) -> None:
        if payload_type in (wire.HANDSHAKE_REQUEST, wire.HANDSHAKE_COMPLETE):
            self._shake_hands(payload_type, payload)
        elif payload_type == wire.FLAG and len(payload) == 4:
            self._port.flag_received(int.from_bytes(payload, "big"))

    def _shake_hands(self, payload_type: int, payload: bytes) -> None:
        answer = self.handshake.receive(payload_type, payload)
        if answer is not None:
            self.channel.send(wire.HANDSHAKE_RESPONSE, answer, self._clock.seconds())
        if self.handshake.state is State.COMPLETE and self.phase is Phase.STARTING:
            self.phase = Phase.OPEN
            if self.handshake.message:
                _log.info(
                    "SSM session to {instance}: {message}",
                    instance=self._instance,
                    message=self.handshake.message,
                )
            if not self._opened.called:
                self._opened.callback(None)

    def heard(self) -> None:
        """The relay lives."""
        self._asked = False

    def clogged(self, full: bool) -> None:
        """The socket takes no more for now, or does again."""
        self._clogged = full
        if not full:
            self._port.progress()
            self.flush()

    def socket_lost(self, why: str) -> None:
        """The socket is gone: get another, if the session had begun."""
        self._socket = None
        self._last_cut = why
        if self.phase is Phase.STARTING:
            self._over(
                DialError(
                    DialFailure.BROKEN,
                    f"{self._instance}: the relay hung up before the session had begun: {why}",
                )
            )
        elif self.phase is Phase.ENDING:
            self._over(DialError(DialFailure.LOST, "ended"))
        elif self.phase is Phase.OPEN and self._resuming is None:
            work = spawn(self._resume(), _log, "resuming an SSM session")
            if not work.called:
                self._resuming = work
                work.addCallback(self._resume_ended)

    # -- out

    def send(self, data: bytes) -> None:
        """Send bytes; see L{writable}."""
        self.channel.send_data(data, self._clock.seconds())

    def flush(self) -> None:
        """Send what waits to be sent, and see to its repeats."""
        socket = self._socket
        if socket is not None:
            messages = self.channel.messages_to_send()
            if messages:
                socket.send_all(messages)
        if self.channel.waiting and self._tick is None and self.phase is not Phase.OVER:
            self._tick = self._clock.callLater(TICK, self._look)

    def _look(self) -> None:
        """Repeat what was not acknowledged in time."""
        self._tick = None
        now = self._clock.seconds()
        if self._socket is not None:
            self.channel.tick(now)
            limit = self._ground.times.unacknowledged
            if self.channel.oldest_age(now) > limit:
                self._over(
                    DialError(
                        DialFailure.LOST,
                        f"{self._instance}: nothing was taken there in {limit:g} s",
                    )
                )
                return
            self._port.progress()
        self.flush()

    def hold(self, held: bool) -> None:
        """Let the relay keep what it has for us, or go on."""
        if held != self._held:
            self._held = held
            if self._socket is not None:
                self._socket.hold(held)

    def _schedule_pulse(self) -> None:
        if self._pulse is not None:
            self._pulse.cancel()
        times = self._ground.times
        seconds = times.patience if self._asked else times.pulse
        self._pulse = self._clock.callLater(seconds, self._feel_pulse)

    def _feel_pulse(self) -> None:
        """Ask the relay whether it lives; one that did not answer is dead."""
        self._pulse = None
        if self._socket is None:
            return
        if self._asked and not self._held:
            self._socket.drop()
            return
        self._asked = not self._held
        self._socket.ping()
        self._schedule_pulse()

    # -- another socket under a session that goes on

    async def _resume(self) -> None:
        """
        Get another socket; numbers and all that is under way stay as they are.
        """
        times = self._ground.times
        _log.info(
            "SSM session to {instance} lost its connection ({why}): it is resumed",
            instance=self._instance,
            why=self._last_cut,
        )
        problem = self._last_cut
        while self._tries < times.resume_tries:
            pause = min(times.resume_longest, times.resume_first * 2**self._tries)
            self._tries += 1
            await deferLater(self._clock, pause)
            try:
                ticket = await self._ground.source.resume(self._id)
                if ticket is None:
                    problem = "it timed out, or was ended"
                    break
                await self._connect(ticket)
            except CancelledError:
                raise
            except DialError as error:
                problem = str(error)
                continue
            if self._socket is None:
                problem = self._last_cut
                continue
            self.resumed += 1
            self.channel.resumed(self._clock.seconds())
            self._port.progress()
            self.flush()
            return
        self._over(
            DialError(
                DialFailure.LOST, f"{self._instance}: the session could not be resumed: {problem}"
            )
        )

    def _resume_ended(self, _: None) -> None:
        self._resuming = None
        if self._socket is None and self.phase is Phase.OPEN:
            self.socket_lost(self._last_cut)

    # -- its end

    def end(self) -> Deferred[None]:
        """
        End it: by the agent where that can be, and by AWS.

        @return: fires when AWS was told
        """
        if self.phase is Phase.OPEN and self._socket is not None:
            self.phase = Phase.ENDING
            if self.handshake.is_newer_than(TERMINATE_SINCE):
                flag = wire.TERMINATE_SESSION.to_bytes(4, "big")
                self.channel.send(wire.FLAG, flag, self._clock.seconds())
            self.flush()
            ended = DialError(DialFailure.LOST, "ended")
            self._bye = self._clock.callLater(self._ground.times.goodbye, self._say_bye, ended)
        elif self.phase in (Phase.STARTING, Phase.OPEN):
            self._over(DialError(DialFailure.LOST, "ended"))
        done: Deferred[None] = Deferred()

        def told(result: None) -> None:
            done.callback(None)
            return result

        self._ended.addCallback(told)
        return done

    def _say_bye(self, ended: DialError) -> None:
        self._bye = None
        self._over(ended)

    def _over(self, error: DialError) -> None:
        """It is over, for whatever reason; tell whom it concerns, once."""
        if self.phase is Phase.OVER:
            return
        self.phase = Phase.OVER
        for call in (self._tick, self._pulse, self._bye):
            if call is not None and call.active():
                call.cancel()
        self._tick = self._pulse = self._bye = None
        if self._resuming is not None:
            self._resuming.cancel()
        socket, self._socket = self._socket, None
        if socket is not None:
            socket.send_all(self.channel.messages_to_send())
            socket.leave()
        if not self._opened.called:
            self._opened.errback(error)
            self._opened.addErrback(lambda _: None)
        if self._id:
            telling: Any = self._ground.source.terminate(self._id)
            telling.addBoth(lambda _: self._ended.callback(None))
        else:
            self._ended.callback(None)
        self._port.session_over(error)
        self.gone.callback(error.detail)
