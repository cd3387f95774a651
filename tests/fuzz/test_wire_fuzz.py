"""
Random and damaged bytes for every machine of C{proxyd.wire}.

The promise, the same for all of them: whatever a peer sends, a machine raises
L{ProtocolError} or nothing, and keeps no more than its limit. C{PROXYD_FUZZ}
is how many inputs there are in total; a failure names the seed, which
C{PROXYD_SEED} brings back.
"""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from twisted.trial.unittest import SynchronousTestCase

from proxyd.errors import LocalProtocolError, ProtocolError
from proxyd.wire.pg import messages
from proxyd.wire.pg.errors import error_response, notice_response, parse_error
from proxyd.wire.pg.flow import Flow
from proxyd.wire.pg.framing import MessageReader
from proxyd.wire.pg.login import LOGIN_LIMIT, DeriveKey, LoginDone, LoginRefused, ServerLogin
from proxyd.wire.pg.scanner import BODY, DATA, HEADER, MARK, PASS, READY, STOP, Scanner, mask
from proxyd.wire.pg.scram import ScramClient, prepare_password
from proxyd.wire.pg.skip import BatchSkip
from proxyd.wire.pg.startup import ClientStartup, DirectTlsOffered, StartupRequested, split_options
from proxyd.wire.proxy_protocol import V2_LIMIT, ProxyHeader
from tests.wire.pg.scram_server import ScramServer

TOTAL = int(os.environ.get("PROXYD_FUZZ", "20000"))
SEED = int(os.environ.get("PROXYD_SEED", "0")) or random.SystemRandom().getrandbits(32)
NONCE = "rOprNGfwEbeRWgbNEkqO"

CHUNK = 4096
SLACK = 2 * CHUNK
"""What a machine may hold above its limit: the chunk it was just given."""

INTERESTING = (
    b"", b"\0", b"\xff", b"\0\0\0\0", b"\x7f\xff\xff\xff", b"\xff\xff\xff\xff", b"\x80\0\0\0",
    b"\0\0\0\4", b"\0\0\0\3", b"\x16", b"R", b"E", b"S", b"Z\0\0\0\5I", b"\r\n", b",", b"=",
    b"\0\3\0\0", b"\0\3\0\2", b"\4\xd2\x16\x2f", b"\xc3\x28", b"\xf0\x9f\x92\xa9", b"%s%n",
)  # fmt: skip

START = messages.startup_message({"user": "ann", "database": "shop", "options": "-c a=b --c-d=e"})
FIRST_PACKETS = (
    START,
    messages.ssl_request() + START,
    messages.startup_message({"user": "é" * 40, "_pq_.x": "1", "application_name": "a"}, 2),
    messages.cancel_request(4711, b"12345678"),
    b"\0\0\0\x08\x04\xd2\x16\x30" + START,
    b"\x16\x03\x01\x02\0\x01\0",
    b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
)
GREETING = (
    messages.authentication_ok()
    + messages.parameter_status("server_version", "15.18")
    + messages.backend_key_data(42, b"abcd")
    + messages.ready_for_query()
)
LOGINS = (
    GREETING,
    messages.authentication_cleartext() + GREETING,
    b"R\0\0\0\x0c\0\0\0\5salt" + GREETING,
    messages.authentication_sasl(["SCRAM-SHA-256", "SCRAM-SHA-256-PLUS"]),
    error_response("FATAL", "28P01", "no", "detail", "hint"),
    b"v\0\0\0\x0c\0\3\0\0\0\0\0\0" + GREETING,
    notice_response("WARNING", "01000", "careful") + GREETING,
)
CLIENT_TALK = (
    messages.query("select 1") * 2,
    messages.parse("s", "select $1")
    + messages.bind("", "s", [b"1", None])
    + messages.execute("")
    + messages.SYNC,
    b"d\0\0\0\x09hello" * 3 + b"c\0\0\0\4" + messages.copy_fail("no") + messages.TERMINATE,
    b"F\0\0\0\x08oid!" + messages.SYNC,
)
SERVER_TALK = (
    b"T\0\0\0\x06\0\0D\0\0\0\x06\0\0C\0\0\0\x0dSELECT 1\0Z\0\0\0\5I",
    b"G\0\0\0\7\0\0\0C\0\0\0\x0bCOPY 1\0Z\0\0\0\5T",
    error_response("ERROR", "22012", "division by zero") + b"Z\0\0\0\5E",
    messages.parameter_status("TimeZone", "UTC") + b"1\0\0\0\x042\0\0\0\x04n\0\0\0\4Z\0\0\0\5I",
)
PROXY_HEADERS = (
    b"PROXY TCP4 192.0.2.1 192.0.2.2 1 65535\r\n",
    b"PROXY TCP6 2001:db8::1 ::1 1 2\r\nrest",
    b"PROXY UNKNOWN\r\n",
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c" + bytes(12) + b"rest",
    b"\r\n\r\n\0\r\nQUIT\n\x21\x21\0\x28" + bytes(40),
    b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0",
)
OPTIONS = ("-c a=b", "-ca=b --c-d=e\\ f", "--x=", "-c", "\\", " \t\n", "-c =x", "--é=\\\\")


