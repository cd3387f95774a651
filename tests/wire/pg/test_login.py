"""Logging in to servers, honest and hostile."""

from __future__ import annotations

import hashlib

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from proxyd.errors import LocalProtocolError, ProtocolError
from proxyd.wire.pg import messages
from proxyd.wire.pg.errors import error_response, notice_response
from proxyd.wire.pg.login import (
    DEFAULT,
    LOGIN_LIMIT,
    NOTICES_KEPT,
    DeriveKey,
    LoginDone,
    LoginEvent,
    LoginRefused,
    LoginState,
    ServerLogin,
    Unchallenged,
)
from proxyd.wire.pg.passwords import md5_password
from tests.wire.cuts import cut, one_by_one, places
from tests.wire.pg.scram_server import ITERATIONS, ScramServer

OK = messages.authentication_ok()
CLEARTEXT = messages.authentication_cleartext()
MD5 = b"R\0\0\0\x0c\0\0\0\5salt"
SCRAM = messages.authentication_sasl(["SCRAM-SHA-256"])
SCRAM_PLUS = messages.authentication_sasl(["SCRAM-SHA-256-PLUS", "SCRAM-SHA-256"])
KEY = messages.backend_key_data(4711, b"hush")
READY = messages.ready_for_query()
SETTLED = messages.parameter_status("server_version", "15.18") + KEY + READY
WRONG = error_response("FATAL", "28P01", "password authentication failed")


def begin(
    *,
    password: bytes | None = b"pencil",
    secure: bool = True,
    local: bool = False,
    allow: frozenset[str] = DEFAULT,
    challenge_required: bool = False,
    binding: bytes | None = None,
    binding_required: bool = False,
    minor: int = 0,
    least_minor: int = 0,
) -> ServerLogin:
    """A login whose StartupMessage was sent."""
    login = ServerLogin(
        user="ann",
        database="shop",
        password=password,
        parameters={"application_name": "proxyd"},
        nonce="abcdefghijklmnopqrstuvwx",
        secure=secure,
        local=local,
        allow=allow,
        challenge_required=challenge_required,
        binding=binding,
        binding_required=binding_required,
        minor=minor,
        least_minor=least_minor,
    )
    login.data_to_send()
    return login


def hear(login: ServerLogin, *flights: bytes) -> list[LoginEvent]:
    """Hand in flights of the server's; between them our answers are sent."""
    events: list[LoginEvent] = []
    for flight in flights:
        events += login.receive_data(flight)
        login.data_to_send()
    return events


def scram_flight(login: ServerLogin, server: ScramServer, offer: bytes = SCRAM) -> bytes:
    """Go through SCRAM up to our proof; what an honest server would say next."""
    hear_nothing = login.receive_data(offer)
    if hear_nothing:
        raise AssertionError(hear_nothing)
    first = login.data_to_send()[5:]
    mechanism, first = first.split(b"\0", 1)
    server.first(first[4:])
    [event] = login.receive_data(messages.authentication_sasl_continue(server.challenge))
    if not isinstance(event, DeriveKey):
        raise AssertionError(event)
    login.key_derived(event.challenge.derive("pencil"))
    final = server.final(login.data_to_send()[5:])
    if final is None:
        raise AssertionError(f"an honest server does not believe us ({mechanism!r})")
    return messages.authentication_sasl_final(final)


