"""
How a client's session ends in order: the server first answers what it was asked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from proxyd.postgres.lease import Lease
from proxyd.wire.pg import messages

if TYPE_CHECKING:
    from proxyd.postgres.client_session import ClientSession


class Departure:
    """
    A client that sends no more: the server answers what it was asked, then both go.

    @ivar reason: why the client goes
    @ivar handed_over: the server was told to end the session by itself
    """

    __slots__ = (
        "_clock",
        "_lease",
        "_next_probe",
        "_probe_every",
        "_session",
        "handed_over",
        "reason",
    )

    def __init__(
        self,
        session: ClientSession,
        lease: Lease,
        reason: str,
        clock: IReactorTime,
        probe_every: float,
    ) -> None:
        """
        @param probe_every: seconds between two looks whether a client that sent
            its last byte still reads
        """
        self._session = session
        self._lease = lease
        self._clock = clock
        self._probe_every = probe_every
        self._next_probe: IDelayedCall | None = None
        self.reason = reason
        self.handed_over = False

    def begin(self, patience: float) -> None:
        """
        Wait for the answers that are still to come.

        @param patience: seconds for which nobody looks whether the client is
            still there to read them
        """
        flow = self._lease.flow
        self._session.end.pause()
        flow.watch = True
        flow.break_off()
        if flow.copying:
            # The server waits for data that will not come.
            self._session.close(self.reason)
        elif not self.settled():
            self._next_probe = self._clock.callLater(patience, self._probe)

    def settled(self) -> bool:
        """End the session, if the server has answered all."""
        flow = self._lease.flow
        if flow.batch_open and flow.client.at_border:
            # What was flushed of it is still to come, and no header tells when that is all.
            self._hand_over()
            return False
        if flow.answered and flow.server.at_border and not flow.copying:
            self._session.go(self.reason)
            return True
        if flow.doubt:
            self._hand_over()
        flow.look_again()
        return False

    def stop(self) -> None:
        """The session is over."""
        if self._next_probe is not None:
            self._next_probe.cancel()
            self._next_probe = None

    def _hand_over(self) -> None:
        """
        Let the server itself end a session of which nobody knows what is still owed.

        That is so after an open batch, and where the flow is in doubt. It answers
        what it was asked, and then closes; the connection would not have been used again.
        """
        if self._lease.flow.client.at_border and not self.handed_over:
            self.handed_over = True
            self._lease.server.end.write(messages.TERMINATE)

    def _probe(self) -> None:
        """
        Look whether a client that sent FIN still reads, by a message it may ignore.

        A client that only closed its sending half reads a ParameterStatus it
        knows already; the kernel of one that is gone answers by a reset, and
        the statement can be cancelled.
        """
        self._next_probe = None
        flow, server, end = self._lease.flow, self._lease.server, self._session.end
        if flow.copying:
            self._session.close(self.reason)
            return
        if flow.server.at_border and not end.pending and not server.end.held:
            name = "application_name"
            end.write(messages.parameter_status(name, server.parameters.get(name, "")))
        if not self._session.over:
            self._next_probe = self._clock.callLater(self._probe_every, self._probe)
