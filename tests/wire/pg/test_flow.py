"""
What client and server owe each other, against a model of the server.

The one promise that must never be broken: when a L{Flow} says that a server
may serve somebody else, it really owes nothing and has nothing open.
"""

from __future__ import annotations

import os
import random

from twisted.trial.unittest import SynchronousTestCase

from proxyd.wire.pg.flow import Flow
from tests.wire.pg.model_server import ModelServer, message, split

SCHEDULES = 10_000 * (1 + 49 * int(os.environ.get("PROXYD_SOAK", "0")))
"""Schedules of each kind; C{PROXYD_SOAK=1} makes it 50 times as many."""

SEED = int(os.environ.get("PROXYD_SEED", "0")) or random.SystemRandom().getrandbits(32)
"""The first schedule's seed; set C{PROXYD_SEED} to see a failure again."""

P, B, D, E, H, S, C = (message(kind) for kind in "PBDEHSC")
ROW, COPY_DONE, COPY_FAIL, TERMINATE = (message(kind) for kind in "dcfX")
READY = message("Z", b"I")
ERROR = message("E", b"SERROR\0VERROR\0C22012\0\0")
COPY_IN = message("G", b"\0\0\0")
COPIED = message("C", b"COPY 1\0")


def query(words: str) -> bytes:
    """A Query of the model's words."""
    return message("Q", words.encode() + b"\0")


def prepared(word: str) -> bytes:
    """Parse, Bind and Execute of one of the model's words."""
    return message("P", word.encode() + b"\0") + B + E


class Line:
    """
    A client, a flow that watches, and a model server, with pipes between them.

    What is on its way is delivered in pieces, when it is asked for.
    """

    def __init__(self, server: ModelServer | None = None, statements: bool = False) -> None:
        self.server = server or ModelServer()
        self.statements: list[tuple[int, bytes, int]] = []
        self.parameters: list[bytes] = []
        self.errors: list[bytes] = []
        self.flow = Flow(
            self.parameters.append,
            self.errors.append,
            (lambda *seen: self.statements.append(seen)) if statements else None,
        )
        self.to_server = b""
        self.to_client = b""
        self._held = {"client": b"", "server": b""}

    def client_sends(self, data: bytes, size: int) -> None:
        """The next C{size} bytes of the client's come through; the rest waits."""
        self.to_server += data
        chunk, self.to_server = self.to_server[:size], self.to_server[size:]
        self.server.receive(self._scanned("client", chunk))

    def server_sends(self, size: int) -> None:
        """The next C{size} bytes of the server's come through."""
        while self.server.said:
            self.to_client += self.server.said.popleft()
        chunk, self.to_client = self.to_client[:size], self.to_client[size:]
        self._scanned("server", chunk)

    def all(self, data: bytes = b"") -> None:
        """Deliver everything, and let the server work until it rests."""
        self.client_sends(data, len(self.to_server) + len(data))
        while self.server.waiting:
            self.server.step()
        self.server_sends(1 << 30)

    def _scanned(self, side: str, chunk: bytes) -> bytes:
        """What may go on: as the link does it, an unfinished header waits."""
        scanner = self.flow.client if side == "client" else self.flow.server
        data = self._held[side] + chunk
        allowed = scanner.scan(data, len(data))
        self._held[side] = b"" if scanner.stopped else data[allowed:]
        assert len(self._held[side]) < 5
        return data[:allowed]

    def fault(self) -> str:
        """How the flow's word differs from the truth; empty when it does not."""
        flow = self.flow
        if flow.doubt or self.server.dead:
            return ""
        if flow.server.stopped or not flow.answered or not flow.server.at_border:
            return ""
        truth = self.server.copy()
        waiting, rest = split(self._held["server"] + self.to_client)
        assert not rest, "the server's messages come into the pipe whole"
        truth.said.extendleft(message(*one) for one in reversed(waiting))
        if truth.owes_ready():
            return "answered, but a ReadyForQuery is owed"
        if flow.client.at_border and not flow.batch_open:
            if fault := truth.unsettled():
                return fault
            if chr(flow.status) != truth.status:
                return f"status {chr(flow.status)}, but the server is in {truth.status}"
        return ""


