"""
A model of a PostgreSQL server: what it answers to which message, and nothing else.

Written from C{postgres.c} (C{PostgresMain}, C{SocketBackend}) and
C{copyfromparse.c} (C{CopyGetData}), apart from L{proxyd.wire.pg.flow}, so that
the two check each other. SQL is a list of words instead:

    ok err begin commit     a statement, one that fails, a block's begin and end
    copy                    COPY FROM STDIN that takes all rows
    copyrow                 the same, which fails at its first row
    copytrigger             the same, which fails in a BEFORE STATEMENT trigger
    copyout                 COPY TO STDOUT
"""

from __future__ import annotations

from collections import deque

ASYNCHRONOUS = frozenset(b"NAS")
"""What a server may say at any time: notices, notifications, settings."""


def message(kind: str, body: bytes = b"") -> bytes:
    """One message as it stands on the wire."""
    return kind.encode() + (len(body) + 4).to_bytes(4, "big") + body


def split(data: bytes) -> tuple[list[tuple[str, bytes]], bytes]:
    """Whole messages, and what is left of one that is not whole."""
    found = []
    while len(data) >= 5 and len(data) > int.from_bytes(data[1:5], "big"):
        end = 1 + int.from_bytes(data[1:5], "big")
        found.append((chr(data[0]), data[5:end]))
        data = data[end:]
    return found, data


class SqlError(Exception):
    """A statement failed."""


class ModelServer:
    """
    One server process after its login.

    Give it bytes by L{receive}, let it work by L{step}; what it says is put at
    the end of C{said}.

    @ivar said: its messages, oldest first, to be taken by whoever carries them
    @ivar dead: it ended itself, with FATAL as its last word
    """

    def __init__(self) -> None:
        self.said: deque[bytes] = deque()
        self.dead = False
        self._unread = b""
        self._inbox: deque[tuple[str, bytes]] = deque()
        self._block = ""  # "", "T" or "E": an explicit transaction block
        self._implicit = False
        self._skipping = False
        self._extended = False
        self._copy = ""
        self._rest: list[str] = []  # of the Query that a COPY interrupted
        self._statement = "ok"

    def copy(self) -> ModelServer:
        """Another one in the same state."""
        other = ModelServer()
        other.__dict__.update(self.__dict__)
        other.said, other._inbox = self.said.copy(), self._inbox.copy()
        return other

    def receive(self, data: bytes) -> None:
        """Bytes come from the client; they wait until L{step}."""
        found, self._unread = split(self._unread + data)
        self._inbox += found

    @property
    def waiting(self) -> bool:
        """Whether there is a message to work on."""
        return bool(self._inbox) and not self.dead

    @property
    def status(self) -> str:
        """What the next ReadyForQuery would say."""
        return self._block or "I"

    def unsettled(self) -> str:
        """
        What is still open when all was read that is on its way; empty: nothing.

        The server works on all its input first, so ask a copy.
        """
        while self.waiting:
            self.step()
        if self.dead:
            return ""
        loud = [said[:1] for said in self.said if said[0] not in ASYNCHRONOUS]
        faults = {
            f"half a message of {len(self._unread)} bytes": bool(self._unread),
            f"it has still to be heard: {loud}": bool(loud),
            "it waits for a COPY's data": bool(self._copy),
            "it skips until a Sync": self._skipping,
            "an implicit transaction is open": self._implicit,
        }
        return "; ".join(text for text, found in faults.items() if found)

    def owes_ready(self) -> bool:
        """Whether a ReadyForQuery is on its way, or will be without a further word; ask a copy."""
        while self.waiting:
            self.step()
        return any(said[:1] == b"Z" for said in self.said)

    def say(self, kind: str, body: bytes = b"") -> None:
        """Say something by itself."""
        self.said.append(message(kind, body))

    def die(self) -> None:
        """FATAL, and the end."""
        self.say("E", b"SFATAL\0VFATAL\0C57P01\0\0")
        self.dead = True

    def step(self) -> None:
        """Work on one message."""
        kind, body = self._inbox.popleft()
        if self._copy:
            self._copy_message(kind)
            return
        # SocketBackend: what kind of message this is, said before it is looked at.
        if kind in "PBDEHC":
            self._extended = True
        elif kind in "SX":
            self._extended = self._skipping = False
        else:
            self._extended = False
        if self._skipping or kind in "dcf":
            return
        try:
            self._work(kind, body)
        except SqlError:
            self._failed()

    def _work(self, kind: str, body: bytes) -> None:
        words = body.rstrip(b"\0").decode().split()
        if kind == "Q":
            if not words:
                self.say("I")
            self._statements(words)
        elif kind == "F":
            self._fail_in_failed_block()
            if words:
                raise SqlError
            self.say("V", bytes(4))
            self._ready()
        elif kind == "S":
            if words:
                raise SqlError
            self._ready()
        elif kind == "H":
            if words:
                raise SqlError
        elif kind == "C":
            self.say("3")
        else:
            self._implicit = True
            self._extended_message(kind, words)

    def _extended_message(self, kind: str, words: list[str]) -> None:
        if kind == "P":
            if words == ["err"]:
                raise SqlError
            self._statement = words[0] if words else ""
            self.say("1")
        elif kind == "B":
            self.say("2")
        elif kind == "D":
            self.say("n")
        elif self._statement:
            self._run(self._statement)
        else:
            self.say("I")

    def _statements(self, words: list[str]) -> None:
        """Run the statements of a Query, as far as the next COPY, or to its end."""
        while words:
            word, words = words[0], words[1:]
            self._rest = words
            self._run(word)
            if self._copy:
                return
        self._ready()

    def _run(self, word: str) -> None:
        """Run one statement."""
        if word == "commit":
            self._block = ""
            self.say("C", b"COMMIT\0")
            return
        self._fail_in_failed_block()
        if word in ("err", "copyerr"):
            raise SqlError
        if word == "begin":
            self._block = "T"
            self.say("C", b"BEGIN\0")
        elif word.startswith("copy") and word != "copyout":
            self.say("G", b"\0\0\0")
            if word == "copytrigger":
                raise SqlError
            self._copy = word
        elif word == "copyout":
            for kind in "Hddc":
                self.say(kind, b"\0\0\0" if kind == "H" else b"")
            self.say("C", b"COPY 2\0")
        else:
            self.say("T", bytes(2))
            self.say("D", bytes(2))
            self.say("C", b"SELECT 1\0")

    def _fail_in_failed_block(self) -> None:
        if self._block == "E":
            raise SqlError

    def _copy_message(self, kind: str) -> None:
        """CopyGetData: what is read while a COPY FROM STDIN runs."""
        if kind in "HS":
            return
        if kind == "d" and self._copy != "copyrow":
            return
        if kind == "c":
            self._copy = ""
            self.say("C", b"COPY 1\0")
            if not self._extended:
                try:
                    self._statements(self._rest)
                except SqlError:
                    self._failed()
            return
        self._copy = ""
        if kind in "df":
            self._failed()
        else:
            # The message's body was not read: the protocol's synchrony is lost.
            self._failed()
            self.die()

    def _failed(self) -> None:
        """The error handler of PostgresMain."""
        self.say("E", b"SERROR\0VERROR\0C22012\0\0")
        self._implicit = False
        self._block = "E" if self._block else ""
        if self._extended:
            self._skipping = True
        else:
            self._ready()

    def _ready(self) -> None:
        self._implicit = False
        self.say("Z", self.status.encode())
