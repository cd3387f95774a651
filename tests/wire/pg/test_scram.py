"""SCRAM-SHA-256, the client's half."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from proxyd.errors import LocalProtocolError, ProtocolError
from proxyd.wire.pg.scram import (
    CHALLENGE_LIMIT,
    ITERATIONS_LIMIT,
    ScramClient,
    prepare_password,
)
from tests.wire.pg.scram_server import ScramServer

NONCE = "rOprNGfwEbeRWgbNEkqO"
SERVER_NONCE = NONCE.encode() + b"%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
SERVER_FIRST = b"r=" + SERVER_NONCE + b",s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
SERVER_FINAL = b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="


class ExchangeTests(SynchronousTestCase):
    """A whole exchange, step by step."""

    def test_rfc_7677(self) -> None:
        """The example of RFC 7677 section 3, byte for byte."""
        client = ScramClient("pencil", NONCE, user="user")
        self.assertEqual(client.first(), b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO")
        self.assertEqual(
            client.final(SERVER_FIRST),
            b"c=biws,r=" + SERVER_NONCE + b",p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
        )
        self.assertFalse(client.verified)
        client.verify(SERVER_FINAL)
        self.assertTrue(client.verified)

    def test_apart(self) -> None:
        """The slow step may be done elsewhere, with the same result."""
        client = ScramClient("pencil", NONCE, user="user")
        client.first()
        challenge = client.read_challenge(SERVER_FIRST)
        self.assertEqual(challenge.iterations, 4096)
        self.assertEqual(len(challenge.salt), 16)
        client.prove(challenge.derive(b"pencil"))
        client.verify(SERVER_FINAL)

    def test_no_user(self) -> None:
        """The user's name is left empty, as libpq does."""
        self.assertEqual(ScramClient("x", "abc").first(), b"n,,n=,r=abc")

    def test_escaped_user(self) -> None:
        """A name's comma and equals sign are escaped (RFC 5802 section 5.1)."""
        self.assertEqual(ScramClient("x", "abc", user="a=b,c").first(), b"n,,n=a=3Db=2Cc,r=abc")

    @given(st.binary(max_size=40), st.binary(min_size=1, max_size=64) | st.none(), st.booleans())
    def test_against_server(self, password: bytes, data: bytes | None, plus: bool) -> None:
        """Any password, with and without channel binding, convinces a server, and it us."""
        binding = None if data is None else ("tls-server-end-point", data)
        client = ScramClient(password, NONCE, binding=binding, plus_offered=plus)
        server = ScramServer(prepare_password(password), data or b"")
        final = server.final(client.final(server.first(client.first())))
        assert final is not None
        client.verify(final)
        self.assertTrue(client.verified)

    def test_wrong_password(self) -> None:
        """A wrong password convinces nobody, and a server that does not know it not us."""
        client = ScramClient("right", NONCE)
        server = ScramServer(b"wrong")
        answer = client.final(server.first(client.first()))
        self.assertIsNone(server.final(answer))
        self.assertRaises(ProtocolError, client.verify, SERVER_FINAL)
        self.assertFalse(client.verified)


class BindingTests(SynchronousTestCase):
    """Channel binding: what the first letters say (RFC 5802 section 6)."""

    binding = ("tls-server-end-point", b"hash")

    def test_none(self) -> None:
        """C{n}: we can't, whatever is offered."""
        for plus in (False, True):
            client = ScramClient("x", "abc", plus_offered=plus)
            self.assertEqual(client.mechanism, "SCRAM-SHA-256")
            self.assertTrue(client.first().startswith(b"n,,"))

    def test_not_offered(self) -> None:
        """C{y}: we could, so that a server that offered it knows of the theft."""
        client = ScramClient("x", "abc", binding=self.binding)
        self.assertEqual(client.mechanism, "SCRAM-SHA-256")
        self.assertTrue(client.first().startswith(b"y,,"))
        self.assertTrue(client.final(b"r=abcd,s=AAAA,i=1").startswith(b"c=eSws,r=abcd,"))

    def test_bound(self) -> None:
        """C{p}: the certificate's hash goes with the proof."""
        client = ScramClient("x", "abc", binding=self.binding, plus_offered=True)
        self.assertEqual(client.mechanism, "SCRAM-SHA-256-PLUS")
        self.assertEqual(client.first(), b"p=tls-server-end-point,,n=,r=abc")
        final = client.final(b"r=abcd,s=AAAA,i=1")
        self.assertTrue(final.startswith(b"c=cD10bHMtc2VydmVyLWVuZC1wb2ludCwsaGFzaA==,r=abcd,p="))

    def test_other_channel(self) -> None:
        """A server that sees another certificate does not believe the proof."""
        client = ScramClient("x", NONCE, binding=self.binding, plus_offered=True)
        server = ScramServer(b"x", b"another hash")
        self.assertIsNone(server.final(client.final(server.first(client.first()))))


