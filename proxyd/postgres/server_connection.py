"""
One logged-in connection to a server, as long as proxyd itself talks on it.

While a client is joined to it the link carries the bytes; before and after,
the few statements of our own (settings, reset, health check) go by L{run}.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

from proxyd.errors import ProtocolError
from proxyd.net.deadlines import Deadlines
from proxyd.net.end import End
from proxyd.postgres.conversation import Conversation, Lost
from proxyd.target import Target
from proxyd.wire.pg import messages
from proxyd.wire.pg.errors import ServerMessage, parse_error
from proxyd.wire.pg.framing import MessageReader
from proxyd.wire.pg.login import LoginDone

_CLOSE_UNNAMED = b"C\0\0\0\6S\0"
_STATUSES = (b"I", b"T", b"E")

ANSWER_LIMIT = 1024 * 1024
"""The longest message, and the longest whole answer, that a statement of our own may have."""


class Failed(Exception):
    """
    The server answered a statement of ours with an error.

    @param error: what it said
    """

    def __init__(self, error: ServerMessage) -> None:
        super().__init__(f"{error.sqlstate} {error.message}")
        self.error = error


class ServerConnection:
    """
    A server connection that was logged in.

    @ivar end: its End on the link
    @ivar host: the DSN's host it was made to
    @ivar address: the address that answered
    @ivar user: who is logged in, at C{database}
    @ivar pid: the server's process, 0 when it gave no cancel key
    @ivar key: the server's cancel key
    @ivar parameters: what ParameterStatus told last, by name
    @ivar created: when it was logged in, by the clock
    @ivar idle_since: since when nobody uses it, by the clock
    @ivar checked: when it was last known to answer, by the clock
    @ivar deadlines: for the answers to statements of our own
    @ivar expires: when its lifetime is over, by the clock
    """

    __slots__ = (
        "address",
        "checked",
        "conversation",
        "created",
        "database",
        "deadlines",
        "end",
        "expires",
        "host",
        "idle_since",
        "key",
        "parameters",
        "pid",
        "user",
    )

    def __init__(
        self,
        conversation: Conversation,
        login: LoginDone,
        host: Target,
        address: Target,
        user: str,
        database: str,
        now: float,
        deadlines: Deadlines[Conversation],
    ) -> None:
        self.deadlines = deadlines
        self.conversation = conversation
        self.end: End = conversation.end
        self.host = host
        self.address = address
        self.user = user
        self.database = database
        self.pid = login.pid or 0
        self.key = login.key
        self.parameters = dict(login.parameters)
        self.created = now
        self.idle_since = now
        self.checked = now
        self.expires = now

    def __repr__(self) -> str:
        return f"<ServerConnection {self.user}@{self.address}/{self.database}>"

    @property
    def secure(self) -> bool:
        """Whether it goes by TLS."""
        return self.end.secure is not None

    def note_parameter(self, body: bytes) -> None:
        """
        Take a ParameterStatus.

        @raise ProtocolError: it is malformed
        """
        name, value = messages.parse_parameter_status(body)
        self.parameters[name] = value

    async def run(self, request: bytes, ahead: bytes = b"") -> list[tuple[int, bytes]]:
        """
        Send a request that one ReadyForQuery answers, and collect the answer.

        @param request: a Query, or an extended batch with its Sync
        @param ahead: what is sent right behind it; what the server says to that
            is left in the conversation
        @return: the messages of the answer, without ParameterStatus and
            notices; the last one is the ReadyForQuery
        @raise Failed: the server answered with an error (all of the answer
            has been read by then)
        @raise Lost: the connection broke, or no answer came in C{connect_timeout}
        @raise ProtocolError: the server sent what can't be an answer
        """
        self.end.write(request + ahead)
        self.deadlines.add(self.conversation)
        try:
            return await self._answer(bool(ahead))
        finally:
            self.deadlines.discard(self.conversation)

    async def _answer(self, more: bool) -> list[tuple[int, bytes]]:
        """Read up to the ReadyForQuery; C{more}: other answers may follow."""
        reader = MessageReader(ANSWER_LIMIT)
        answer: list[tuple[int, bytes]] = []
        error: ServerMessage | None = None
        size = 0
        while True:
            data = await self.conversation.chunk()
            size += len(data)
            if size > ANSWER_LIMIT:
                raise ProtocolError("the server's answer to a statement of ours is too long")
            reader.feed(data)
            while (message := reader.next_message()) is not None:
                kind, body = message
                if kind == messages.PARAMETER_STATUS:
                    self.note_parameter(body)
                elif kind == messages.ERROR_RESPONSE:
                    error = error or parse_error(body)
                elif kind == messages.READY_FOR_QUERY:
                    self.conversation.put_back(reader.trailing_data)
                    if (self.conversation.early and not more) or body not in _STATUSES:
                        raise ProtocolError("the server said more than it was asked")
                    answer.append(message)
                    if error is not None:
                        raise Failed(error)
                    return answer
                elif kind == messages.NOTIFICATION_RESPONSE:
                    raise ProtocolError("the server sent a notification to nobody")
                elif kind != messages.NOTICE_RESPONSE:
                    answer.append(message)

    async def configure(self, settings: Sequence[tuple[str, str]], ahead: bytes = b"") -> None:
        """
        Set settings for this session: values are bound, never part of the SQL.

        @param ahead: as for L{run}
        @raise Failed: the server refused a name or a value
        """
        if settings:
            await self.run(_settings_batch(tuple(settings)), ahead)
        elif ahead:
            self.end.write(ahead)

    def rest(self, stirred: Callable[[], None]) -> None:
        """Nobody uses it: C{stirred} is called when the server says something by itself."""
        self.conversation.stirred = stirred
        self.end.resume()

    def wake(self) -> None:
        """Somebody is about to use it."""
        self.conversation.stirred = None
        self.end.pause()

    def overheard(self) -> str:
        """
        Look at what the server said to nobody while it rested.

        @return: why the connection must be closed; empty when it is still good
        """
        conversation = self.conversation
        if not conversation.early:
            return conversation.lost
        reader = MessageReader(ANSWER_LIMIT)
        try:
            reader.feed(conversation.early)
            while (message := reader.next_message()) is not None:
                kind, body = message
                if kind == messages.PARAMETER_STATUS:
                    self.note_parameter(body)
                elif kind == messages.ERROR_RESPONSE:
                    return str(Failed(parse_error(body)))
                elif kind != messages.NOTICE_RESPONSE:
                    return "it sent what nobody had asked for"
        except ProtocolError as error:
            return str(error)
        if conversation.lost:
            return conversation.lost
        conversation.take_early()
        conversation.put_back(reader.trailing_data)
        return "" if len(conversation.early) < ANSWER_LIMIT else "it never stopped talking"

    def goodbye(self) -> None:
        """Close in order: Terminate, then FIN."""
        if not self.end.closed:
            self.conversation.stirred = None
            self.end.write(messages.TERMINATE)
            self.end.drop()

    def abort(self) -> None:
        """Close at once, by a reset: the server is in a state that nobody knows."""
        self.conversation.stirred = None
        self.end.abort()


@lru_cache(maxsize=256)
def _settings_batch(settings: tuple[tuple[str, str], ...]) -> bytes:
    """The extended batch that makes these settings, and leaves no unnamed statement behind."""
    calls = ", ".join(
        f"pg_catalog.set_config(${2 * number + 1}, ${2 * number + 2}, false)"
        for number in range(len(settings))
    )
    values = [text.encode("utf-8", "surrogateescape") for pair in settings for text in pair]
    return (
        messages.parse("", f"SELECT {calls}")
        + messages.bind("", "", values)
        + messages.execute("")
        + _CLOSE_UNNAMED
        + messages.SYNC
    )


__all__ = ["ANSWER_LIMIT", "Failed", "Lost", "ServerConnection"]
