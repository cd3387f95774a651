"""
A model of a server's session: what it keeps for its client, and what it commits.

L{ModelServer} knows the protocol; here is what the words of a statement leave
behind, so that it can be seen in the hands of the next client:

    mark:X      keep X for the session, as a temporary table or a setting is kept
    show        a row for each thing that is kept
    echo:X      one row, X
    put:X       a row that is committed with its transaction
    listen:X    subscribe to X
    sleep       work until L{wake} or a cancel request
"""

from __future__ import annotations

from tests.postgres.fakeserver import SET_CONFIG, values_of
from tests.wire.pg.model_server import ModelServer, SqlError


class ModelSession(ModelServer):
    """
    One server process after its login.

    @ivar kept: what its client has set up
    @ivar committed: what was put for good
    @ivar asleep: it works on a C{sleep}
    @ivar ended: the client said Terminate
    """

    def __init__(self) -> None:
        super().__init__()
        self.kept: list[str] = []
        self.committed: list[str] = []
        self.channels: list[str] = []
        self.asleep = self.ended = False
        self.name = ""
        self._told = ""
        self._pending: list[str] = []
        self._parsed = False
        self._values: list[str] = []
        self._code = b"22012"

    @property
    def waiting(self) -> bool:
        """Whether there is a message to work on, and it does not work already."""
        return not self.asleep and not self.ended and super().waiting

    def run_out(self) -> bytes:
        """Work on all there is, without anybody in the way; gives what was said."""
        while self.waiting or self.asleep:
            self.wake() if self.asleep else self.step()
        said = b"".join(self.said)
        self.said.clear()
        return said

    def wake(self) -> None:
        """End the C{sleep} well."""
        self.asleep, self._copy = False, ""
        self.say("C", b"SELECT 1\0")
        if not self._extended:
            try:
                self._statements(self._rest)
            except SqlError:
                self._failed()

    def cancel(self) -> None:
        """A cancel request came: what runs fails; nothing happens where nothing runs."""
        if self._copy:
            self.asleep, self._copy = False, ""
            self._code = b"57014"
            self._failed()
            self._code = b"22012"

    def notify(self) -> None:
        """Somebody notified a channel of its."""
        for channel in self.channels:
            self.say("A", bytes(4) + channel.encode() + b"\0\0")

    def step(self) -> None:
        """Work on one message; Terminate ends it."""
        if self._inbox[0][0] == "X" and not self._copy:
            self.ended = True
            return
        super().step()

    def say(self, kind: str, body: bytes = b"") -> None:
        """Say something; an error with its code."""
        super().say(kind, body.replace(b"22012", self._code) if kind == "E" else body)

    def _work(self, kind: str, body: bytes) -> None:
        if kind == "P":
            self._implicit = True
            sql = body.split(b"\0")[1].decode()
            if sql != "commit":
                self._fail_in_failed_block()
            self._statement, self._parsed = sql, True
            self.say("1")
        elif kind == "B":
            self._implicit = True
            if not self._parsed:
                raise SqlError
            self._values = values_of(body.split(b"\0", 2)[2])
            self.say("2")
        elif kind == "C":
            self._parsed = False
            self.say("3")
        elif kind == "F" and body.startswith(SET_CONFIG):
            self._fail_in_failed_block()
            self._name(values_of(body[4:])[:2])
            self.say("V", bytes(4))
            self._ready()
        else:
            super()._work(kind, body)

    def _statements(self, words: list[str]) -> None:
        if words == ["ROLLBACK"]:
            self._block = ""
            self._pending.clear()
            self.say("C", b"ROLLBACK\0")
            self._ready()
        elif words == ["DISCARD", "ALL"]:
            if self._block:
                raise SqlError
            self.kept.clear()
            self.channels.clear()
            self._parsed, self.name = False, ""
            self.say("C", b"DISCARD ALL\0")
            self._ready()
        else:
            super()._statements(words)

    def _run(self, word: str) -> None:
        if word == "commit" and self._block == "E":
            self._pending.clear()
        if word == "commit":
            self._commit()
            super()._run(word)
            return
        self._fail_in_failed_block()
        verb, _, what = word.partition(":")
        if "set_config" in word:
            self._name(self._values)
            self.say("D", bytes(2))
            self.say("C", b"SELECT 1\0")
        elif verb == "sleep":
            # As in a COPY, nothing else is worked on until it ends.
            self.asleep, self._copy = True, "sleep"
        elif verb in ("mark", "put", "listen"):
            {"mark": self.kept, "put": self._pending, "listen": self.channels}[verb].append(what)
            self.say("C", verb.encode() + b"\0")
        elif verb in ("echo", "show"):
            for text in [what] if verb == "echo" else self.kept:
                self.say("D", text.encode())
            self.say("C", b"SELECT 1\0")
        else:
            super()._run(word)

    def _name(self, values: list[str]) -> None:
        """Settings are made, of which only one matters here."""
        pairs = dict(zip(values[::2], values[1::2], strict=True))
        self.name = pairs.get("application_name", self.name)

    def _commit(self) -> None:
        self.committed += self._pending
        self._pending.clear()

    def _failed(self) -> None:
        self._pending.clear()
        super()._failed()

    def _ready(self) -> None:
        if not self._block:
            self._commit()
        if self.name != self._told:
            self._told = self.name
            self.say("S", b"application_name\0" + self.name.encode() + b"\0")
        super()._ready()
