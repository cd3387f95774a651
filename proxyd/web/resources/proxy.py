"""The state of the whole proxy, and its restart from within."""

from __future__ import annotations

from collections.abc import Sequence

from proxyd import __version__
from proxyd.errors import StartError
from proxyd.net.sessions import Sessions
from proxyd.web.answer import Answer, ApiError
from proxyd.web.operations import Operations
from proxyd.web.route import Call, Route
from proxyd.web.schema import closed, listed, number, or_null, said, whole

_COUNTS = {
    "total_connections": "Server connections that are there or being opened",
    "idle_connections": "of which nobody uses these",
    "in_use_connections": "and these are on a lease, in a reset or in a health check",
    "max_connections": "How many there may be",
    "waiting": "Clients that wait for a server connection",
    "clients": "Clients that are logged in",
    "acquire_count": "How often one was asked for",
    "acquire_waited": "How often somebody had to wait for it",
    "acquire_timeouts": "How often in vain",
    "opened": "Server connections opened so far",
    "open_failures": "How often that failed",
    "reset_failures": "Closed, as they could not be reset for the next client",
    "lost": "Died while nobody used them",
    "max_lifetime_closed": "Closed, as their lifetime was over",
    "max_idle_time_closed": "Closed, as they were idle too long",
    "max_idle_closed": "Closed, as there were idle ones enough",
}

STATUS = closed(
    {
        "status": said("starting, ready or draining"),
        "version": said(),
        "uptime_seconds": number(),
        "listeners": listed(closed({"kind": said("What comes there"), "address": said()})),
        "sessions": {
            "type": "object",
            "additionalProperties": whole(),
            "description": "How many live sessions there are of each kind",
        },
        "pools": listed(
            closed(
                {
                    "pool": said("connection/database/user"),
                    "connection": said(),
                    "database": said(),
                    "last_error": said("Why the last server connection could not be opened"),
                    "oldest_seconds": number("Age of the oldest connection"),
                    "leased_over_lifetime": whole("In use though their lifetime is over"),
                    "tokens_made": whole("Tokens, or kept passwords, that logins were made with"),
                    "token_age_seconds": number("Age of the last one when it was used"),
                    **{name: whole(about) for name, about in _COUNTS.items()},
                }
            )
        ),
        "upstreams": listed(
            closed(
                {
                    "upstream": said(),
                    "state": said("up, connecting, down or stopped"),
                    "in_use": or_null(said("The instance that new connections go by")),
                    "last_error": said("What went wrong last"),
                    "opened": whole("Connections made through it so far"),
                    "failed": whole("Connections that its way could not make"),
                    "instances": listed(
                        closed(
                            {
                                "instance": said("HOST:PORT, an instance's id, or an agent's"),
                                "state": said("connected, connecting or lost"),
                                "sessions": whole("SSH connections or SSM sessions to it"),
                                "streams": whole("Connections that go by it now"),
                                "last_error": said("Why it was lost, or not reached, last time"),
                            }
                        )
                    ),
                }
            )
        ),
    }
)


class Proxy:
    """C{/api/docker/proxy}."""

    def __init__(self, operations: Operations, sessions: Sessions) -> None:
        self._operations = operations
        self._sessions = sessions

    def routes(self) -> Sequence[Route]:
        """The calls that it answers."""
        return (
            Route(
                "GET",
                "/api/docker/proxy",
                self.status,
                "Listeners, pools and upstreams, with their numbers",
                {200: ("As they are now", STATUS)},
            ),
            Route(
                "POST",
                "/api/docker/proxy/restart",
                self.restart,
                "Reopen pools and listeners; transactions in flight go on",
                {200: ("It was done; the state afterwards", STATUS)},
            ),
        )

    def status(self, call: Call) -> Answer:
        """The state of everything."""
        operations = self._operations
        return Answer(
            value={
                "status": operations.state,
                "version": __version__,
                "uptime_seconds": round(operations.uptime, 3),
                "listeners": [
                    {"kind": place.kind, "address": place.address} for place in operations.places()
                ],
                "sessions": self._sessions.counts(),
                "pools": list(operations.pools()),
                "upstreams": list(operations.upstreams()),
            }
        )

    async def restart(self, call: Call) -> Answer:
        """Begin anew with pools and listeners."""
        if self._operations.state == "draining":
            raise ApiError(503, "proxyd is draining: nothing is opened again", "draining")
        try:
            await self._operations.restart()
        except StartError as error:
            raise ApiError(503, f"not all listeners are open again: {error}") from None
        return self.status(call)
