"""Tests for L{proxyd.postgres.statements}: what of a statement the log may show."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from proxyd.postgres.statements import SHOWN, parse_text, query_text, shown

SECRETS = (
    "CREATE ROLE a PASSWORD 'hush'",
    "CREATE ROLE a password'hush'",
    "ALTER ROLE a WITH ENCRYPTED PASSWORD   'hush' VALID UNTIL '2030-01-01'",
    "ALTER ROLE a PASSWORD\n\t'hush'",
    "ALTER ROLE a PASSWORD E'hu\\'hush'",
    "ALTER ROLE a PASSWORD 'it''s hush'",
    "ALTER ROLE a PASSWORD U&'\\0061hush' UESCAPE '!'",
    "ALTER ROLE a PASSWORD N'hush'",
    "ALTER ROLE a PASSWORD $$hush$$",
    "ALTER ROLE a PASSWORD $tag$hush$$hush$tag$",
    "ALTER ROLE a PASSWORD/**/'hush'",
    "ALTER ROLE a PASSWORD /* it's */ 'hush'",
    "ALTER ROLE a PASSWORD /* /* nested */ */ 'hush'",
    "ALTER ROLE a PASSWORD -- it's\n 'hush'",
    "ALTER ROLE a PASSWORD 'one'\n'hush'",
    "ALTER ROLE a PASSWORD 'one' -- more\n 'hush'",
    "CREATE USER MAPPING FOR a SERVER s OPTIONS (user 'b', password 'hush')",
    "CREATE USER MAPPING FOR a SERVER s OPTIONS (user 'b', \"password\" 'hush')",
    "SELECT dblink_connect('host=h password=hush user=u')",
    "SELECT dblink_connect('host=h password = hush')",
    "SELECT dblink_connect('host=h sslpassword=hush')",
    "CREATE SUBSCRIPTION s CONNECTION 'host=h password=hush' PUBLICATION p",
    "SELECT dblink_connect('host=h password=''hush hush''')",
    "SELECT 1; ALTER ROLE a PASSWORD 'hush'; ALTER ROLE b PASSWORD 'hush'",
    "set password_encryption = on; alter user a password 'hush'",
)
# Cut in the middle of the secret: its start may not be shown either.
CUT = (
    "ALTER ROLE a PASSWORD 'hush",
    "ALTER ROLE a PASSWORD 'hush'' hush",
    "ALTER ROLE a PASSWORD E'hush\\",
    "ALTER ROLE a PASSWORD 'hush''",
    "ALTER ROLE a PASSWORD $$hush",
    "ALTER ROLE a PASSWORD $tag$hush$ta",
    "ALTER ROLE a PASSWORD /* c */ 'hush",
    "SELECT dblink_connect('password=hush",
)


class MaskTests(SynchronousTestCase):
    """Passwords are masked, in every way they can be written."""

    def test_masked(self) -> None:
        """No spelling shows its secret, and each shows that something was there."""
        for statement in SECRETS:
            line = shown(statement.encode(), len(statement))
            self.assertNotIn("hush", line, statement)
            self.assertIn("***", line, statement)

    def test_cut(self) -> None:
        """A statement whose end is not known shows no start of a secret."""
        for statement in CUT:
            line = shown(statement.encode(), 5000)
            self.assertNotIn("hush", line, statement)
            self.assertTrue(line.endswith("..."), line)

    def test_cut_anywhere(self) -> None:
        """Wherever a statement is cut, no whole secret is shown."""
        for statement in SECRETS:
            for end in range(len(statement)):
                line = shown(statement[:end].encode(), len(statement))
                self.assertNotIn("hush", line, statement[:end])

    def test_the_rest_is_kept(self) -> None:
        """What is no secret stays readable."""
        line = shown(b"ALTER ROLE a PASSWORD 'hush' VALID UNTIL 'tomorrow'", 51)
        self.assertEqual(line, "ALTER ROLE a PASSWORD '***' VALID UNTIL 'tomorrow'")
        for plain in ("SELECT password FROM users", "SELECT password_hash, name FROM users"):
            self.assertEqual(shown(plain.encode(), len(plain)), plain)

    def test_quick(self) -> None:
        """No text makes the mask think for long: whoever is logged can't stop the daemon."""
        for nasty in ("/*", "*/", "/* */", " ", "--\n", "'", "''", "\\", "$$", "password"):
            for start in ("password", "password '", "password $$"):
                text = (start + nasty * 2048)[:2048]
                self.assertTrue(shown(text.encode(), len(text)))


class LineTests(SynchronousTestCase):
    """A statement is one bounded line."""

    @given(st.text())
    def test_one_line(self, statement: str) -> None:
        """No control character, line end or lone surrogate gets into the log."""
        data = statement.encode("utf-8", "surrogatepass")
        line = shown(data, len(data))
        for character in line:
            self.assertFalse(
                ord(character) < 32
                or 0x7F <= ord(character) <= 0x9F
                or character in "\u2028\u2029"
                or 0xD800 <= ord(character) <= 0xDFFF,
                repr(line),
            )

    @given(st.binary(max_size=5000))
    def test_bounded(self, data: bytes) -> None:
        """Whatever the bytes are, what is shown has a bound, and noise raises nothing."""
        self.assertLessEqual(len(shown(data, len(data))), SHOWN * 6 + 3)
        query_text(data, len(data))
        parse_text(data, len(data))

    def test_cut(self) -> None:
        """What was left out is shown as such; what was not is not."""
        self.assertEqual(shown(b"x" * 2000, 2000), "x" * SHOWN + "...")
        self.assertEqual(shown(b"SELECT", 7000), "SELECT...")
        self.assertEqual(shown(b"SELECT 1", 8), "SELECT 1")

    def test_messages(self) -> None:
        """The texts of a Query and of a Parse, without their terminators."""
        self.assertEqual(query_text(b"SELECT 1\0", 9), "SELECT 1")
        self.assertEqual(parse_text(b"name\0SELECT $1\0\0\0", 17), ("name", "SELECT $1"))
        self.assertEqual(parse_text(b"\0SELECT", 9000), ("", "SELECT..."))
        self.assertEqual(query_text(b"a\nb\x1b[2J\0", 8), "a\\x0ab\\x1b[2J")
