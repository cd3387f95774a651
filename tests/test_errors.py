"""Tests for L{proxyd.errors}: the texts that operators read."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from proxyd.errors import ConfigError, DialError, DialFailure, Problem


class ProblemTests(SynchronousTestCase):
    """A problem of a configuration is one line: C{FILE:LINE: key.path: what is wrong}."""

    def test_all_known(self) -> None:
        """Where everything is known everything is said."""
        problem = Problem("p.yaml", 7, "log.level", "is no level")
        self.assertEqual(str(problem), "p.yaml:7: log.level: is no level")

    def test_no_line(self) -> None:
        """Where the line can't be found the file stands alone; line 0 would be a line."""
        self.assertEqual(str(Problem("p.toml", None, "log", "is wrong")), "p.toml: log: is wrong")
        self.assertEqual(str(Problem("p.toml", 0, "log", "is wrong")), "p.toml:0: log: is wrong")

    def test_parts_missing(self) -> None:
        """What is not known leaves no colon behind."""
        self.assertEqual(str(Problem("p.yaml", 1, "", "is no YAML")), "p.yaml:1: is no YAML")
        self.assertEqual(str(Problem("", None, "PROXY_PORT", "no port")), "PROXY_PORT: no port")


class ConfigErrorTests(SynchronousTestCase):
    """A configuration that can't be used names all that is wrong with it."""

    def test_all_at_once(self) -> None:
        """Each problem is a line, in the order of the file, and can be had by itself."""
        problems = [Problem("p.yaml", line, "log", "is wrong") for line in (3, 1, 2)]
        error = ConfigError(problems)
        self.assertEqual(
            str(error), "p.yaml:3: log: is wrong\np.yaml:1: log: is wrong\np.yaml:2: log: is wrong"
        )
        self.assertEqual(error.problems, tuple(problems))

    def test_kept(self) -> None:
        """What whoever raised it does with the list afterwards changes nothing."""
        problems = [Problem("p.yaml", 1, "log", "is wrong")]
        error = ConfigError(problems)
        problems.clear()
        self.assertEqual(len(error.problems), 1)


class DialErrorTests(SynchronousTestCase):
    """A target that can't be reached: which one, and why."""

    def test_detail(self) -> None:
        """The detail comes first, then the failure in plain words; both can be had apart."""
        error = DialError(DialFailure.REFUSED, "db.example:5432")
        self.assertEqual(str(error), "db.example:5432: connection refused")
        self.assertEqual(error.failure, DialFailure.REFUSED)
        self.assertEqual(error.detail, "db.example:5432")

    def test_no_detail(self) -> None:
        """Without a detail the failure's words stand alone, whichever it is."""
        for failure in DialFailure:
            self.assertEqual(str(DialError(failure, "")), failure.value)