@dataclass(frozen=True, slots=True)
class Dice:
    """Makes the inputs of one seed."""

    random: random.Random

    def damaged(self, good: Sequence[bytes]) -> bytes:
        """One of these, with a few bytes changed, cut out, doubled or put in; or mere noise."""
        if self.random.random() < 0.1:
            return self.random.randbytes(self.random.randint(0, 300))
        data = bytearray(self.random.choice(good))
        for _ in range(self.random.choice((0, 1, 1, 2, 5))):
            at = self.random.randint(0, len(data))
            width = self.random.choice((0, 1, 1, 4, 20))
            data[at : at + width] = self.random.choice(
                (*INTERESTING, self.random.randbytes(width), bytes(data[at : at + width]) * 2)
            )
        return bytes(data)

    def chunks(self, data: bytes) -> list[bytes]:
        """Cut as TCP might."""
        size = self.random.choice((1, 2, 7, 64, CHUNK))
        return [data[at : at + size] for at in range(0, len(data), size)]


def kept(thing: object, depth: int = 3) -> int:
    """Bytes that an object holds, as far as they can be seen."""
    if isinstance(thing, (bytes, bytearray, str)):
        return len(thing)
    if depth == 0 or callable(thing):
        return 0
    if isinstance(thing, dict):
        return sum(kept(key, depth - 1) + kept(thing[key], depth - 1) for key in thing)
    if isinstance(thing, (list, tuple, set, frozenset)):
        return sum(kept(part, depth - 1) for part in thing)
    names = {name for kind in type(thing).__mro__ for name in getattr(kind, "__slots__", ())}
    names |= set(getattr(thing, "__dict__", ()))
    return sum(kept(getattr(thing, name, None), depth - 1) for name in names)