class Schedule:
    """
    One random client on one random line.

    @param polite: it does only what a good client does, so that the server
        must be reusable in the end
    """

    WORDS = ("ok", "ok", "err", "begin", "commit", "copy", "copyrow", "copytrigger", "copyout")

    def __init__(self, seed: int, polite: bool) -> None:
        self.dice = random.Random(seed)
        self.polite = polite
        self.line = Line(statements=self.dice.random() < 0.3)
        self.script = b"".join(self._act() for _ in range(self.dice.randint(1, 7)))
        if polite:
            self.script += query("commit")

    def _act(self) -> bytes:
        """What the client does next: a request in one of many forms."""
        dice = self.dice
        word = dice.choice(self.WORDS)
        data = ROW * dice.randint(0, 2) + dice.choice((COPY_DONE, COPY_DONE, COPY_FAIL))
        copies = word.startswith("copy") and word != "copyout"
        forms = [
            lambda: query(word) + (data if copies else b""),
            lambda: prepared(word) + (data if copies else b"") + S,
            lambda: prepared("ok") + dice.choice((b"", H, D)) + prepared("ok") + S,
            lambda: message("F", dice.choice((b"", b"err"))),
            lambda: S,
        ]
        if not self.polite:
            forms += [
                lambda: prepared(word) + S + data + S,
                lambda: prepared(word) + S + data,
                lambda: prepared(word) + data,
                lambda: query("copy copyrow") + data + data,
                lambda: query(f"{word} {dice.choice(self.WORDS)}"),
                lambda: query("") + message("S", b"err") + message("H", b"err"),
                lambda: b"".join(dice.choices((P, B, D, E, H, C), k=2)),
                lambda: message("P", b"err\0"),
                lambda: b"".join(dice.choices((ROW, COPY_DONE, COPY_FAIL), k=2)),
                lambda: message("P", b"copy\0") + B + E + data + E + data,
            ]
        return dice.choice(forms)()

    def run(self) -> str:
        """Play it to its end; what went wrong."""
        dice, line = self.dice, self.line
        while True:
            moves = []
            if self.script:
                moves += [0, 0]
            if line.server.waiting:
                moves += [1, 1]
            if line.server.said or line.to_client:
                moves += [2, 2]
            if not moves or line.server.dead:
                break
            move = dice.choice(moves)
            size = dice.choice((1, 3, 6, 20, 1000))
            if move == 0:
                line.client_sends(self.script[:size], size)
                self.script = self.script[size:]
            elif move == 1:
                line.server.step()
                if dice.random() < 0.05:
                    line.server.say(*dice.choice((("N", b"\0"), ("A", b"\0"), ("S", b"a\0b\0"))))
            else:
                line.server_sends(size)
            if fault := line.fault():
                return f"{fault}: {line.flow!r}"
        if self.polite and not line.server.dead and not line.flow.reusable:
            return f"not reusable in the end: {line.flow!r}"
        return ""


class FlowModelTests(SynchronousTestCase):
    """Random clients against the model, their bytes cut and delayed at random."""

    def play(self, polite: bool) -> None:
        """Play all schedules."""
        for seed in range(SEED, SEED + SCHEDULES):
            if fault := Schedule(seed, polite).run():
                script = Schedule(seed, polite).script
                self.fail(f"PROXYD_SEED={seed} polite={polite}: {fault}\n{script!r}")

    def test_never_reused_wrongly(self) -> None:
        """Whatever a client does: a server called reusable owes nothing and has nothing open."""
        self.play(polite=False)

    def test_good_clients_leave_a_reusable_server(self) -> None:
        """A client that ends what it began never costs a server connection."""
        self.play(polite=True)
