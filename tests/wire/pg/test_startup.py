"""What a client says up to its StartupMessage."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from proxyd.errors import LocalProtocolError, ProtocolError
from proxyd.wire.pg.errors import PgProtocolError
from proxyd.wire.pg.messages import cancel_request, ssl_request, startup_message
from proxyd.wire.pg.startup import (
    CancelRequested,
    ClientStartup,
    DirectTlsOffered,
    GssRequested,
    NotPostgres,
    SslRequested,
    StartupEvent,
    StartupRequested,
    StartupState,
    split_options,
    truncate_name,
)
from tests.wire.cuts import cut, one_by_one, places

GSS_REQUEST = b"\0\0\0\x08\x04\xd2\x16\x30"
ANN = startup_message({"user": "ann", "database": "shop"})

names = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=40)


def packet(code: bytes, body: bytes) -> bytes:
    """A first packet, with a true length."""
    return (len(code + body) + 4).to_bytes(4, "big") + code + body


def startup(body: bytes, version: bytes = b"\0\3\0\0") -> bytes:
    """A StartupMessage of any pairs."""
    return packet(version, body)


def talk(machine: ClientStartup, *flights: list[bytes], secure: bool = False) -> list[StartupEvent]:
    """Hand in flights, each in chunks; each but the last is answered."""
    events: list[StartupEvent] = []
    for number, flight in enumerate(flights):
        if number:
            machine.answered(secure)
        for chunk in flight:
            events += machine.receive_data(chunk)
    return events


class EncryptionTests(SynchronousTestCase):
    """Requests for encryption: each at most once, and nothing before our answer."""

    def test_ssl_then_startup(self) -> None:
        """The usual way: a request for TLS, our answer, the StartupMessage."""
        machine = ClientStartup()
        events = talk(machine, [ssl_request()], [ANN], secure=True)
        self.assertEqual(events[0], SslRequested())
        self.assertIsInstance(events[1], StartupRequested)
        self.assertTrue(machine.secure)
        self.assertIs(machine.state, StartupState.DONE)

    def test_both_orders(self) -> None:
        """TLS and GSSAPI may both be asked for when the first was denied, in any order."""
        for flights in ((ssl_request(), GSS_REQUEST, ANN), (GSS_REQUEST, ssl_request(), ANN)):
            kinds = {type(event) for event in talk(ClientStartup(), *map(one_by_one, flights))}
            self.assertEqual(kinds, {SslRequested, GssRequested, StartupRequested})

    def test_second_request(self) -> None:
        """A second request is an unsupported protocol, within TLS and without."""
        for request in (ssl_request(), GSS_REQUEST):
            for secure in (True, False):
                with self.subTest(request=request, secure=secure):
                    machine = ClientStartup()
                    talk(machine, [request])
                    machine.answered(secure)
                    error = self.assertRaises(PgProtocolError, machine.receive_data, request)
                    self.assertEqual(error.sqlstate, "0A000")

    def test_gss_within_tls(self) -> None:
        """Who has TLS can't ask for GSSAPI encryption too."""
        machine = ClientStartup()
        talk(machine, [ssl_request()])
        machine.answered(True)
        error = self.assertRaises(PgProtocolError, machine.receive_data, GSS_REQUEST)
        self.assertEqual(
            str(error), "unsupported frontend protocol 1234.5680: server supports 3.0 to 3.2"
        )

    def test_early_data(self) -> None:
        """A byte before our answer was not encrypted: 08P01, in one chunk or in two."""
        for request, words in ((ssl_request(), "SSL"), (GSS_REQUEST, "GSSAPI encryption")):
            for flight in ([request + ANN], [request, ANN[:1]], [request[:3], request[3:] + b"x"]):
                with self.subTest(flight=flight):
                    error = self.assertRaises(PgProtocolError, talk, ClientStartup(), flight)
                    self.assertEqual(error.sqlstate, "08P01")
                    self.assertEqual(str(error), f"received unencrypted data after {words} request")

    def test_nothing_early(self) -> None:
        """An empty chunk is no byte."""
        machine = ClientStartup()
        talk(machine, [ssl_request(), b""])
        machine.answered(True)
        self.assertEqual(machine.trailing_data, b"")

    def test_answer_unasked(self) -> None:
        """To answer what nobody asked is a bug of ours."""
        self.assertRaises(LocalProtocolError, ClientStartup().answered, True)