class WireFuzzTests(SynchronousTestCase):
    """Nothing but ProtocolError, and no growth."""

    PARTS = 9

    def fuzz(self, one: Callable[[Dice], None]) -> None:
        """Run one kind of input so many times; a failure names its seed."""
        for seed in range(SEED, SEED + max(1, TOTAL // self.PARTS)):
            try:
                one(Dice(random.Random(seed)))
            except ProtocolError:
                continue
            except Exception as error:
                raise AssertionError(f"PROXYD_SEED={seed}: {error!r}") from error

    def test_client_startup(self) -> None:
        """A client's first packets."""

        def one(dice: Dice) -> None:
            startup = ClientStartup(direct_tls=dice.random.random() < 0.5)
            data = dice.damaged(FIRST_PACKETS) + dice.damaged((START, b""))
            for chunk in dice.chunks(data):
                for event in startup.receive_data(chunk):
                    if isinstance(event, StartupRequested):
                        split_options(event.parameters.get("options", ""))
                        assert 0 < len(event.parameters["user"].encode()) <= 63
                        return
                    if startup.state.name == "ASKED":
                        tls = isinstance(event, DirectTlsOffered)
                        startup.answered(tls or (not startup.secure and dice.random.random() < 0.3))
                assert kept(startup) < 10_001 + SLACK

        self.fuzz(one)

    def test_message_reader(self) -> None:
        """Messages that are read whole."""

        def one(dice: Dice) -> None:
            reader = MessageReader(100, dice.random.choice((None, frozenset(b"QSPBdc"))))
            for chunk in dice.chunks(dice.damaged(CLIENT_TALK) + dice.damaged(CLIENT_TALK)):
                reader.feed(chunk)
                while (found := reader.next_message()) is not None:
                    assert len(found[1]) <= 100
                assert len(reader.trailing_data) < 105 + SLACK

        self.fuzz(one)

    def test_server_login(self) -> None:
        """A server at its login; some get as far as SCRAM."""

        def one(dice: Dice) -> None:
            login = ServerLogin(
                user="ann", database="shop", password=dice.random.choice((None, b"secret")),
                parameters={}, nonce=NONCE, secure=dice.random.random() < 0.5, local=False,
                allow=frozenset({"none", "password", "md5", "scram-sha-256"}),
                challenge_required=dice.random.random() < 0.3,
                binding=dice.random.choice((None, bytes(32))),
            )  # fmt: skip
            login.data_to_send()
            pending = dice.chunks(dice.damaged(LOGINS))
            scram = ScramServer(b"secret")
            while pending:
                events = login.receive_data(pending.pop(0))
                for event in events:
                    assert isinstance(event, (DeriveKey, LoginDone, LoginRefused))
                    if isinstance(event, DeriveKey):
                        login.key_derived(scram.salted)
                sent = login.data_to_send()
                if b"SCRAM-SHA-256" in sent and not pending:
                    challenge = scram.first(sent[sent.index(b"SCRAM") :].split(b"\0", 1)[1][4:])
                    pending = dice.chunks(
                        dice.damaged((messages.authentication_sasl_continue(challenge),))
                    )
                assert kept(login) < 2 * LOGIN_LIMIT

        self.fuzz(one)

    def test_scram_client(self) -> None:
        """A SCRAM server, its challenge and its proof."""

        def one(dice: Dice) -> None:
            client = ScramClient("secret", NONCE)
            server = ScramServer(b"secret")
            challenge = server.first(client.first())
            try:
                asked = client.read_challenge(dice.damaged((challenge,)))
            except ProtocolError:
                client = ScramClient("secret", NONCE)
                client.first()
                asked = client.read_challenge(challenge)
            assert 0 < asked.iterations <= 1_000_000
            proof = server.final(client.prove(server.salted)) or b"e=other-error"
            client.verify(dice.damaged((proof, b"v=", b"e=invalid-proof")))

        self.fuzz(one)

    def test_proxy_header(self) -> None:
        """A PROXY header of either version."""

        def one(dice: Dice) -> None:
            header = ProxyHeader()
            for chunk in dice.chunks(dice.damaged(PROXY_HEADERS)):
                address = header.receive_data(chunk)
                assert kept(header) < V2_LIMIT + SLACK
                if address is not None:
                    assert address.source is None or 0 <= address.source[1] <= 65535

        self.fuzz(one)

    def test_scanner(self) -> None:
        """Message borders: a scanner raises nothing at all."""
        table = mask(
            {"PB": PASS, "d": DATA, "cf": MARK, "SF": HEADER, "QE": BODY, "Z": READY, "X": STOP}
        )

        def one(dice: Dice) -> None:
            scanner = Scanner("frontend", table, lambda *seen: None, lambda: None, 50)
            held = b""
            for chunk in dice.chunks(dice.damaged(CLIENT_TALK) + dice.damaged(SERVER_TALK)):
                data = held + chunk
                try:
                    allowed = scanner.scan(data, len(data))
                except ProtocolError as error:
                    raise AssertionError("a scanner raises nothing") from error
                held = data[allowed:]
                assert scanner.stopped or len(held) < 5
                assert kept(scanner) < 50 + len(table) + 100

        self.fuzz(one)

    def test_flow(self) -> None:
        """Both sides of a session: a flow raises nothing at all."""

        def one(dice: Dice) -> None:
            flow = Flow(lambda body: None, lambda body: None)
            for _ in range(3):
                for scanner, talk in ((flow.client, CLIENT_TALK), (flow.server, SERVER_TALK)):
                    for chunk in dice.chunks(dice.damaged(talk)):
                        try:
                            scanner.scan(chunk, len(chunk))
                        except ProtocolError as error:
                            raise AssertionError("a flow raises nothing") from error
            assert sys.getsizeof(flow._owed) < 10_000

        self.fuzz(one)

    def test_batch_skip(self) -> None:
        """A request that is thrown away."""

        def one(dice: Dice) -> None:
            skip = BatchSkip()
            for chunk in dice.chunks(dice.damaged(CLIENT_TALK) + dice.damaged(CLIENT_TALK)):
                skip.receive_data(chunk)
                assert kept(skip) <= CHUNK + 5
                if skip.done:
                    return

        self.fuzz(one)

    def test_parsers(self) -> None:
        """The parsers of bodies, of settings and of passwords."""
        parsers: tuple[Callable[[bytes], object], ...] = (
            messages.parse_parameter_status,
            messages.parse_backend_key_data,
            messages.parse_password,
            messages.parse_authentication,
            messages.parse_data_row,
            messages.parse_command_tag,
            parse_error,
            prepare_password,
        )
        bodies = (
            b"TimeZone\0UTC\0",
            b"\0\0\0*abcd",
            b"secret\0",
            b"\0\2\0\0\0\1a\xff\xff\xff\xff",
            b"SERROR\0C22012\0Mno\0\0",
        )

        def one(dice: Dice) -> None:
            body = dice.damaged(bodies)
            for parser in parsers:
                try:
                    parser(body)
                except ProtocolError:
                    continue
            text = dice.damaged([option.encode() for option in OPTIONS]).decode("utf-8", "replace")
            for name, value in split_options(text):
                assert name and isinstance(value, str)
            try:
                error_response("ERROR", "22012", text, detail=text)
                messages.query(text)
            except LocalProtocolError:
                assert "\0" in text

        self.fuzz(one)
