"""The messages of the PostgreSQL protocol, made and taken apart."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from proxyd.errors import LocalProtocolError, ProtocolError
from proxyd.wire.pg import messages
from proxyd.wire.pg.errors import PgProtocolError

words = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=30)
int32 = st.integers(-(2**31), 2**31 - 1)
keys = st.binary(min_size=4, max_size=256)
columns = st.lists(st.none() | st.binary(max_size=30), max_size=10)


def body_of(message: bytes) -> bytes:
    """The body of one whole message, whose length must be true."""
    if int.from_bytes(message[1:5], "big") != len(message) - 1:
        raise AssertionError(f"a lying length: {message!r}")
    return message[5:]


class ServerMessageTests(SynchronousTestCase):
    """What a client gets is byte for byte what PostgreSQL sends."""

    def test_bytes(self) -> None:
        """Each message stands as the chapter "Message Formats" has it."""
        for made, expected in (
            (messages.authentication_ok(), b"R\0\0\0\x08\0\0\0\0"),
            (messages.authentication_cleartext(), b"R\0\0\0\x08\0\0\0\3"),
            (messages.authentication_sasl(["A", "BC"]), b"R\0\0\0\x0e\0\0\0\x0aA\0BC\0\0"),
            (messages.authentication_sasl_continue(b"xy"), b"R\0\0\0\x0a\0\0\0\x0bxy"),
            (messages.authentication_sasl_final(b""), b"R\0\0\0\x08\0\0\0\x0c"),
            (messages.parameter_status("a", "b"), b"S\0\0\0\x08a\0b\0"),
            (messages.backend_key_data(258, b"\1\2\3\4"), b"K\0\0\0\x0c\0\0\1\2\1\2\3\4"),
            (messages.ready_for_query(), b"Z\0\0\0\5I"),
            (messages.ready_for_query(b"T"), b"Z\0\0\0\5T"),
            (
                messages.negotiate_protocol_version(0, ["_pq_.x"]),
                b"v\0\0\0\x13\0\3\0\0\0\0\0\1_pq_.x\0",
            ),
        ):
            with self.subTest(expected=expected):
                self.assertEqual(made, expected)

    def test_no_status(self) -> None:
        """There is no fourth transaction status."""
        for status in (b"", b"X", b"II"):
            self.assertRaises(LocalProtocolError, messages.ready_for_query, status)


class ClientMessageTests(SynchronousTestCase):
    """What a server gets is byte for byte what libpq sends."""

    def test_bytes(self) -> None:
        """Each message stands as the chapter "Message Formats" has it."""
        for made, expected in (
            (messages.ssl_request(), b"\0\0\0\x08\x04\xd2\x16\x2f"),
            (messages.cancel_request(1, b"abcd"), b"\0\0\0\x10\x04\xd2\x16\x2e\0\0\0\1abcd"),
            (messages.startup_message({"user": "a"}), b"\0\0\0\x10\0\3\0\0user\0a\0\0"),
            (messages.startup_message({"user": ""}, 2), b"\0\0\0\x0f\0\3\0\2user\0\0\0"),
            (messages.password_message(b"pw"), b"p\0\0\0\7pw\0"),
            (messages.sasl_initial_response("M", b"n"), b"p\0\0\0\x0bM\0\0\0\0\1n"),
            (messages.sasl_response(b"x"), b"p\0\0\0\5x"),
            (messages.query("SELECT"), b"Q\0\0\0\x0bSELECT\0"),
            (messages.parse("s", "q"), b"P\0\0\0\x0as\0q\0\0\0"),
            (
                messages.bind("p", "s", [b"1", None, b""]),
                b"B\0\0\0\x1bp\0s\0\0\0\0\3\0\0\0\x011\xff\xff\xff\xff\0\0\0\0\0\0",
            ),
            (
                messages.function_call(2078, [b"a", None]),
                b"F\0\0\0\x17\0\0\x08\x1e\0\0\0\2\0\0\0\1a\xff\xff\xff\xff\0\0",
            ),
            (messages.execute("p", 5), b"E\0\0\0\x0ap\0\0\0\0\5"),
            (messages.sync(), b"S\0\0\0\4"),
            (messages.terminate(), b"X\0\0\0\4"),
        ):
            with self.subTest(expected=expected):
                self.assertEqual(made, expected)

    def test_nul(self) -> None:
        """No text of anybody's ends a string early: that is a bug of ours."""
        for making in (
            lambda: messages.startup_message({"user": "a\0replication"}),
            lambda: messages.startup_message({"us\0er": "a"}),
            lambda: messages.query("SELECT 1\0"),
            lambda: messages.password_message(b"a\0b"),
            lambda: messages.parameter_status("a", "\0"),
            lambda: messages.parse("\0", ""),
        ):
            self.assertRaises(LocalProtocolError, making)

    def test_empty_name(self) -> None:
        """A parameter without a name would end the list."""
        self.assertRaises(LocalProtocolError, messages.startup_message, {"": "x"})

    def test_unsayable(self) -> None:
        """A lone surrogate that stands for no byte is a bug of ours, not a crash."""
        self.assertRaises(LocalProtocolError, messages.query, "\ud800")

    def test_bounds(self) -> None:
        """Numbers that would wrap are refused."""
        self.assertRaises(LocalProtocolError, messages.execute, "", 2**31)
        self.assertRaises(LocalProtocolError, messages.bind, "", "", [None] * 65536)
        self.assertRaises(LocalProtocolError, messages.cancel_request, 1, b"abc")
        self.assertRaises(LocalProtocolError, messages.backend_key_data, 1, bytes(257))
        self.assertRaises(LocalProtocolError, messages.backend_key_data, 2**31, bytes(4))