class LoginTests(SynchronousTestCase):
    """Logins that succeed."""

    def test_startup(self) -> None:
        """The first words are the StartupMessage, once."""
        login = ServerLogin(
            user="ann",
            database="shop",
            password=None,
            parameters={"client_encoding": "UTF8"},
            nonce="abc",
            secure=False,
            local=True,
        )
        pairs = {"user": "ann", "database": "shop", "client_encoding": "UTF8"}
        self.assertEqual(login.data_to_send(), messages.startup_message(pairs))
        self.assertEqual(login.data_to_send(), b"")

    def test_trust(self) -> None:
        """A server may ask for nothing, where that is allowed."""
        [event] = hear(begin(password=None), OK + SETTLED)
        self.assertEqual(event, LoginDone({"server_version": "15.18"}, 4711, b"hush", ()))

    def test_scram(self) -> None:
        """SCRAM, finished by the server's proof."""
        login = begin()
        final = scram_flight(login, ScramServer(b"pencil"))
        [event] = login.receive_data(final + OK + SETTLED)
        self.assertIsInstance(event, LoginDone)
        self.assertIs(login.state, LoginState.DONE)

    def test_scram_in_the_clear(self) -> None:
        """SCRAM needs no encryption."""
        login = begin(secure=False)
        final = scram_flight(login, ScramServer(b"pencil"))
        self.assertEqual(len(login.receive_data(final + OK + SETTLED)), 1)

    def test_scram_bound(self) -> None:
        """With the certificate's hash at hand, the offer of channel binding is taken."""
        login = begin(binding=b"hash")
        final = scram_flight(login, ScramServer(b"pencil", b"hash"), SCRAM_PLUS)
        self.assertEqual(len(login.receive_data(final + OK + SETTLED)), 1)

    def test_scram_offers(self) -> None:
        """Which mechanism is chosen, and what is said of channel binding."""
        for binding, offer, words in (
            (None, SCRAM, b"SCRAM-SHA-256\0\0\0\0\x20n,,"),
            (None, SCRAM_PLUS, b"SCRAM-SHA-256\0\0\0\0\x20n,,"),
            (b"hash", SCRAM, b"SCRAM-SHA-256\0\0\0\0\x20y,,"),
            (b"hash", SCRAM_PLUS, b"SCRAM-SHA-256-PLUS\0\0\0\0\x35p=tls-server-end-point,,"),
        ):
            login = begin(binding=binding)
            login.receive_data(offer)
            said = login.data_to_send()[5:]
            self.assertEqual(said[: len(words)], words)

    def test_binding_required(self) -> None:
        """channel_binding=require: no login but by SCRAM with channel binding."""
        login = begin(binding=b"hash", binding_required=True)
        final = scram_flight(login, ScramServer(b"pencil", b"hash"), SCRAM_PLUS)
        self.assertEqual(len(login.receive_data(final + OK + SETTLED)), 1)
        anything = DEFAULT | {"password"}
        for flight, what in (
            (SCRAM, "does not offer it"),
            (MD5, "not allowed"),
            (CLEARTEXT, "not allowed"),
            (OK, "not allowed"),
        ):
            login = begin(binding=b"hash", binding_required=True, allow=anything)
            error = self.assertRaises(ProtocolError, login.receive_data, flight)
            self.assertIn(what, str(error))
            self.assertEqual(login.data_to_send(), b"")
        login = begin(binding_required=True)
        error = self.assertRaises(ProtocolError, login.receive_data, SCRAM_PLUS)
        self.assertIn("RFC 5929", str(error))

    def test_offer_without_tls(self) -> None:
        """Who offers channel binding where there is no TLS shows that TLS was taken away."""
        login = begin(secure=False, local=True)
        error = self.assertRaises(ProtocolError, login.receive_data, SCRAM_PLUS)
        self.assertIn("in between", str(error))
        login = begin(secure=False, local=True, binding_required=True)
        error = self.assertRaises(ProtocolError, login.receive_data, SCRAM)
        self.assertIn("not encrypted", str(error))

    def test_minor_versions(self) -> None:
        """3.2 is asked for where that was wanted; less is taken where it will do."""
        login = ServerLogin(
            user="ann",
            database="shop",
            password=None,
            parameters={},
            nonce="abc",
            secure=False,
            local=True,
            minor=2,
        )
        pairs = {"user": "ann", "database": "shop"}
        self.assertEqual(login.data_to_send(), messages.startup_message(pairs, 2))
        older = messages.negotiate_protocol_version(0, [])
        self.assertEqual(len(hear(begin(minor=2), older + OK + READY)), 1)
        self.assertEqual(len(hear(begin(minor=2, least_minor=2), OK + READY)), 1)
        error = self.assertRaises(
            ProtocolError, hear, begin(minor=2, least_minor=2), older + OK + READY
        )
        self.assertIn("min_protocol_version", str(error))

    def test_md5(self) -> None:
        """MD5 is answered within TLS, and on this host."""
        for login in (begin(), begin(secure=False, local=True)):
            self.assertEqual(login.receive_data(MD5), [])
            hashed = md5_password("ann", b"pencil", b"salt")
            self.assertEqual(login.data_to_send(), messages.password_message(hashed))
            self.assertEqual(len(hear(login, OK + SETTLED)), 1)

    def test_password(self) -> None:
        """A password is given in clear where that was asked for by name."""
        login = begin(allow=frozenset({"password"}))
        self.assertEqual(login.receive_data(CLEARTEXT), [])
        self.assertEqual(login.data_to_send(), messages.password_message(b"pencil"))
        self.assertEqual(len(hear(login, OK + SETTLED)), 1)

    def test_no_key(self) -> None:
        """A server that tells no key (RDS Proxy) is not waited for."""
        [event] = hear(begin(), OK + READY)
        self.assertEqual(event, LoginDone({}, None, None, ()))

    def test_long_key(self) -> None:
        """Keys of version 3.2 are taken as they are."""
        key = bytes(range(256))
        [event] = hear(begin(), OK + messages.backend_key_data(1, key) + READY)
        self.assertEqual(event, LoginDone({}, 1, key, ()))

    def test_notices(self) -> None:
        """Notices are kept, before and after the password."""
        notice = notice_response("WARNING", "01000", "soon")
        [event] = hear(begin(), notice + OK + notice + READY)
        assert isinstance(event, LoginDone)
        self.assertEqual([said.message for said in event.notices], ["soon", "soon"])

    def test_many_notices(self) -> None:
        """Of a server that talks and talks, the beginning is kept."""
        [event] = hear(begin(), OK + b"N\0\0\0\5\0" * 40_000, READY)
        assert isinstance(event, LoginDone)
        self.assertEqual(len(event.notices), NOTICES_KEPT)

    def test_negotiation(self) -> None:
        """A server may say that it speaks 3.0, once; it was asked for nothing else."""
        same = messages.negotiate_protocol_version(0, [])
        self.assertEqual(len(hear(begin(), same + OK + READY)), 1)
        for other in (
            same + same,
            messages.negotiate_protocol_version(2, []),
            messages.negotiate_protocol_version(0, ["_pq_.x"]),
            OK + same,
            b"v\0\0\0\4",
        ):
            self.assertRaises(ProtocolError, hear, begin(), other)

    @given(places, st.booleans())
    def test_cuts(self, where: list[int], singly: bool) -> None:
        """However TCP cuts the stream, the login is the same."""
        login = begin()
        final = scram_flight(login, ScramServer(b"pencil"))
        flight = final + notice_response("NOTICE", "00000", "hello") + OK + SETTLED
        events = hear(login, *(one_by_one(flight) if singly else cut(flight, where)))
        self.assertEqual(len(events), 1)
        assert isinstance(events[0], LoginDone)
        self.assertEqual(events[0].parameters, {"server_version": "15.18"})
        self.assertEqual(events[0].notices[0].message, "hello")

    def test_derive(self) -> None:
        """What is slow is left to the caller, who is told how slow."""
        login = begin()
        login.receive_data(SCRAM)
        server = ScramServer(b"pencil")
        server.first(b"n,,n=,r=abcdefghijklmnopqrstuvwx")
        login.data_to_send()
        [event] = login.receive_data(messages.authentication_sasl_continue(server.challenge))
        assert isinstance(event, DeriveKey)
        self.assertEqual(event.challenge.iterations, ITERATIONS)
        self.assertIs(login.state, LoginState.DERIVING)
        self.assertEqual(login.data_to_send(), b"")


