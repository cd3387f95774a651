"""Tests for L{proxyd.config.environment}."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from proxyd.config.environment import PROCESS, Variable, Variables, read_dotenv, wrong_variable
from proxyd.config.report import Report
from proxyd.errors import ConfigError
from tests.config.reading import ReadingCase


class DotenvTests(ReadingCase):
    """The lines of a .env."""

    def read(self, text: str) -> dict[str, str]:
        """What a text sets."""
        path = self.folder() / ".env"
        path.write_text(text, encoding="utf-8")
        return {name: variable.value for name, variable in read_dotenv(str(path)).items()}

    def test_values(self) -> None:
        """Bare and quoted values, comments, export, spaces; nothing is interpolated."""
        for line, value in (
            ("A=b", "b"),
            ("A = b c ", "b c"),
            ("export A=b", "b"),
            ("A=b # comment", "b"),
            ("A=b#c", "b#c"),
            ("A=#b", "#b"),
            ("A= # comment", ""),
            ("A=", ""),
            ("A='b # c' # comment", "b # c"),
            ("A='$b\\n'", "$b\\n"),
            ('A="b\\n\\"c\\" \\\\ $d"', 'b\n"c" \\ $d'),
            ('A="b\nc"', "b\nc"),
            ("A=b=c", "b=c"),
            ("A=b\r", "b"),
            ("A=1\nA=2", "2"),
        ):
            self.assertEqual(self.read(f"# first\n\n{line}\n"), {"A": value}, line)

    def test_lines(self) -> None:
        """Each variable knows its line, after values of several lines too."""
        path = self.folder() / ".env"
        path.write_text('# x\nA="1\n2"\n\nB=3')
        found = read_dotenv(str(path))
        self.assertEqual((found["A"].line, found["B"].line), (2, 5))

    def test_malformed(self) -> None:
        """What is no assignment is told by its line, and not quoted."""
        for text, line in (("A=1\nhunter2\n", 2), ("A='hunter2\n\n", 1), ('A="hunter2" x', 1),
                           ("1A=hunter2", 1), ("A=hunter2\0", 1)):  # fmt: skip
            error = self.assertRaises(ConfigError, self.read, text)
            self.assertEqual([problem.line for problem in error.problems], [line], text)
            self.assertNotIn("hunter2", str(error))

    def test_absent(self) -> None:
        """No file is no variables; a folder in its place is a problem."""
        folder = self.folder()
        self.assertEqual(read_dotenv(str(folder / ".env")), {})
        self.assertRaises(ConfigError, read_dotenv, str(folder))

    @given(st.text(alphabet="AB=\"'\\ #\n\r\tx$", max_size=40))
    def test_noise(self, text: str) -> None:
        """Whatever the text, it is variables or a ConfigError."""
        try:
            self.read(text)
        except ConfigError:
            pass


class VariablesTests(ReadingCase):
    """What is set, and where."""

    written = {
        "DB_HOST": Variable("DB_HOST", "written", ".env", 3),
        "PROXY_PORT": Variable("PROXY_PORT", "1", ".env", 4),
        "OTHER": Variable("OTHER", "x", ".env", 5),
    }

    def test_process_wins(self) -> None:
        """The process wins over .env; an empty variable counts as not set."""
        variables = Variables({"DB_HOST": "process", "PROXY_PORT": ""}, self.written)
        self.assertEqual(variables.get("DB_HOST"), Variable("DB_HOST", "process", PROCESS, None))
        self.assertEqual(variables.get("PROXY_PORT"), self.written["PROXY_PORT"])
        self.assertEqual(variables.all, {"DB_HOST": "process", "PROXY_PORT": "1", "OTHER": "x"})

    def test_names(self) -> None:
        """Only proxyd's own variables count as set, and their sources are known."""
        variables = Variables({"PROXY_HOST": "h", "HOME": "/"}, self.written)
        self.assertEqual(variables.set_names(), ("DB_HOST", "PROXY_PORT", "PROXY_HOST"))
        self.assertEqual(variables.sources(), (".env", PROCESS))
        self.assertEqual(Variables({"HOME": "/"}).set_names(), ())

    def test_service_account(self) -> None:
        """GPRXY_USER or GPRXY_PASS is one."""
        self.assertTrue(Variables({"GPRXY_PASS": "x"}).has_service_account)
        self.assertFalse(Variables({"DB_HOST": "x"}).has_service_account)

    def test_wrong(self) -> None:
        """A problem with a variable is told by where it is set."""
        report = Report("f")
        wrong_variable(report, self.written["DB_HOST"], "x")
        wrong_variable(report, Variable("A", "v", PROCESS, None), "x")
        self.assertEqual(
            [str(one) for one in report.problems], [".env:3: DB_HOST: x", "environment: A: x"]
        )

    def test_secret(self) -> None:
        """A variable's value is not in its repr."""
        self.assertNotIn("hunter2", repr(Variable("GPRXY_PASS", "hunter2", PROCESS, None)))
