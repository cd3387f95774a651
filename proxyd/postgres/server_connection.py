"""
One logged-in connection to a server, as long as proxyd itself talks on it.

While a client is joined to it the link carries the bytes; before and after,
the few statements of our own (settings, reset, health check) go by L{ServerConnection.ask}.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from twisted.internet.defer import Deferred

from proxyd.errors import ProtocolError
from proxyd.net.deadlines import Deadlines
from proxyd.net.end import End
from proxyd.postgres.conversation import Conversation, Lost
from proxyd.postgres.hosts import unsuited
from proxyd.target import Target
from proxyd.wire.pg import messages
from proxyd.wire.pg.errors import ServerMessage, parse_error
from proxyd.wire.pg.framing import MessageReader, whole_messages
from proxyd.wire.pg.login import LoginDone

_STATUSES = (b"I", b"T", b"E")
_PLAIN = frozenset(range(256)) - {
    messages.PARAMETER_STATUS,
    messages.ERROR_RESPONSE,
    messages.NOTIFICATION_RESPONSE,
    messages.NOTICE_RESPONSE,
}

Message = tuple[int, bytes]
Answered = Callable[[list[Message], Exception | None], None]
"""C{(messages, None)}, or nothing and what went wrong."""

Notified = Callable[[bytes], None]

_USUAL_LIMIT = 256
_USUAL_SIZE = 1024

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
    @ivar token_age: seconds that the token it logged in with had by then
    @ivar wanted: what the server had to be (C{target_session_attrs})
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
        "token_age",
        "user",
        "wanted",
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
        wanted: str = "any",
    ) -> None:
        self.wanted = wanted
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
        self.token_age = 0.0

    def __repr__(self) -> str:
        return f"<ServerConnection {self.user}@{self.address}/{self.database}>"

    @property
    def secure(self) -> bool:
        """Whether it goes by TLS."""
        return self.end.secure is not None

    @property
    def unsuited(self) -> str:
        """
        Why the server is no longer what it was chosen for; empty as long as it is.

        To be looked at when nobody uses the connection: clients may set what
        makes a server read-only, and take it back.
        """
        return "" if self.wanted == "any" else unsuited(self.wanted, self.parameters) or ""

    def note_parameter(self, body: bytes) -> None:
        """
        Take a ParameterStatus.

        @raise ProtocolError: it is malformed
        """
        name, value = messages.parse_parameter_status(body)
        self.parameters[name] = value

    def ask(
        self,
        request: bytes,
        answered: Answered,
        ahead: bytes = b"",
        notified: Notified | None = None,
    ) -> None:
        """
        Send a request that one ReadyForQuery answers, and collect the answer.

        @param request: a Query, a FunctionCall, or an extended batch with its Sync
        @param answered: called once with the messages of the answer, without
            ParameterStatus and notices (the last one is the ReadyForQuery), or
            with what went wrong: see L{run}
        @param ahead: what is sent right behind it; what the server says to that
            is left in the conversation
        @param notified: takes each NotificationResponse, whole; None: there is
            nobody for whom one could be
        """
        self.end.write(request + ahead)
        self.deadlines.add(self.conversation)
        self.conversation.hear(_Answer(self, request, answered, bool(ahead), notified))

    def run(self, request: bytes) -> Deferred[list[Message]]:
        """
        The same, to be awaited.

        Fails with L{Failed} where the server answered with an error (all of the
        answer has been read by then), with L{Lost} where the connection broke
        or no answer came in C{connect_timeout}, with a ProtocolError where the
        server sent what can't be an answer.
        """
        done: Deferred[list[Message]] = Deferred(lambda _: self.conversation.ignore())

        def answered(answer: list[Message], error: Exception | None) -> None:
            if error is None:
                done.callback(answer)
            else:
                done.errback(error)

        self.ask(request, answered)
        return done

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


class _Answer:
    """Hears the answer to one statement of our own."""

    __slots__ = (
        "_answer",
        "_answered",
        "_error",
        "_more",
        "_notified",
        "_part",
        "_request",
        "_server",
        "_size",
    )

    def __init__(
        self,
        server: ServerConnection,
        request: bytes,
        answered: Answered,
        more: bool,
        notified: Notified | None,
    ) -> None:
        """@param more: other answers may follow"""
        self._notified = notified
        self._server = server
        self._request = request
        self._answered = answered
        self._more = more
        self._answer: list[Message] = []
        self._error: ServerMessage | None = None
        self._part = b""
        self._size = 0

    def heard(self, data: bytes) -> None:
        """See L{Hearer<proxyd.postgres.conversation.Hearer>}."""
        usual = None if self._size else _usual.get(self._request)
        if usual is not None and (
            data.startswith(usual.said) if self._more else data == usual.said
        ):
            server = self._server
            if usual.parameters:
                server.parameters.update(usual.parameters)
            if len(data) > len(usual.said):
                server.conversation.put_back(data[len(usual.said) :])
            server.deadlines.discard(server.conversation)
            self._answered(usual.answer, None)
            return
        self._size += len(data)
        try:
            if self._size > ANSWER_LIMIT:
                raise ProtocolError("the server's answer to a statement of ours is too long")
            if not self._read(self._part + data if self._part else data):
                self._server.conversation.hear(self)
                return
        except ProtocolError as error:
            self._over([], error)
            return
        if self._error is None:
            self._over(self._answer, None)
        else:
            self._over([], Failed(self._error))

    def unheard(self, reason: str) -> None:
        """See L{Hearer<proxyd.postgres.conversation.Hearer>}."""
        self._over([], Lost(reason))

    def _over(self, answer: list[Message], error: Exception | None) -> None:
        self._server.deadlines.discard(self._server.conversation)
        self._answered(answer, error)

    def _read(self, data: bytes) -> bool:
        """Take what has come; whether the ReadyForQuery is among it."""
        found, used = whole_messages(data, ANSWER_LIMIT, messages.READY_FOR_QUERY)
        for message in found:
            kind, body = message
            if kind in _PLAIN:
                self._answer.append(message)
            elif kind == messages.PARAMETER_STATUS:
                self._server.note_parameter(body)
            elif kind == messages.ERROR_RESPONSE:
                self._error = self._error or parse_error(body)
            elif kind == messages.NOTIFICATION_RESPONSE:
                if self._notified is None:
                    raise ProtocolError("the server sent a notification to nobody")
                self._notified(messages.notification_response(body))
        if not found or found[-1][0] != messages.READY_FOR_QUERY:
            self._part = data[used:]
            return False
        conversation = self._server.conversation
        if used < len(data):
            conversation.put_back(data[used:])
        # Behind the answer may be what a client has asked to be told of, in the same segment.
        expected = self._more or self._notified is not None
        if (conversation.early and not expected) or found[-1][1] not in _STATUSES:
            raise ProtocolError("the server said more than it was asked")
        usual = self._error is None and self._notified is None
        if usual and used <= _USUAL_SIZE and self._size == len(data):
            _remember(self._request, data[:used], found, self._answer)
        return True


@dataclass(frozen=True, slots=True)
class _Usual:
    """
    What a request of ours was answered with last time, and what that means.

    The same bytes mean the same: nearly all answers need not be read again.

    @param parameters: what its ParameterStatus messages set
    """

    said: bytes
    parameters: dict[str, str]
    answer: list[Message]


_usual: dict[bytes, _Usual] = {}


def _remember(request: bytes, said: bytes, all_of_it: list[Message], answer: list[Message]) -> None:
    if len(_usual) >= _USUAL_LIMIT:
        _usual.clear()
    told = (body for kind, body in all_of_it if kind == messages.PARAMETER_STATUS)
    _usual[request] = _Usual(said, dict(map(messages.parse_parameter_status, told)), answer)


__all__ = ["ANSWER_LIMIT", "Failed", "Lost", "ServerConnection"]