class HostileServerTests(SynchronousTestCase):
    """A server's words are bytes of a stranger."""

    def begun(self) -> ScramClient:
        """A client that waits for the challenge."""
        client = ScramClient("pencil", "abc")
        client.first()
        return client

    def test_bad_challenges(self) -> None:
        """What is no challenge for us is refused."""
        for challenge in (
            b"",
            b"r=abcd",
            b"r=abcd,s=AAAA",
            b"r=abcd,i=1,s=AAAA",
            b"s=AAAA,r=abcd,i=1",
            b"r=abc,s=AAAA,i=1",
            b"r=ab,s=AAAA,i=1",
            b"r=xabc1,s=AAAA,i=1",
            b"r=abc d,s=AAAA,i=1",
            b"r=abc\x7f,s=AAAA,i=1",
            b"r=abc\xc3\xa9,s=AAAA,i=1",
            b"m=ext,r=abcd,s=AAAA,i=1",
            b"r=abcd,s=,i=1",
            b"r=abcd,s=AAA,i=1",
            b"r=abcd,s=A*AA,i=1",
            b"r=abcd,s=AAAA,i=0",
            b"r=abcd,s=AAAA,i=-1",
            b"r=abcd,s=AAAA,i=",
            b"r=abcd,s=AAAA,i=1.0",
            b"r=abcd,s=AAAA,i= 1",
            b"r=abcd,s=AAAA,i=1000001",
            b"r=abcd,s=AAAA,i=" + b"9" * 5000,
        ):
            with self.subTest(challenge=challenge[:40]):
                self.assertRaises(ProtocolError, self.begun().read_challenge, challenge)

    def test_longest_challenge(self) -> None:
        """One at the limit is taken, a longer one is not (CVE-2026-6665)."""
        nonce = "abcdefghijklmnopqrstuvwx"
        rest = len(f"r={nonce},s=c2FsdA==,i=4096")
        for size, good in ((CHALLENGE_LIMIT, True), (CHALLENGE_LIMIT + 1, False)):
            client = ScramClient("pencil", nonce)
            client.first()
            said = f"r={nonce}{'x' * (size - rest)},s=c2FsdA==,i=4096".encode()
            self.assertEqual(len(said), size)
            if good:
                client.read_challenge(said)
            else:
                self.assertRaises(ProtocolError, client.read_challenge, said)

    def test_mandatory_extension(self) -> None:
        """An extension that we would have to know is refused by its name."""
        error = self.assertRaises(
            ProtocolError, self.begun().read_challenge, b"m=ext,r=abcd,s=AAAA,i=1"
        )
        self.assertIn("extension", str(error))

    def test_iterations(self) -> None:
        """The limit itself is taken."""
        challenge = self.begun().read_challenge(b"r=abcd,s=AAAA,i=%d" % ITERATIONS_LIMIT)
        self.assertEqual(challenge.iterations, ITERATIONS_LIMIT)

    def test_extensions(self) -> None:
        """Further attributes are ignored, but count in the proof (RFC 5802 section 5.1)."""
        plain, extended = self.begun(), self.begun()
        first = plain.final(b"r=abcd,s=AAAA,i=1")
        second = extended.final(b"r=abcd,s=AAAA,i=1,z=more")
        self.assertEqual(first.split(b",p=")[0], second.split(b",p=")[0])
        self.assertNotEqual(first, second)

    def test_bad_finals(self) -> None:
        """An error, nothing, half a signature and a wrong one are no proof."""
        for final in (
            b"",
            b"e=invalid-proof",
            b"v=",
            b"v=AAAA",
            b"v=*",
            b"v=\xff",
            SERVER_FINAL[:-4],
            SERVER_FINAL.replace(b"v=6", b"v=7"),
        ):
            with self.subTest(final=final):
                client = ScramClient("pencil", NONCE, user="user")
                client.first()
                client.final(SERVER_FIRST)
                self.assertRaises(ProtocolError, client.verify, final)
                self.assertFalse(client.verified)

    @given(st.binary(max_size=60), st.binary(max_size=60), st.booleans())
    def test_noise(self, first: bytes, final: bytes, opened: bool) -> None:
        """Noise never raises anything but ProtocolError, and never is a proof."""
        client = self.begun()
        try:
            challenge = client.read_challenge(b"r=abc1,s=AAAA,i=1," + first if opened else first)
            client.prove(challenge.derive("pencil"))
            client.verify(b"v=" + final)
        except ProtocolError:
            pass
        self.assertFalse(client.verified)


