"""Live sessions of all kinds: who is here, and the way to send one home."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.internet.interfaces import IReactorTime

from proxyd.net.sessions import Session, Sessions
from proxyd.web.answer import Answer, not_found
from proxyd.web.resources.lists import in_steps, listed
from proxyd.web.resources.times import shown_time
from proxyd.web.route import Call, Route
from proxyd.web.schema import closed, number, or_null, said, text, whole
from proxyd.web.schema import listed as list_of

SESSION = closed(
    {
        "session_id": whole("What the log calls it, too", least=1),
        "kind": said("postgres, socks5..."),
        "user": said("As the client logged in"),
        "source": said("The client's address"),
        "target": said("The database or place it goes to"),
        "state": said("What it is doing"),
        "token_id": or_null(said("Which token let it in")),
        "bytes_received": whole("From the client"),
        "bytes_sent": whole("To the client"),
        "since": said("When it logged in (RFC 3339)"),
        "seconds": number("For how long it is here"),
    }
)

_REASON = "an administrator ended it"


class SessionsResource:
    """C{/api/sessions}."""

    def __init__(self, sessions: Sessions, clock: IReactorTime) -> None:
        self._sessions = sessions
        self._clock = clock

    def routes(self) -> Sequence[Route]:
        """The calls that it answers."""
        return (
            Route(
                "GET",
                "/api/sessions",
                self.list,
                "All live sessions, oldest first",
                {200: ("They", closed({"sessions": list_of(SESSION)}))},
                query={
                    "kind": text("Only sessions of this kind"),
                    "user": text("Only sessions of this user"),
                    "limit": whole("At most so many", least=1),
                },
            ),
            Route(
                "DELETE",
                "/api/sessions/{session_id}",
                self.kill,
                "End a session now, whatever it is doing",
                {200: ("What it was", closed({"session": SESSION}))},
                names={"session_id": whole(least=1)},
            ),
        )

    async def list(self, call: Call) -> Answer:
        """All of them, or those of a kind or a user."""
        wanted = call.query

        def row(session: Session) -> dict[str, Any] | None:
            fits = (
                wanted.get("kind", session.kind) == session.kind
                and wanted.get("user", session.principal.user) == session.principal.user
            )
            return self._row(session) if fits else None

        return await listed(
            self._clock,
            "sessions",
            self._sessions.as_they_are(),
            row,
            order=lambda session: session.number,
            most=wanted.get("limit"),
        )

    async def kill(self, call: Call) -> Answer:
        """End one."""
        number = call.path["session_id"]
        async for session in in_steps(self._clock, self._sessions.as_they_are()):
            if session.number == number:
                row = self._row(session)
                session.kill(_REASON)
                return Answer(value={"session": row})
        raise not_found("there is no such session: it may be over")

    def _row(self, session: Session) -> dict[str, Any]:
        return {
            "session_id": session.number,
            "kind": session.kind,
            "user": session.principal.user,
            "source": session.principal.source,
            "target": session.target,
            "state": session.state,
            "token_id": session.token_id,
            "bytes_received": session.received,
            "bytes_sent": session.sent,
            "since": shown_time(session.began),
            "seconds": round(max(0.0, self._clock.seconds() - session.began), 3),
        }