class DirectTlsTests(SynchronousTestCase):
    """A client that begins with TLS at its first byte."""

    def test_offered(self) -> None:
        """The first byte is enough; the bytes are TLS's, and what follows comes out of it."""
        machine = ClientStartup(direct_tls=True)
        self.assertEqual(machine.receive_data(b"\x16"), [DirectTlsOffered()])
        self.assertEqual(machine.receive_data(b"\3\1"), [])
        self.assertEqual(machine.trailing_data, b"\x16\3\1")
        machine.answered(True)
        self.assertEqual(machine.trailing_data, b"")
        self.assertEqual(len(machine.receive_data(ANN)), 1)

    def test_ssl_request_within(self) -> None:
        """Who asks for TLS within TLS is told no, as PostgreSQL does, and goes on."""
        machine = ClientStartup(direct_tls=True)
        events = talk(machine, [b"\x16"], [ssl_request()], secure=True)
        self.assertEqual(events[-1], SslRequested())
        self.assertRaises(LocalProtocolError, machine.answered, True)
        machine.answered(False)
        self.assertTrue(machine.secure)
        self.assertIsInstance(machine.receive_data(ANN)[0], StartupRequested)

    def test_not_wanted(self) -> None:
        """Where it is not wanted, it is no PostgreSQL."""
        self.assertRaises(NotPostgres, ClientStartup().receive_data, b"\x16\3\1\2\0")

    def test_only_first(self) -> None:
        """After a request that was denied, TLS at once is no PostgreSQL."""
        machine = ClientStartup(direct_tls=True)
        talk(machine, [ssl_request()])
        machine.answered(False)
        self.assertRaises(NotPostgres, machine.receive_data, b"\x16\3\1\2\0")

    def test_not_refused(self) -> None:
        """There is no way to say no to it but to hang up."""
        machine = ClientStartup(direct_tls=True)
        machine.receive_data(b"\x16")
        self.assertRaises(LocalProtocolError, machine.answered, False)


class LengthTests(SynchronousTestCase):
    """What is PostgreSQL is decided by the length word alone."""

    def test_strangers(self) -> None:
        """HTTP, TLS, SSH, lengths below 8, above 10000, negative: closed silently."""
        for data in (
            b"GET / HTTP/1.1\r\n\r\n",
            b"\x16\3\1\2\0\1",
            b"SSH-2.0-x\r\n",
            b"\0\0\0\0",
            b"\0\0\0\x07",
            b"\0\0\x27\x11",
            b"\x80\0\0\0",
            b"\xff\xff\xff\xff",
        ):
            with self.subTest(data=data):
                machine = ClientStartup()
                self.assertEqual(talk(machine, one_by_one(data[:3])), [])
                self.assertRaises(NotPostgres, machine.receive_data, data[3:])
                self.assertIs(machine.state, StartupState.FAILED)

    def test_longest(self) -> None:
        """A StartupMessage of exactly 10000 bytes is taken."""
        rest = 10_000 - len(startup(b"user\0ann\0x\0\0\0"))
        message = startup(b"user\0ann\0x\0" + b"y" * rest + b"\0\0")
        self.assertEqual(len(message), 10_000)
        event = ClientStartup().receive_data(message)[0]
        assert isinstance(event, StartupRequested)
        self.assertEqual(event.parameters["x"], "y" * rest)

    def test_after_failure(self) -> None:
        """What comes after a failure is ignored and not kept."""
        machine = ClientStartup()
        self.assertRaises(NotPostgres, machine.receive_data, b"GET /")
        self.assertEqual(machine.receive_data(ANN), [])
        self.assertEqual(machine.trailing_data, b"")


class CancelTests(SynchronousTestCase):
    """Requests to cancel."""

    @given(st.integers(-(2**31), 2**31 - 1), st.binary(min_size=4, max_size=256))
    def test_read(self, pid: int, key: bytes) -> None:
        """Keys of 4 to 256 bytes are read as they were written."""
        machine = ClientStartup()
        self.assertEqual(
            talk(machine, one_by_one(cancel_request(pid, key))), [CancelRequested(pid, key)]
        )

    def test_bad_keys(self) -> None:
        """A key that is too short or too long is not answered either."""
        for length in (0, 3, 257):
            data = packet(b"\x04\xd2\x16\x2e", bytes(4 + length))
            self.assertRaises(NotPostgres, ClientStartup().receive_data, data)

    def test_within_tls(self) -> None:
        """A request to cancel may come by TLS."""
        events = talk(ClientStartup(), [ssl_request()], [cancel_request(7, b"abcd")], secure=True)
        self.assertEqual(events[1], CancelRequested(7, b"abcd"))

    def test_secret(self) -> None:
        """A key is not shown."""
        self.assertNotIn("hush", repr(CancelRequested(7, b"hush")))