class OrderTests(SynchronousTestCase):
    """Steps out of order are bugs of ours."""

    def test_order(self) -> None:
        """No step can be left out or done twice."""
        client = ScramClient("pencil", NONCE)
        self.assertRaises(LocalProtocolError, client.read_challenge, SERVER_FIRST)
        self.assertRaises(LocalProtocolError, client.prove, bytes(32))
        self.assertRaises(LocalProtocolError, client.verify, SERVER_FINAL)
        client.first()
        self.assertRaises(LocalProtocolError, client.first)
        client.final(SERVER_FIRST)
        self.assertRaises(LocalProtocolError, client.final, SERVER_FIRST)

    def test_nonce(self) -> None:
        """A nonce that could say something else is refused."""
        for nonce in ("", "a,b", "a b", "a\n", "é"):
            self.assertRaises(LocalProtocolError, ScramClient, "x", nonce)

    def test_secret(self) -> None:
        """The password is not shown."""
        self.assertNotIn("pencil", repr(ScramClient("pencil", "abc")))


class PreparationTests(SynchronousTestCase):
    """SASLprep, and the raw password where it has nothing to say."""

    def test_rfc_4013(self) -> None:
        """The examples of RFC 4013 section 3; what it forbids stays as it is."""
        for typed, hashed in (
            ("I\N{SOFT HYPHEN}X", "IX"),
            ("user", "user"),
            ("USER", "USER"),
            ("\N{FEMININE ORDINAL INDICATOR}", "a"),
            ("\N{ROMAN NUMERAL NINE}", "IX"),
            ("\x07", "\x07"),
            ("\u0627\u0031", "\u0627\u0031"),
        ):
            with self.subTest(typed=typed):
                self.assertEqual(prepare_password(typed), hashed.encode())

    def test_spaces(self) -> None:
        """Spaces of all kinds are the ASCII one."""
        self.assertEqual(prepare_password("a\N{NO-BREAK SPACE}b\N{ZERO WIDTH SPACE}c"), b"a b c")

    def test_normal_form(self) -> None:
        """Two ways to type a letter are one password."""
        self.assertEqual(prepare_password("e\N{COMBINING ACUTE ACCENT}"), "é".encode())

    def test_right_to_left(self) -> None:
        """Right-to-left text alone is fine; mixed with other letters it stays as typed."""
        self.assertEqual(prepare_password("\u0627\N{SOFT HYPHEN}\u0628"), "\u0627\u0628".encode())
        for mixed in ("\u0627\xada\u0628", "\u0627\xad1", "1\xad\u0627"):
            self.assertEqual(prepare_password(mixed), mixed.encode())

    def test_nothing_left(self) -> None:
        """A password of which nothing is left stays as typed."""
        self.assertEqual(prepare_password("\N{SOFT HYPHEN}"), "\N{SOFT HYPHEN}".encode())

    def test_unassigned(self) -> None:
        """Letters younger than Unicode 3.2 leave the password as typed."""
        typed = "\N{SOFT HYPHEN}\N{GRINNING FACE}"
        self.assertEqual(prepare_password(typed), typed.encode())

    def test_not_utf8(self) -> None:
        """Bytes that are no text stay as they are, given as bytes or as escaped text."""
        self.assertEqual(prepare_password(b"caf\xe9"), b"caf\xe9")
        escaped = b"caf\xe9".decode("utf-8", "surrogateescape")
        self.assertEqual(prepare_password(escaped), b"caf\xe9")

    @given(st.binary(max_size=40) | st.text(max_size=20).map(str.encode))
    def test_noise(self, password: bytes) -> None:
        """Any password is prepared, and one that was prepared stays so."""
        prepared = prepare_password(password)
        self.assertEqual(prepare_password(prepared), prepared)