class RefusalTests(SynchronousTestCase):
    """Servers that say no."""

    def test_wrong_password(self) -> None:
        """A refusal has the server's words, and whether the password was accepted."""
        for flights, after in (
            ((WRONG,), False),
            ((MD5, WRONG), False),
            ((SCRAM, WRONG), False),
            ((OK + WRONG,), True),
            ((MD5, OK + KEY + WRONG), True),
        ):
            login = begin()
            [event] = hear(login, *flights)
            assert isinstance(event, LoginRefused)
            self.assertEqual(event.error.sqlstate, "28P01")
            self.assertIs(event.after_authentication, after)
            self.assertIs(login.state, LoginState.REFUSED)

    def test_after(self) -> None:
        """What comes after a refusal is ignored."""
        login = begin()
        self.assertEqual(len(hear(login, WRONG + OK + SETTLED)), 1)
        self.assertEqual(hear(login, OK + SETTLED), [])
        self.assertIs(login.state, LoginState.REFUSED)

    def test_too_late(self) -> None:
        """A key that was derived for a server that gave up meanwhile is of no use."""
        login = begin()
        server = ScramServer(b"pencil")
        login.receive_data(SCRAM)
        server.first(b"n,,n=,r=abcdefghijklmnopqrstuvwx")
        login.data_to_send()
        login.receive_data(messages.authentication_sasl_continue(server.challenge))
        self.assertIsInstance(login.receive_data(WRONG)[0], LoginRefused)
        login.key_derived(bytes(32))
        self.assertEqual(login.data_to_send(), b"")

    def test_answer_unsent(self) -> None:
        """A refusal in the same chunk as the question gives no password away."""
        login = begin()
        login.receive_data(MD5 + WRONG)
        self.assertEqual(login.data_to_send(), b"")


