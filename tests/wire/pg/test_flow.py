"""
What client and server owe each other, against a model of the server.

The one promise that must never be broken: when a L{Flow} says that a server
may serve somebody else, it really owes nothing and has nothing open.
"""

from __future__ import annotations

import os
import random

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from proxyd.errors import ProtocolError
from proxyd.wire.pg.flow import MESSAGE_LIMIT, OWED_LIMIT, STATEMENT_LIMIT, Flow
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


class FlowTests(SynchronousTestCase):
    """The cases by name: what is owed, and when nobody can know."""

    def line(self, *steps: bytes, statements: bool = False) -> Line:
        """A line on which a client has sent these, each answered in full before the next."""
        line = Line(statements=statements)
        for step in steps:
            line.all(step)
            self.assertEqual(line.fault(), "")
        return line

    def raw(self, *steps: tuple[str, bytes]) -> Flow:
        """A flow that has seen these bytes of C{client} and C{server}, with no server behind."""
        flow = Flow(lambda body: None, lambda body: None)
        for side, data in steps:
            scanner = flow.client if side == "client" else flow.server
            scanner.scan(data, len(data))
        return flow

    def test_fresh(self) -> None:
        """A new flow is at rest."""
        flow = Line().flow
        self.assertTrue(flow.at_rest and flow.reusable and flow.answered)
        self.assertFalse(flow.copying or flow.batch_open or flow.alert)

    def test_simple(self) -> None:
        """A Query is answered by its ReadyForQuery, and not before its last byte."""
        line = Line()
        line.client_sends(query("ok"), 1000)
        self.assertFalse(line.flow.answered)
        line.server.step()
        line.server_sends(10_000)
        self.assertTrue(line.flow.reusable)
        self.assertEqual(line.flow.ready_count, 1)

    def test_half_a_message(self) -> None:
        """Half a message, of either side, is not at rest."""
        line = Line()
        line.client_sends(query("ok"), 7)
        self.assertFalse(line.flow.at_rest)
        line = self.line(query("ok"))
        line.server.say("N", b"a notice")
        line.server_sends(6)
        self.assertFalse(line.flow.at_rest)
        line.server_sends(1000)
        self.assertTrue(line.flow.reusable)

    def test_status(self) -> None:
        """A transaction, failed or not, keeps the server, and its end frees it."""
        for words, status in (("begin", "T"), ("begin err", "E")):
            line = self.line(query(words))
            self.assertEqual(chr(line.flow.status), status)
            self.assertTrue(line.flow.answered)
            self.assertFalse(line.flow.reusable)
            line.all(query("commit"))
            self.assertTrue(line.flow.reusable)

    def test_pipelined(self) -> None:
        """Of many requests sent ahead all must be answered."""
        line = Line()
        line.client_sends(query("ok") + prepared("ok") + S + query("err") + S, 1000)
        for count in range(1, 5):
            self.assertFalse(line.flow.answered)
            while line.flow.ready_count < count:
                if not line.server.said and line.server.waiting:
                    line.server.step()
                line.server_sends(1)
        self.assertTrue(line.flow.reusable)

    def test_open_batch(self) -> None:
        """A batch without its Sync is open, answered though it is, and after an error too."""
        for batch in (prepared("ok") + H, message("P", b"err\0") + H, C + H, H):
            line = self.line(batch)
            self.assertTrue(line.flow.answered and line.flow.batch_open)
            self.assertFalse(line.flow.reusable)
            line.all(S)
            self.assertTrue(line.flow.reusable)

    def test_query_in_a_failed_batch(self) -> None:
        """A Query sent behind a batch that fails is skipped with it: nobody can count on it."""
        line = self.line(message("P", b"err\0") + query("ok") + S)
        self.assertEqual(line.flow.doubt, "an error came while requests were sent ahead")
        for cut in range(1, len(query("ok"))):
            line = Line(statements=True)
            data = message("P", b"err\0") + query("ok") + S
            line.client_sends(data, 9 + cut)
            line.client_sends(b"", 1000)
            line.all()
            self.assertTrue(line.flow.doubt, cut)

    def test_query_after_a_failed_batch(self) -> None:
        """A Query that comes after the error and before a Sync is skipped: nobody owes for it."""
        line = self.line(message("P", b"err\0") + H)
        line.all(query("ok"))
        self.assertTrue(line.flow.answered)
        self.assertFalse(line.flow.reusable)
        self.assertEqual(line.flow.doubt, "")
        line.all(S)
        self.assertTrue(line.flow.reusable)

    def test_query_behind_a_good_batch(self) -> None:
        """A Query may stand in a batch that goes well."""
        line = self.line(prepared("ok") + query("ok") + S)
        self.assertTrue(line.flow.reusable)
        self.assertEqual(line.flow.ready_count, 2)

    def test_copy(self) -> None:
        """COPY IN, simple and extended, ended by CopyDone or CopyFail, or by the server."""
        for end in (COPY_DONE, COPY_FAIL):
            for word in ("copy", "copyrow", "copytrigger"):
                line = self.line(query(word), ROW, end)
                self.assertTrue(line.flow.reusable, (word, end))
                line = self.line(prepared(word) + H, ROW + ROW, end + S)
                self.assertTrue(line.flow.reusable, (word, end))
        line = self.line(query("copy"))
        self.assertTrue(line.flow.copying)
        self.assertFalse(line.flow.answered)
        line.client_sends(ROW + COPY_DONE, 1000)
        self.assertFalse(line.flow.copying or line.flow.answered)

    def test_copy_among_others(self) -> None:
        """More than one COPY in a Query, and requests sent ahead of a COPY's end."""
        line = self.line(query("copy copy ok") + ROW + COPY_DONE + COPY_DONE + query("ok"))
        self.assertTrue(line.flow.reusable)

    def test_swallowed_sync(self) -> None:
        """
        A COPY swallows the Sync sent ahead of its end; the batch is open until the next.

        So libpq does it: it sends Sync behind Execute, and another behind CopyDone.
        """
        line = self.line(prepared("copy") + S, ROW + COPY_DONE)
        self.assertTrue(line.flow.answered and line.flow.batch_open)
        self.assertFalse(line.flow.reusable)
        line.all(S)
        self.assertTrue(line.flow.reusable)
        line = self.line(prepared("copy") + S + ROW + COPY_DONE + S)
        self.assertTrue(line.flow.reusable)
        line = self.line(prepared("copy") + S + ROW + COPY_DONE + query("ok"))
        self.assertTrue(line.flow.reusable)

    def test_uncountable(self) -> None:
        """An error in such a COPY gives one ReadyForQuery or two: the server is not used again."""
        for word, count in (("copyrow", 1), ("copytrigger", 2)):
            line = self.line(prepared(word) + S + ROW + COPY_DONE + S)
            self.assertEqual(line.flow.ready_count, count)
            self.assertEqual(line.flow.doubt, "an error came while requests were sent ahead")

    def test_late_end(self) -> None:
        """A CopyDone or CopyFail that comes too late is forgotten, and spoils no later COPY."""
        for end in (COPY_DONE, COPY_FAIL):
            line = self.line(query("copyrow"), ROW, end)
            line.all(prepared("copy") + S)
            line.all(ROW + COPY_DONE + S)
            self.assertTrue(line.flow.reusable)
            line = self.line(query("copyrow"), ROW + end, prepared("copy") + S, COPY_DONE + S)
            self.assertTrue(line.flow.reusable)

    def test_no_growth(self) -> None:
        """A client that ends COPYs it never began costs no memory, and at most its server."""
        line = Line()
        for _ in range(1000):
            line.all(COPY_DONE * 50)
        self.assertEqual((len(line.flow._owed), line.flow.doubt), (0, ""))
        line.all(prepared("ok") + H)
        for _ in range(1000):
            line.all(COPY_DONE * 50)
        self.assertLess(len(line.flow._owed), 20_000)
        line.all(S)
        self.assertEqual(line.flow.doubt, "the client ended COPYs that it had not begun")

    def test_requests_without_answers(self) -> None:
        """A client that asks on and on of a server that never answers is stopped."""
        line = Line()
        line.flow.client.scan(S * OWED_LIMIT, len(S) * OWED_LIMIT)
        self.assertFalse(line.flow.client.stopped)
        self.assertEqual(line.flow.client.scan(S * 9, 45), 5)
        self.assertTrue(line.flow.client.stopped)
        self.assertTrue(line.flow.alert)
        error = line.flow.client.error
        self.assertEqual((error and error.sqlstate, line.flow.doubt), ("54000", ""))
        self.assertEqual(len(line.flow._owed), OWED_LIMIT + 1)

    def test_unowed_ready(self) -> None:
        """A ReadyForQuery that nobody is owed closes the server."""
        flow = self.raw(("server", READY))
        self.assertEqual(flow.doubt, "the server sent a ReadyForQuery that nobody was owed")

    def test_hostile_server(self) -> None:
        """What a server must not say is a doubt, whichever way it says it."""
        cases = {
            message("Z", b"X"): "malformed ReadyForQuery",
            message("Z", b"II"): "malformed ReadyForQuery",
            message("Z"): "malformed ReadyForQuery",
            message("W", bytes(3)): "replication",
            COPY_IN + READY: "without a word",
            COPY_IN + COPIED: "not ended by the client",
            message("S", bytes(MESSAGE_LIMIT + 1)): "oversized ParameterStatus",
            message("R", bytes(4)): "broke the protocol",
            b"D\0\0\0\3": "broke the protocol",
        }
        for data, doubt in cases.items():
            flow = self.raw(("client", query("ok")), ("server", data))
            self.assertIn(doubt, flow.doubt, data)
            self.assertFalse(flow.reusable)
        for data in (message("Z", b"X"), message("Z", b"II")):
            flow = self.raw(("client", query("ok")), ("server", data[:5]), ("server", data[5:]))
            self.assertIn("malformed ReadyForQuery", flow.doubt)

    def test_malformed_parameter(self) -> None:
        """A ParameterStatus that can't be read is a doubt, and no exception."""

        def refuse(body: bytes) -> None:
            raise ProtocolError("invalid ParameterStatus message")

        flow = Flow(refuse, lambda body: None)
        data = message("S", b"no end")
        self.assertEqual(flow.server.scan(data, len(data)), len(data))
        self.assertEqual(flow.doubt, "invalid ParameterStatus message")

    def test_told(self) -> None:
        """Parameters and errors are handed on; of a long error only its start."""
        line = Line()
        long = b"M" + bytes(10 * MESSAGE_LIMIT)
        line.server.say("S", b"TimeZone\0UTC\0")
        line.server.say("E", long)
        line.server_sends(1 << 20)
        self.assertEqual(line.parameters, [b"TimeZone\0UTC\0"])
        self.assertEqual(line.errors, [long[:MESSAGE_LIMIT]])
        self.assertEqual(line.flow.doubt, "")

    def test_statements(self) -> None:
        """Statements are shown to whoever asks for them, their start only, and change nothing."""
        long = b"x" * 3 * STATEMENT_LIMIT
        data = message("P", b"s\0ok\0") + S + message("Q", long)
        line = Line(statements=True)
        line.client_sends(data, len(data))
        self.assertEqual(
            line.statements,
            [(ord("P"), b"s\0ok\0", 5), (ord("Q"), long[:STATEMENT_LIMIT], len(long))],
        )
        self.assertFalse(line.flow.answered)

    def test_goodbye(self) -> None:
        """Terminate is not sent on; it asks for attention and is no doubt."""
        line = self.line(query("ok") + TERMINATE + query("ok"))
        self.assertTrue(line.flow.alert and line.flow.client.stopped)
        self.assertIsNone(line.flow.client.error)
        self.assertTrue(line.flow.reusable)

    def test_clients_fault(self) -> None:
        """A client that breaks the protocol is stopped; what it asked before is answered."""
        line = self.line(query("ok") + message("p", b"secret\0"))
        self.assertEqual(str(line.flow.client.error), "invalid frontend message type 112")
        self.assertTrue(line.flow.alert)
        self.assertTrue(line.flow.reusable)

    def test_watch(self) -> None:
        """Who watches is alerted at each ReadyForQuery; who does not, is not."""
        line = Line()
        line.all(query("ok"))
        self.assertFalse(line.flow.alert)
        line.flow.watch = True
        line.all(query("ok"))
        self.assertTrue(line.flow.alert)

    def test_look_again(self) -> None:
        """Who waits for rest is alerted when a message that comes by itself is whole."""
        line = Line()
        line.all(query("ok"))
        news = message("A", bytes(20))
        for chunk, wanted in ((news[:9], True), (news[9:], False), (news, False)):
            line.flow.server.scan(chunk, len(chunk))
            line.flow.look_again()
            self.assertEqual((line.flow.alert, line.flow.at_rest), (wanted, not wanted))
            line.flow.alert = False
        line.client_sends(query("ok"), 1000)
        line.flow.server.scan(news[:9], 9)
        line.flow.look_again()
        self.assertFalse(line.flow.alert, "ReadyForQuery will")

    def test_repr(self) -> None:
        """It shows what is owed, and no data."""
        line = Line()
        line.client_sends(query("secret") + S, 1000)
        self.assertEqual(repr(line.flow), "<Flow status=I owed='QS' doubt=''>")


class FlowNoiseTests(SynchronousTestCase):
    """Noise from either side."""

    @given(st.lists(st.tuples(st.booleans(), st.binary(max_size=30)), max_size=30))
    def test_noise(self, chunks: list[tuple[bool, bytes]]) -> None:
        """Noise raises nothing."""
        flow = Flow(lambda body: None, lambda body: None)
        for client, chunk in chunks:
            scanner = flow.client if client else flow.server
            self.assertLessEqual(scanner.scan(chunk, len(chunk)), len(chunk))

    @given(st.lists(st.sampled_from("QSFcfdPBDEHC")), st.lists(st.sampled_from("ZGCETDISHdc")))
    def test_orders(self, asked: list[str], answered: list[str]) -> None:
        """Good messages in any order raise nothing, and an answer to nothing is never reusable."""
        flow = Flow(lambda body: None, lambda body: None)
        for kind in asked:
            data = message(kind)
            flow.client.scan(data, len(data))
        owed = sum(kind in "QSF" for kind in asked)
        for kind in answered:
            data = message(kind, b"I" if kind == "Z" else b"a\0b\0")
            flow.server.scan(data, len(data))
        if answered.count("Z") > owed:
            self.assertFalse(flow.reusable)