class StartupMessageTests(SynchronousTestCase):
    """The StartupMessage itself."""

    def read(self, data: bytes) -> StartupRequested:
        """The event of a StartupMessage."""
        event = ClientStartup().receive_data(data)[0]
        assert isinstance(event, StartupRequested)
        return event

    def assert_refused(self, data: bytes, sqlstate: str, text: str) -> None:
        """It is refused, with these words."""
        error = self.assertRaises(PgProtocolError, ClientStartup().receive_data, data)
        self.assertEqual((error.sqlstate, str(error)), (sqlstate, text))

    def test_plain(self) -> None:
        """Version and parameters are there."""
        self.assertEqual(
            self.read(ANN), StartupRequested((3, 0), {"user": "ann", "database": "shop"}, ())
        )

    def test_trailing(self) -> None:
        """What follows in the same segment, or after it, is kept for the next machine."""
        machine = ClientStartup()
        machine.receive_data(ANN + b"p\0\0")
        self.assertEqual(machine.receive_data(b"\0\5"), [])
        self.assertEqual(machine.trailing_data, b"p\0\0\0\5")

    def test_versions(self) -> None:
        """Another major version is refused; a higher minor one is reported."""
        pairs = b"user\0ann\0\0"
        self.assert_refused(
            startup(pairs, b"\0\2\0\0"),
            "0A000",
            "unsupported frontend protocol 2.0: server supports 3.0 to 3.2",
        )
        self.assert_refused(
            startup(pairs, b"\0\4\0\1"),
            "0A000",
            "unsupported frontend protocol 4.1: server supports 3.0 to 3.2",
        )
        self.assertEqual(self.read(startup(pairs, b"\0\3\0\2")).version, (3, 2))
        self.assertEqual(self.read(startup(pairs, b"\0\3\x27\x0f")).version, (3, 9999))

    def test_unknown_options(self) -> None:
        """Protocol options are told apart from parameters, in their order."""
        event = self.read(startup(b"_pq_.b\0on\0user\0ann\0_pq_.a\0\0\0"))
        self.assertEqual(event.unknown_options, ("_pq_.b", "_pq_.a"))
        self.assertEqual(event.parameters, {"user": "ann", "database": "ann"})

    def test_no_user(self) -> None:
        """Without a user, or with an empty one, there is no session."""
        for pairs in (b"\0", b"database\0shop\0\0", b"user\0\0\0"):
            self.assert_refused(
                startup(pairs), "28000", "no PostgreSQL user name specified in startup packet"
            )

    def test_layout(self) -> None:
        """Missing terminators and odd pairs are refused in PostgreSQL's words."""
        for pairs in (
            b"",
            b"user",
            b"user\0",
            b"user\0ann",
            b"user\0ann\0",
            b"user\0\0",
            b"user\0ann\0database\0\0",
            b"user\0ann\0\0user\0root\0\0",
            b"user\0ann\0\0x",
            b"user\0ann\0\0x\0\0",
            b"\0user\0ann\0\0",
        ):
            with self.subTest(pairs=pairs):
                self.assert_refused(
                    startup(pairs),
                    "08P01",
                    "invalid startup packet layout: expected terminator as last byte",
                )

    def test_last_wins(self) -> None:
        """Of equal names the last one counts, as in PostgreSQL."""
        self.assertEqual(self.read(startup(b"user\0a\0user\0b\0\0")).parameters["user"], "b")

    def test_database(self) -> None:
        """Without a database it is the user's, and an empty one is none."""
        self.assertEqual(self.read(startup(b"user\0ann\0\0")).parameters["database"], "ann")
        empty = startup(b"user\0ann\0database\0\0\0")
        self.assertEqual(self.read(empty).parameters["database"], "ann")

    def test_long_names(self) -> None:
        """Names are cut to 63 bytes, once, for user and database alike."""
        event = self.read(startup_message({"user": "u" * 70, "database": "d" * 64}))
        self.assertEqual(event.parameters, {"user": "u" * 63, "database": "d" * 63})

    @given(names)
    def test_truncation(self, name: str) -> None:
        """A cut name is the longest beginning of whole characters within 63 bytes."""
        long = name + "ä€\N{SNOWMAN}\N{GRINNING FACE}" * 6
        short = truncate_name(long)
        self.assertTrue(long.startswith(short))
        self.assertLessEqual(len(short.encode()), 63)
        self.assertGreater(len(long[: len(short) + 1].encode()), 63)
        self.assertEqual(truncate_name(short), short)

    def test_not_utf8(self) -> None:
        """Names and values that are not UTF-8 are refused, and never quoted."""
        for pairs, what in (
            (b"user\0ann\xff\0\0", 'parameter "user"'),
            (b"user\0ann\0database\0\xc3\0\0", 'parameter "database"'),
            (b"user\0ann\0search_path\0caf\xe9\0\0", "a parameter's value"),
            (b"user\0ann\0\xed\xa0\x80\0x\0\0", "a parameter's name"),
        ):
            self.assert_refused(
                startup(pairs),
                "22021",
                f'invalid byte sequence for encoding "UTF8" in {what} of the startup packet',
            )

    def test_label(self) -> None:
        """An application's name in another encoding is shown by escapes."""
        event = self.read(startup(b"user\0ann\0application_name\0caf\xe9\0\0"))
        self.assertEqual(event.parameters["application_name"], "caf\\xe9")

    @given(st.dictionaries(names.filter(bool), names, max_size=6), places)
    def test_cuts(self, more: dict[str, str], where: list[int]) -> None:
        """However TCP cuts the stream, the events are the same, and as they were written."""
        sent = {**more, "user": "ann", "database": "shop"}
        data = startup_message(sent) + b"tail"
        kept = {name: value for name, value in sent.items() if not name.startswith("_pq_.")}
        for chunks in ([data], cut(data, where), one_by_one(data)):
            machine = ClientStartup()
            events = talk(machine, [ssl_request()], chunks, secure=True)[1:]
            self.assertEqual(len(events), 1)
            assert isinstance(events[0], StartupRequested)
            self.assertEqual(events[0].parameters, kept)
            self.assertEqual(machine.trailing_data, b"tail")

    @given(
        st.binary(max_size=60) | st.binary(max_size=60).map(startup),
        places,
        st.booleans(),
    )
    def test_noise(self, data: bytes, where: list[int], direct_tls: bool) -> None:
        """Noise never raises anything but ProtocolError, and ends the same however it is cut."""
        ends = []
        for chunks in ([data], cut(data, where)):
            machine = ClientStartup(direct_tls=direct_tls)
            try:
                talk(machine, chunks)
                ends.append("")
            except ProtocolError as error:
                ends.append(str(error))
            ends.append(machine.state.value)
        self.assertEqual(ends[:2], ends[2:])