class HostileServerTests(SynchronousTestCase):
    """Servers that want a password, or to be believed without one."""

    def assert_broken(self, login: ServerLogin, *flights: bytes, words: str = "") -> None:
        """The login fails, and no more is said to the server."""
        error = self.assertRaises(ProtocolError, hear, login, *flights)
        self.assertIn(words, str(error))
        self.assertNotIn("pencil", str(error))
        self.assertEqual(login.data_to_send(), b"")
        self.assertIs(login.state, LoginState.FAILED)
        self.assertEqual(login.receive_data(OK + SETTLED), [])

    def test_shelter(self) -> None:
        """No password leaves this host unencrypted, not even hashed by MD5."""
        everything = DEFAULT | {"password"}
        for request, method in ((CLEARTEXT, "password"), (MD5, "md5")):
            self.assert_broken(
                begin(secure=False, allow=everything),
                request,
                words=f"asks for {method} authentication, "
                "and the connection is neither encrypted nor local",
            )

    def test_not_allowed(self) -> None:
        """What was not allowed is refused by name, before shelter is looked at."""
        for request, method in (
            (CLEARTEXT, "password"),
            (MD5, "md5"),
            (SCRAM, "scram-sha-256"),
        ):
            for secure in (True, False):
                self.assert_broken(
                    begin(allow=frozenset({"none"}), secure=secure),
                    request,
                    words=f"asks for {method} authentication, which is not allowed",
                )
        self.assert_broken(begin(allow=frozenset({"md5"})), OK, words="asks for no password")

    def test_clear_by_default(self) -> None:
        """A password in clear is not allowed unless said, even within TLS."""
        self.assert_broken(begin(), CLEARTEXT, words="password authentication, which is not")

    def test_unchallenged(self) -> None:
        """A login that is to check a password is not content with no question."""
        self.assertRaises(Unchallenged, hear, begin(challenge_required=True), OK + SETTLED)
        answered = begin(challenge_required=True)
        self.assertEqual(len(hear(answered, MD5, OK + SETTLED)), 1)

    def test_ok_without_proof(self) -> None:
        """SCRAM that was begun must be finished by the server's proof."""
        words = "without the proof"
        self.assert_broken(begin(), SCRAM, OK + SETTLED, words=words)
        derived = begin()
        scram_flight(derived, ScramServer(b"pencil"))
        self.assert_broken(derived, OK + SETTLED, words=words)
        deriving = begin()
        deriving.receive_data(SCRAM)
        deriving.data_to_send()
        challenge = b"r=abcdefghijklmnopqrstuvwx1,s=AAAA,i=1"
        deriving.receive_data(messages.authentication_sasl_continue(challenge))
        self.assert_broken(deriving, OK + SETTLED, words=words)

    def test_wrong_proof(self) -> None:
        """A server that does not know the password is found out."""
        login = begin()
        final = scram_flight(login, ScramServer(b"pencil"))
        forged = final[:-10] + b"AAAA" + final[-6:]
        self.assert_broken(login, forged + OK + SETTLED, words="SCRAM proof is wrong")

    def test_downgrade(self) -> None:
        """After SCRAM began, no other way is answered."""
        for request in (MD5, CLEARTEXT, SCRAM, b"R\0\0\0\x08\0\0\0\x0c"):
            self.assert_broken(
                begin(allow=DEFAULT | {"password"}), SCRAM, request, words="unexpected"
            )

    def test_asked_twice(self) -> None:
        """A password is given once."""
        self.assert_broken(begin(), MD5, MD5, words="unexpected authentication request 5")

    def test_verdict_before_answer(self) -> None:
        """A server that accepts an answer before it was sent checked nothing."""
        self.assert_broken(begin(), MD5 + OK + SETTLED, words="before it had our answer")

    def test_sasl_unasked(self) -> None:
        """SASL's later words without its first are refused."""
        for code in (11, 12):
            request = b"R\0\0\0\x08\0\0\0" + bytes((code,))
            self.assert_broken(begin(), request)

    def test_iterations(self) -> None:
        """More rounds than the limit are refused before they are computed."""
        challenge = b"r=abcdefghijklmnopqrstuvwx1,s=AAAA,i=10000000"
        message = messages.authentication_sasl_continue(challenge)
        self.assert_broken(begin(), SCRAM, message, words="iterations")

    def test_other_mechanisms(self) -> None:
        """A server that can't do SCRAM-SHA-256 is told so in the log."""
        for offer in (["OAUTHBEARER"], ["SCRAM-SHA-256-PLUS"], ["SCRAM-SHA-256x"]):
            self.assert_broken(
                begin(), messages.authentication_sasl(offer), words=f"offers {offer[0]!r}"
            )

    def test_bad_mechanism_lists(self) -> None:
        """A list without its end, or with nothing in it, is refused."""
        for body in (b"", b"\0", b"\0\0", b"SCRAM-SHA-256", b"SCRAM-SHA-256\0", b"a\0\0b\0\0"):
            request = b"R" + (len(body) + 8).to_bytes(4, "big") + (10).to_bytes(4, "big") + body
            with self.subTest(body=body):
                self.assert_broken(begin(), request)

    def test_log_injection(self) -> None:
        """A mechanism's name can't write lines of its own into a log."""
        login = begin()
        request = messages.authentication_sasl(["x\n2026 all is well" + "x" * 5000])
        error = self.assertRaises(ProtocolError, hear, login, request)
        self.assertNotIn("\n", str(error))
        self.assertLess(len(str(error)), 250)

    def test_other_methods(self) -> None:
        """Ways that are not known here are named."""
        for code, name in ((2, "Kerberos"), (7, "GSSAPI"), (9, "SSPI"), (99, r"unknown (99)")):
            request = b"R\0\0\0\x08\0\0\0" + bytes((code,))
            self.assert_broken(begin(), request, words=f"{name} authentication")

    def test_no_password(self) -> None:
        """Without a password to give, every question for one is an error that says so."""
        for request in (MD5, SCRAM):
            self.assert_broken(begin(password=None), request, words="there is no password")

    def test_bad_requests(self) -> None:
        """Requests of a wrong length are refused."""
        for request in (
            b"R\0\0\0\x07\0\0\0",
            b"R\0\0\0\x0b\0\0\0\5sal",
            b"R\0\0\0\x0d\0\0\0\5salt!",
            b"R\0\0\0\x09\0\0\0\0x",
            b"R\0\0\0\x03",
        ):
            self.assert_broken(begin(), request)

    def test_strange_messages(self) -> None:
        """Messages that have no place in a login are refused, before and after the verdict."""
        for kind in b"123ACDGHITVWcdnst":
            message = bytes((kind,)) + b"\0\0\0\4"
            self.assert_broken(begin(), message, words="unexpected message")
            self.assert_broken(begin(), OK + message, words="unexpected message")
        for early in (KEY, READY, messages.parameter_status("a", "b")):
            self.assert_broken(begin(), early, words="unexpected message")
        self.assert_broken(begin(), OK + OK)
        self.assert_broken(begin(), OK + KEY + KEY)

    def test_ready(self) -> None:
        """Ready means idle, and silent."""
        for status in (b"T", b"E"):
            self.assert_broken(begin(), OK + messages.ready_for_query(status))
        self.assert_broken(begin(), OK + b"Z\0\0\0\4")
        self.assertRaises(ProtocolError, hear, begin(), OK + SETTLED + b"S")
        login = begin()
        hear(login, OK + SETTLED)
        self.assertRaises(ProtocolError, login.receive_data, KEY)

    def test_bad_keys(self) -> None:
        """A key of 3 or of 257 bytes is refused."""
        for length in (3, 257):
            body = bytes(4 + length)
            message = b"K" + (len(body) + 4).to_bytes(4, "big") + body
            self.assert_broken(begin(), OK + message)

    def test_limit(self) -> None:
        """A login has an end: in one message, in many, and in one that only says so."""
        long = messages.parameter_status("a", "b" * 8000)
        flights = [OK] + [long] * (LOGIN_LIMIT // len(long) + 1)
        self.assert_broken(begin(), *flights, words="bytes before it was ready")
        lying = b"N" + (LOGIN_LIMIT + 5).to_bytes(4, "big")
        self.assert_broken(begin(), lying, words="invalid message length")

    @given(
        st.lists(
            st.sampled_from([OK, CLEARTEXT, MD5, SCRAM, SCRAM_PLUS, KEY, READY, SETTLED, WRONG])
            | st.binary(max_size=12).map(lambda body: b"R\0\0\0\x10" + body.rjust(12, b"\0"))
            | st.binary(max_size=20),
            max_size=6,
        ),
        st.booleans(),
        st.booleans(),
    )
    def test_noise(self, flights: list[bytes], required: bool, binding: bool) -> None:
        """Noise never raises anything but ProtocolError, nor tells the password."""
        login = begin(challenge_required=required, binding=b"hash" if binding else None)
        said = b""
        try:
            for flight in flights:
                for event in login.receive_data(flight):
                    if isinstance(event, DeriveKey):
                        login.key_derived(bytes(32))
                    elif isinstance(event, LoginDone) and required:
                        self.assertIn(b"md5", said)
                said += login.data_to_send()
        except ProtocolError:
            pass
        self.assertNotIn(b"pencil", said)


class CareTests(SynchronousTestCase):
    """Secrets, and our own mistakes."""

    def test_secret(self) -> None:
        """Neither a login nor its result shows what is secret."""
        login = begin()
        self.assertNotIn("pencil", repr(login))
        self.assertNotIn("hush", repr(hear(login, OK + SETTLED)))

    def test_forgotten(self) -> None:
        """A login that is over holds no password any more, however it ended."""
        for flights in ((OK + SETTLED,), (WRONG,), (MD5, MD5)):
            login = begin()
            try:
                hear(login, *flights)
            except ProtocolError:
                pass
            self.assertNotIn(b"pencil", vars(login).values())

    def test_out_of_order(self) -> None:
        """To give a key that nobody asked for is a bug of ours."""
        login = begin()
        self.assertRaises(LocalProtocolError, login.key_derived, hashlib.sha256().digest())

    def test_own_names(self) -> None:
        """User and database can't be said twice."""
        for name in ("user", "database"):
            with self.assertRaises(LocalProtocolError):
                ServerLogin(
                    user="ann",
                    database="shop",
                    password=None,
                    parameters={name: "root"},
                    nonce="abc",
                    secure=True,
                    local=False,
                )
