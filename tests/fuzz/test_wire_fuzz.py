"""
Random and damaged bytes for every machine of C{proxyd.wire.pg}, and the PROXY header's.

The promise, the same for all of them: whatever a peer sends, a machine raises
L{ProtocolError} or nothing, and keeps no more than its limit. How many inputs
each of them gets is said, and printed, by L{tests.fuzz.dice}.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

from twisted.trial.unittest import SynchronousTestCase

from proxyd.errors import LocalProtocolError, ProtocolError
from proxyd.wire.pg import messages
from proxyd.wire.pg.date_style import merge_date_styles
from proxyd.wire.pg.errors import error_response, notice_response, parse_error
from proxyd.wire.pg.flow import Flow
from proxyd.wire.pg.framing import MessageReader, whole_messages
from proxyd.wire.pg.login import (
    LOGIN_LIMIT,
    DeriveKey,
    LoginDone,
    LoginRefused,
    LoginState,
    ServerLogin,
)
from proxyd.wire.pg.negotiation import negotiated_minor
from proxyd.wire.pg.oauth import OAuthBearer
from proxyd.wire.pg.scanner import BODY, DATA, HEADER, MARK, PASS, READY, STOP, Scanner, mask
from proxyd.wire.pg.scram import ScramClient, prepare_password
from proxyd.wire.pg.skip import BatchSkip
from proxyd.wire.pg.startup import (
    ClientStartup,
    DirectTlsOffered,
    StartupRequested,
    StartupState,
    split_options,
)
from proxyd.wire.proxy_protocol import V2_LIMIT, ProxyHeader
from tests.fuzz.dice import CHUNK, CLIENT_TALK, SERVER_TALK, SLACK, Dice, apart, fuzz, kept
from tests.wire.pg.scram_server import ScramServer

NONCE = "rOprNGfwEbeRWgbNEkqO"
SCRAM = ScramServer(b"secret")
"""One for all: its key is slow to derive, and a new exchange begins anew."""

START = messages.startup_message({"user": "ann", "database": "shop", "options": "-c a=b --c-d=e"})
FIRST_PACKETS = (
    START,
    messages.ssl_request() + START,
    messages.startup_message({"user": "é" * 40, "_pq_.x": "1", "application_name": "a"}, 2),
    messages.startup_message({"user": "ann", "DateStyle": "ISO", "replication": "on"}),
    messages.startup_message({"user": "ann", "datestyle": "ISO", "search_path": "x" * 600}),
    messages.cancel_request(4711, b"12345678"),
    b"\0\0\0\x08\x04\xd2\x16\x30" + START,
    b"\x16\x03\x01\x02\0\x01\0",
    b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
)
THEN = (START, b"", messages.ssl_request(), b"\0\0\0\x08\x04\xd2\x16\x30")
GREETING = (
    messages.authentication_ok()
    + messages.parameter_status("server_version", "15.18")
    + messages.backend_key_data(42, b"abcd")
    + messages.ready_for_query()
)
SASL = messages.authentication_sasl(["SCRAM-SHA-256", "SCRAM-SHA-256-PLUS"])
LOGINS = (
    GREETING,
    messages.authentication_cleartext() + GREETING,
    b"R\0\0\0\x0c\0\0\0\5salt" + GREETING,
    SASL,
    messages.authentication_sasl(["SCRAM-SHA-256"]),
    error_response("FATAL", "28P01", "no", "detail", "hint"),
    messages.negotiate_protocol_version(0, []) + GREETING,
    messages.negotiate_protocol_version(2, ["_pq_.x"]) + GREETING,
    b"v\0\0\0\x0c\0\3\0\0\0\0\0\0" + GREETING,
    notice_response("WARNING", "01000", "careful") + GREETING,
)
CLIENT_MESSAGES, SERVER_MESSAGES = apart(CLIENT_TALK), (*apart(SERVER_TALK), *apart((GREETING,)))
LOGIN_MESSAGES = apart(LOGINS)
PROXY_HEADERS = (
    b"PROXY TCP4 192.0.2.1 192.0.2.2 1 65535\r\n",
    b"PROXY TCP6 2001:db8::1 ::1 1 2\r\nrest",
    b"PROXY UNKNOWN\r\n",
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c" + bytes(12) + b"rest",
    b"\r\n\r\n\0\r\nQUIT\n\x21\x21\0\x28" + bytes(40),
    b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0",
)
OPTIONS = tuple(
    text.encode()
    for text in ("-c a=b", "-ca=b --c-d=e\\ f", "--x=", "-c", "\\", " \t\n", "-c =x", "--é=\\\\")
)
STYLES = (b"ISO, MDY", b"german", b"SQL,DMY", b"Postgres", b"euro , iso", b"\xc3\xa9", b",,")
TOKENS = tuple(
    messages.sasl_initial_response(mechanism, said)[5:]
    for mechanism, said in (
        ("OAUTHBEARER", b"n,,\x01auth=Bearer abc.d-e~f==\x01\x01"),
        ("OAUTHBEARER", b"y,,\x01auth=\x01\x01"),
        ("OAUTHBEARER", b"p=x,,\x01host=a\x01auth=bearer a\x01\x01"),
        ("OAUTHBEARER", b"n,,\x01host=a\x01port=1\x01auth=bearer  a\x01\x01"),
        ("SCRAM-SHA-256", b"n,,n=,r=x"),
    )
)
BODIES = (
    b"TimeZone\0UTC\0",
    b"\0\0\0*abcd",
    b"secret\0",
    "pässword\N{NO-BREAK SPACE}\N{ROMAN NUMERAL NINE}\0".encode(),
    "\N{HEBREW LETTER ALEF}1\N{HEBREW LETTER BET}".encode(),
    b"\0\2\0\0\0\1a\xff\xff\xff\xff",
    b"SERROR\0C22012\0Mno\0\0",
    b"\0\3\0\2\0\0\0\0",
)
PARSERS: tuple[Callable[[bytes], object], ...] = (
    messages.parse_parameter_status,
    messages.parse_backend_key_data,
    messages.parse_password,
    messages.parse_authentication,
    messages.parse_data_row,
    messages.parse_command_tag,
    parse_error,
    prepare_password,
    lambda body: negotiated_minor(body, 2, 0),
)
TABLE = mask({"PB": PASS, "d": DATA, "cf": MARK, "SF": HEADER, "QE": BODY, "Z": READY, "X": STOP})
ALLOW = frozenset({"none", "password", "md5", "scram-sha-256"})


class WireFuzzTests(SynchronousTestCase):
    """Nothing but ProtocolError, and no growth."""

    def test_client_startup(self) -> None:
        """A client's first packets."""

        def one(dice: Dice) -> None:
            startup = ClientStartup(direct_tls=dice.below(2) == 0)
            look = dice.below(16) == 0
            for chunk in dice.chunks(dice.damaged(FIRST_PACKETS) + dice.damaged(THEN)):
                for event in startup.receive_data(chunk):
                    if isinstance(event, StartupRequested):
                        assert 0 < len(event.parameters["user"].encode()) <= 63
                        assert event.parameters["database"]
                        return
                    if startup.state is StartupState.ASKED:
                        tls = isinstance(event, DirectTlsOffered)
                        startup.answered(tls or (not startup.secure and dice.below(3) == 0))
                assert not look or kept(startup) < 10_001 + SLACK

        fuzz(self.id(), one)

    def test_settings(self) -> None:
        """Options of a start-up packet, DateStyle, and texts that go into messages."""

        def one(dice: Dice) -> None:
            text = dice.damaged(OPTIONS).decode("utf-8", "surrogateescape")
            one, two = (dice.damaged(STYLES).decode("utf-8", "replace") for _ in range(2))
            assert len(merge_date_styles(one, two)) <= len(one) + len(two) + 2
            told = parse_error(error_response("ERROR", "22012", text, detail=text)[5:])
            assert "\0" not in told.message and told.sqlstate == "22012"
            try:
                assert messages.query(text)
            except LocalProtocolError:
                assert "\0" in text
            for name, _ in split_options(text):
                assert name

        fuzz(self.id(), one)

    def test_message_reader(self) -> None:
        """Messages that are read whole: one at a time as all at once."""

        def one(dice: Dice) -> None:
            kinds = None if dice.below(2) else frozenset(b"QSPBdc")
            reader = MessageReader(100, kinds)
            data = dice.shuffled(CLIENT_MESSAGES) + dice.damaged(CLIENT_TALK)
            count = 0
            for chunk in dice.chunks(data):
                reader.feed(chunk)
                while (found := reader.next_message()) is not None:
                    count += 1
                    assert len(found[1]) <= 100
                assert len(reader.trailing_data) < 105
            messages, taken = whole_messages(data, 100, -1)
            assert kinds or (len(messages) == count and data[taken:] == reader.trailing_data)

        fuzz(self.id(), one)

    def test_server_login(self) -> None:
        """A server at its login, as far as the end of SCRAM."""

        def one(dice: Dice) -> None:
            login = ServerLogin(
                user="ann", database="shop", password=b"secret" if dice.below(4) else None,
                parameters={}, nonce=NONCE, secure=dice.below(2) == 0, local=False, allow=ALLOW,
                challenge_required=dice.below(4) == 0, binding_required=dice.below(8) == 0,
                binding=bytes(32) if dice.below(2) else None,
                minor=2 * dice.below(2), least_minor=2 * dice.below(2),
            )  # fmt: skip
            said = dice.damaged(LOGINS) if dice.below(2) else dice.shuffled(LOGIN_MESSAGES)
            if dice.below(4) == 0:
                said = SASL
            look = dice.below(16) == 0
            login.data_to_send()
            for _ in range(3):
                for chunk in dice.chunks(said):
                    for event in login.receive_data(chunk):
                        assert isinstance(event, (DeriveKey, LoginDone, LoginRefused))
                        if isinstance(event, DeriveKey):
                            login.key_derived(SCRAM.salted)
                    assert not look or kept(login) < 2 * LOGIN_LIMIT
                if not (sent := login.data_to_send()):
                    return
                if login.state is LoginState.SCRAM_BEGUN:
                    challenge = SCRAM.first(sent[5:].split(b"\0", 1)[1][4:])
                    said = messages.authentication_sasl_continue(challenge)
                elif login.state is LoginState.SCRAM_ANSWERED:
                    proof = SCRAM.final(sent[5:]) or b"e=other-error"
                    said = messages.authentication_sasl_final(proof) + GREETING
                else:
                    return
                if dice.below(3) == 0:
                    said = dice.damaged((said,))

        fuzz(self.id(), one)

    def test_scram_client(self) -> None:
        """A SCRAM server, its challenge and its proof."""

        def one(dice: Dice) -> None:
            client = ScramClient("secret", NONCE)
            challenge = SCRAM.first(client.first())
            if dice.below(2):
                asked = client.read_challenge(dice.damaged((challenge,)))
            else:
                asked = client.read_challenge(challenge)
            assert 0 < asked.iterations <= 1_000_000
            proof = SCRAM.final(client.prove(SCRAM.salted)) or b"e=other-error"
            client.verify(dice.damaged((proof, proof, b"v=", b"e=invalid-proof")))

        fuzz(self.id(), one)

    def test_oauth(self) -> None:
        """A client with a token of an issuer's."""

        def one(dice: Dice) -> None:
            exchange = OAuthBearer()
            token = exchange.initial_response(dice.damaged(TOKENS))
            assert token.isascii() and b" " not in token
            assert exchange.refusal(dice.damaged(OPTIONS).decode("latin-1")).isascii()
            exchange.acknowledged(b"\x01" if dice.below(2) else dice.damaged((b"\x01",)))

        fuzz(self.id(), one)

    def test_scanner(self) -> None:
        """Message borders: a scanner raises nothing at all."""

        def one(dice: Dice) -> None:
            scanner = Scanner("frontend", TABLE, lambda *seen: None, lambda: None, 50)
            held = b""
            data = dice.shuffled(CLIENT_MESSAGES) + dice.damaged(CLIENT_TALK + SERVER_TALK)
            look = dice.below(16) == 0
            for chunk in dice.chunks(data):
                data = held + chunk
                try:
                    allowed = scanner.scan(data, len(data))
                except ProtocolError as error:
                    raise AssertionError("a scanner raises nothing") from error
                held = data[allowed:]
                assert scanner.stopped or len(held) < 5
                assert not look or kept(scanner) < 50 + len(TABLE) + 100

        fuzz(self.id(), one)

    def test_flow(self) -> None:
        """Both sides of a session: a flow raises nothing at all."""

        def one(dice: Dice) -> None:
            seen = None if dice.below(2) else (lambda kind, body, length: None)
            flow = Flow(messages.parse_parameter_status, len, seen)
            flow.watch = dice.below(2) == 0
            for _ in range(3):
                for scanner, talk, whole in (
                    (flow.client, CLIENT_TALK, CLIENT_MESSAGES),
                    (flow.server, SERVER_TALK, SERVER_MESSAGES),
                ):
                    data = dice.damaged(talk) if dice.below(4) == 0 else dice.shuffled(whole)
                    held = b""
                    for chunk in dice.chunks(data):
                        data = held + chunk
                        try:
                            held = data[scanner.scan(data, len(data)) :]
                        except ProtocolError as error:
                            raise AssertionError("a flow raises nothing") from error
                flow.look_again()
                assert flow.copying <= (not flow.answered)
            if dice.below(4) == 0:
                flow.break_off()
            assert flow.doubt or not flow.server.stopped
            assert not flow.reusable or (flow.settled and not flow.doubt)
            assert sys.getsizeof(flow._owed) < 10_000

        fuzz(self.id(), one)

    def test_batch_skip(self) -> None:
        """A request that is thrown away."""

        def one(dice: Dice) -> None:
            skip = BatchSkip()
            data = dice.shuffled(CLIENT_MESSAGES) + dice.damaged(CLIENT_TALK)
            look = dice.below(16) == 0
            for chunk in dice.chunks(data):
                skip.receive_data(chunk)
                assert not look or kept(skip) <= CHUNK + 5
                if skip.done:
                    assert chunk.endswith(skip.trailing_data)
                    return

        fuzz(self.id(), one)

    def test_parsers(self) -> None:
        """The parsers of bodies and of passwords: each of them gets each input."""

        def one(dice: Dice) -> None:
            body = dice.damaged(BODIES)
            for parser in PARSERS:
                try:
                    parser(body)
                except ProtocolError:
                    continue

        fuzz(self.id(), one)

    def test_proxy_header(self) -> None:
        """A PROXY header of either version."""

        def one(dice: Dice) -> None:
            header = ProxyHeader()
            look = dice.below(16) == 0
            for chunk in dice.chunks(dice.damaged(PROXY_HEADERS)):
                address = header.receive_data(chunk)
                assert not look or kept(header) < V2_LIMIT + SLACK
                if address is not None:
                    assert address.source is None or 0 <= address.source[1] <= 65535

        fuzz(self.id(), one)
