"""
Peers that never come to an end: no machine of C{proxyd.wire.pg} grows with what it is told.

Each is fed a megabyte in small pieces, of whole messages in any order or of
one that has no end, and is looked at on the way. Which of its bytes are
wrong is the business of L{tests.fuzz.test_wire_fuzz}.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from itertools import islice

from twisted.trial.unittest import SynchronousTestCase

from proxyd.errors import ProtocolError
from proxyd.wire.pg import messages
from proxyd.wire.pg.errors import notice_response
from proxyd.wire.pg.flow import MESSAGE_LIMIT, STATEMENT_LIMIT, Flow
from proxyd.wire.pg.framing import MessageReader
from proxyd.wire.pg.login import DEFAULT, LOGIN_LIMIT, ServerLogin
from proxyd.wire.pg.scanner import Scanner
from proxyd.wire.pg.skip import BatchSkip
from proxyd.wire.pg.startup import ClientStartup, StartupState
from proxyd.wire.proxy_protocol import V2_LIMIT, ProxyHeader
from tests.fuzz.dice import Dice, kept
from tests.fuzz.test_wire_fuzz import CLIENT_MESSAGES, NONCE, SERVER_MESSAGES
from tests.support.seeds import printed_seed

PIECE = 1000
PIECES = 1000
STEP = 50
"""After how many pieces a machine is looked at."""

ZEROS = bytes(PIECE)
HUGE = b"\x3f\xff\xff\xf0"
"""The length of a message that has no end."""


class GrowthTests(SynchronousTestCase):
    """However much it is told, a machine keeps no more than its limit and a piece."""

    def feed(
        self,
        machine: object,
        take: Callable[[bytes], object],
        pieces: Iterable[bytes],
        limit: int,
    ) -> bool:
        """
        Feed a machine, and look how much it holds.

        @return: whether it took all of it, and did not refuse
        """
        for number, piece in enumerate(islice(pieces, PIECES)):
            try:
                take(piece)
            except ProtocolError:
                return False
            if number % STEP == 0:
                self.assertLess(kept(machine), limit + 2 * PIECE)
        self.assertLess(kept(machine), limit + 2 * PIECE)
        return True

    def endless(self, first: bytes) -> Iterable[bytes]:
        """These bytes, and then noughts."""
        yield first
        while True:
            yield ZEROS

    def test_first_packet(self) -> None:
        """A start-up packet as long as it may be, which is none."""
        startup = ClientStartup()

        def take(piece: bytes) -> None:
            # What follows the packet is for whoever reads on.
            if startup.state is StartupState.READING:
                startup.receive_data(piece)

        self.assertFalse(self.feed(startup, take, self.endless(b"\0\0\x27\x10\0\3\0\0"), 10_000))

    def test_proxy_header(self) -> None:
        """A PROXY header without an end."""
        for first in (b"PROXY TCP4 ", b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff"):
            header = ProxyHeader()
            self.assertFalse(self.feed(header, header.receive_data, self.endless(first), V2_LIMIT))

    def test_message_reader(self) -> None:
        """A message over the limit is refused by its header."""
        reader = MessageReader(5000)

        def take(piece: bytes) -> None:
            reader.feed(piece)
            while reader.next_message():
                pass

        self.assertTrue(self.feed(reader, take, iter(lambda: b"d\0\0\x04\0" * 1, None), 5000))
        self.assertFalse(self.feed(reader, take, self.endless(b"d" + HUGE), 5000))

    def test_batch_skip(self) -> None:
        """A batch that is thrown away and never has its Sync."""
        for first in (b"P" + HUGE, b"P\0\0\0\4", b"d\0\0\0\4"):
            skip = BatchSkip()
            more = iter(lambda: b"B\0\0\0\x08body" * 111, None)
            pieces = self.endless(first) if HUGE in first else (first, *islice(more, PIECES))
            self.assertTrue(self.feed(skip, skip.receive_data, pieces, 5))

    def test_server_login(self) -> None:
        """A server that greets for ever."""
        for talk in (
            notice_response("NOTICE", "00000", "x" * 100),
            messages.parameter_status("a", "b" * 100),
            b"N" + HUGE,
        ):
            login = ServerLogin(
                user="ann", database="shop", password=None, parameters={}, nonce=NONCE,
                secure=True, local=False, allow=DEFAULT,
            )  # fmt: skip
            login.receive_data(messages.authentication_ok())
            self.assertFalse(
                self.feed(login, login.receive_data, iter(lambda talk=talk: talk * 9, None),
                          2 * LOGIN_LIMIT)
            )  # fmt: skip

    def test_flow(self) -> None:
        """Both sides of a session that goes on and on, in any order, and well framed."""
        dice = Dice(random.Random(printed_seed(self.id())))
        flow = Flow(lambda body: None, lambda body: None, lambda *seen: None)
        asked = [one for one in CLIENT_MESSAGES if one[:1] != b"X"]
        said = [one for one in SERVER_MESSAGES if one[:1] not in b"RK"]
        sides = ((flow.client, asked, bytearray()), (flow.server, said, bytearray()))
        told = 0
        while told < PIECE * PIECES:
            for scanner, talk, held in sides:
                for chunk in dice.chunks(b"".join(talk[dice.below(len(talk))] for _ in range(64))):
                    held += chunk
                    told += len(chunk)
                    del held[: scanner.scan(held, len(held))]
                    self.assertLess(len(held), 5)
                self.assertEqual((scanner.stopped, scanner.error), (False, None))
            self.assertLess(kept(flow), STATEMENT_LIMIT + MESSAGE_LIMIT + 3 * 256)
        for scanner, first in ((flow.client, b"Q"), (flow.server, b"E")):

            def take(piece: bytes, scanner: Scanner = scanner) -> None:
                scanner.scan(piece, len(piece))

            pieces = self.endless(first + HUGE)
            self.assertTrue(self.feed(scanner, take, pieces, STATEMENT_LIMIT + MESSAGE_LIMIT))