class SplitOptionsTests(SynchronousTestCase):
    """The parameter C{options}, as PostgreSQL's own command line."""

    def test_forms(self) -> None:
        """All three forms of a setting are read, dashes in names as underscores."""
        self.assertEqual(
            split_options("-c a=1 -cb-c=2 --work-mem=3\t\n-c  d=x=y --e="),
            [("a", "1"), ("b_c", "2"), ("work_mem", "3"), ("d", "x=y"), ("e", "")],
        )

    def test_backslashes(self) -> None:
        """A backslash takes the next character as it is; the last one is nothing."""
        self.assertEqual(
            split_options(r"-c search_path=a,\ b\\c --x=\-y" + "\\"),
            [("search_path", r"a, b\c"), ("x", "-y")],
        )
        self.assertEqual(split_options(r"\-c a=1"), [("a", "1")])

    def test_nothing(self) -> None:
        """Nothing but blanks is no setting."""
        self.assertEqual(split_options(" \t \v\f\r\n"), [])

    def test_others(self) -> None:
        """Any other switch, or word, is refused."""
        for text in (
            "-d 5",
            "a=1",
            "-c",
            "-B 4",
            "--",
            "-",
            "-c =1",
            "--=1",
            "\\ -c a=1",
            "-C a=1",
        ):
            with self.subTest(text=text):
                error = self.assertRaises(PgProtocolError, split_options, text)
                self.assertEqual(error.sqlstate, "42601")
                self.assertIn("invalid command-line argument", str(error))

    def test_no_value(self) -> None:
        """A setting needs a value; the words are PostgreSQL's."""
        for text, words in (("-c a", "-c a"), ("-ca", "-c a"), ("--a", "--a")):
            error = self.assertRaises(PgProtocolError, split_options, text)
            self.assertEqual(str(error), f"{words} requires a value")

    @given(st.lists(st.tuples(names.filter(bool), names), max_size=5))
    def test_round_trip(self, settings: list[tuple[str, str]]) -> None:
        """What is escaped as PostgreSQL says is read as it was meant."""
        settings = [(name.replace("=", "e").replace("-", "_"), value) for name, value in settings]
        text = " ".join(
            "-c " + "".join("\\" + character for character in f"{name}={value}")
            for name, value in settings
        )
        self.assertEqual(split_options(text), settings)

    @given(st.text(max_size=60))
    def test_noise(self, text: str) -> None:
        """Noise never raises anything but ProtocolError."""
        try:
            split_options(text)
        except ProtocolError:
            pass