class ParserTests(SynchronousTestCase):
    """What is read is what was sent, and a lie is found out."""

    @given(words, words)
    def test_parameter_status(self, name: str, value: str) -> None:
        """A setting is read as it was written."""
        body = body_of(messages.parameter_status(name, value))
        self.assertEqual(messages.parse_parameter_status(body), (name, value))

    @given(st.binary(max_size=30))
    def test_parameter_status_bytes(self, value: bytes) -> None:
        """A value that is not UTF-8 goes on as it came."""
        body = b"application_name\0" + value.replace(b"\0", b"") + b"\0"
        pair = messages.parse_parameter_status(body)
        self.assertEqual(body_of(messages.parameter_status(*pair)), body)

    @given(int32, keys)
    def test_key(self, pid: int, key: bytes) -> None:
        """A process number and its key are read as they were written."""
        body = body_of(messages.backend_key_data(pid, key))
        self.assertEqual(messages.parse_backend_key_data(body), (pid, key))

    @given(st.binary(max_size=60))
    def test_password(self, password: bytes) -> None:
        """A password is read without its NUL; one with a NUL inside is refused."""
        if 0 in password:
            error = self.assertRaises(PgProtocolError, messages.parse_password, password + b"\0")
            self.assertEqual(str(error), "invalid password packet size")
            self.assertEqual(error.sqlstate, "08P01")
        else:
            body = body_of(messages.password_message(password))
            self.assertEqual(messages.parse_password(body), password)

    def test_password_without_end(self) -> None:
        """A password without its NUL is refused, and so is nothing at all."""
        self.assertRaises(PgProtocolError, messages.parse_password, b"")
        self.assertRaises(PgProtocolError, messages.parse_password, b"secret")
        self.assertEqual(messages.parse_password(b"\0"), b"")

    @given(columns)
    def test_data_row(self, row: list[bytes | None]) -> None:
        """Columns are read as they were written, NULL apart from empty."""
        body = len(row).to_bytes(2, "big") + b"".join(
            b"\xff\xff\xff\xff" if value is None else len(value).to_bytes(4, "big") + value
            for value in row
        )
        self.assertEqual(messages.parse_data_row(body), row)
        self.assertRaises(ProtocolError, messages.parse_data_row, body + b"\0")
        self.assertRaises(ProtocolError, messages.parse_data_row, body[:-1])

    def test_lies(self) -> None:
        """Lengths that are negative, too long or too short are refused (CVE-2026-4427)."""
        lies: list[tuple[Callable[[bytes], object], bytes]] = [
            (messages.parse_data_row, b"\0\1\xff\xff\xff\xfe"),
            (messages.parse_data_row, b"\0\1\x80\0\0\0"),
            (messages.parse_data_row, b"\0\1\0\0\0\2x"),
            (messages.parse_data_row, b"\0\2\0\0\0\0"),
            (messages.parse_data_row, b"\xff\xff"),
            (messages.parse_data_row, b"\0\0x"),
            (messages.parse_backend_key_data, bytes(7)),
            (messages.parse_backend_key_data, bytes(4 + 257)),
            (messages.parse_parameter_status, b"name\0"),
            (messages.parse_parameter_status, b"name\0value"),
            (messages.parse_parameter_status, b"name\0value\0more\0"),
            (messages.parse_authentication, b"\0\0\0"),
            (messages.parse_command_tag, b""),
            (messages.parse_command_tag, b"SELECT 1"),
            (messages.parse_command_tag, b"SELECT\0001\0"),
        ]
        for parser, body in lies:
            with self.subTest(parser=parser.__name__, body=body):
                self.assertRaises(ProtocolError, parser, body)

    def test_plain(self) -> None:
        """A request to authenticate and a command tag are read."""
        self.assertEqual(messages.parse_authentication(b"\0\0\0\x05salt"), (5, b"salt"))
        self.assertEqual(messages.parse_command_tag(b"SELECT 1\0"), "SELECT 1")
        self.assertEqual(messages.parse_command_tag(b"\xff\0"), "\N{REPLACEMENT CHARACTER}")

    @given(st.binary(max_size=80))
    def test_noise(self, body: bytes) -> None:
        """Noise never raises anything but ProtocolError, in any parser."""
        parsers: list[Callable[[bytes], object]] = [
            messages.parse_parameter_status,
            messages.parse_backend_key_data,
            messages.parse_password,
            messages.parse_authentication,
            messages.parse_data_row,
            messages.parse_command_tag,
        ]
        for parser in parsers:
            try:
                parser(body)
            except ProtocolError:
                pass
