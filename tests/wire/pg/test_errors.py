"""ErrorResponse and NoticeResponse, read and made."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from proxyd.errors import LocalProtocolError, ProtocolError
from proxyd.wire.pg.errors import (
    PgProtocolError,
    ServerMessage,
    error_response,
    notice_response,
    parse_error,
)


class ReadingTests(SynchronousTestCase):
    """What a server says is understood, whatever it leaves out."""

    def test_whole(self) -> None:
        """All fields of a usual error are there, the known ones by name."""
        body = (
            b'SFEHLER\0VERROR\0C42P01\0Mrelation "x" does not exist\0'
            b"DSome detail.\0HSome hint.\0P15\0Fparse_relation.c\0L1384\0RparserOpenTable\0\0"
        )
        error = parse_error(body)
        self.assertEqual(error.severity, "ERROR")
        self.assertEqual(error.sqlstate, "42P01")
        self.assertEqual(error.message, 'relation "x" does not exist')
        self.assertEqual(error.detail, "Some detail.")
        self.assertEqual(error.hint, "Some hint.")
        self.assertEqual(error.fields["P"], "15")
        self.assertEqual(error.fields["S"], "FEHLER")

    def test_old_severity(self) -> None:
        """A server before 9.6 says its severity in field S only."""
        self.assertEqual(parse_error(b"SFATAL\0\0").severity, "FATAL")

    def test_nothing(self) -> None:
        """An error without any field has an SQLSTATE all the same."""
        self.assertEqual(parse_error(b"\0"), ServerMessage())
        self.assertEqual(parse_error(b"\0").sqlstate, "XX000")

    def test_impossible_sqlstate(self) -> None:
        """What is no SQLSTATE is not taken for one."""
        for state in (b"", b"28P0", b"28P011", b"28p01", b"28\n01", b"\xff\xff\xff\xff\xff"):
            with self.subTest(state=state):
                self.assertEqual(parse_error(b"C" + state + b"\0\0").sqlstate, "XX000")

    def test_strange_bytes(self) -> None:
        """Bytes that are not UTF-8 become replacement characters."""
        self.assertEqual(parse_error(b"Mcaf\xe9\0\0").message, "caf\N{REPLACEMENT CHARACTER}")

    def test_no_end(self) -> None:
        """A field or a list without an end, and bytes after it, are refused."""
        for body in (b"", b"M", b"Mtext", b"Mtext\0", b"Mtext\0\0more", b"\0\0"):
            with self.subTest(body=body):
                self.assertRaises(ProtocolError, parse_error, body)

    @given(st.binary(max_size=200))
    def test_noise(self, body: bytes) -> None:
        """Noise never raises anything but ProtocolError."""
        try:
            error = parse_error(body)
        except ProtocolError:
            return
        self.assertRegex(error.sqlstate, r"\A[0-9A-Z]{5}\Z")


class MakingTests(SynchronousTestCase):
    """What we say is a message that every client reads."""

    def test_bytes(self) -> None:
        """An error has S, V, C and M, in this order, and its length."""
        self.assertEqual(
            error_response("FATAL", "28P01", "no"),
            b"E\0\0\0\x1eSFATAL\0VFATAL\0C28P01\0Mno\0\0",
        )

    def test_notice(self) -> None:
        """A notice is the same with another type."""
        notice = notice_response("WARNING", "01000", "beware", hint="Look.")
        self.assertEqual(notice[:1], b"N")
        self.assertEqual(parse_error(notice[5:]).hint, "Look.")

    def test_no_sqlstate(self) -> None:
        """An SQLSTATE that is none is a bug of ours."""
        for state in ("", "28P0", "28P01\0", "28p01"):
            with self.subTest(state=state):
                self.assertRaises(LocalProtocolError, error_response, "ERROR", state, "m")

    @given(*[st.text(st.characters(), max_size=40)] * 3)
    def test_round_trip(self, message: str, detail: str, hint: str) -> None:
        """Any text is read as it was said, without its NULs, and nothing else appears."""
        whole = error_response("ERROR", "XX001", message, detail, hint)
        self.assertEqual(int.from_bytes(whole[1:5], "big"), len(whole) - 1)
        error = parse_error(whole[5:])
        said = [
            text.replace("\0", "").encode("utf-8", "backslashreplace").decode()
            for text in (message, detail, hint)
        ]
        self.assertEqual([error.message, error.detail, error.hint], said)
        self.assertLessEqual(set(error.fields), set("SVCMDH"))

    def test_default_sqlstate(self) -> None:
        """A broken protocol is 08P01 when nothing else is said."""
        self.assertEqual(PgProtocolError("x").sqlstate, "08P01")
        self.assertEqual(PgProtocolError("x", "0A000").sqlstate, "0A000")
