"""Tests for L{proxyd.config.report}."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from proxyd.config.report import Report


class ReportTests(SynchronousTestCase):
    """What a reading has found is told in the order of the file."""

    def test_order(self) -> None:
        """By line; what has none comes after, other files last."""
        report = Report("f")
        report.wrong("d", "x", None, "environment")
        report.wrong("c", "x")
        report.wrong("b", "x", 10)
        report.wrong("a", "x", 9)
        self.assertEqual(
            [str(problem) for problem in report.problems],
            ["f:9: a: x", "f:10: b: x", "f: c: x", "environment: d: x"],
        )

    def test_once(self) -> None:
        """What is found twice is told once."""
        report = Report("f")
        report.wrong("a", "x", 1)
        report.wrong("a", "x", 1)
        self.assertEqual(len(report.problems), 1)

    def test_kinds(self) -> None:
        """Problems, warnings and keys for later are kept apart."""
        report = Report("f")
        report.warn("a", "x", 1)
        report.not_yet("b", 2, "cert")
        report.not_yet("c", 1)
        self.assertEqual(report.problems, ())
        self.assertEqual([str(one) for one in report.warnings], ["f:1: a: x"])
        self.assertEqual(
            [str(one) for one in report.later],
            ["f:1: c: not in this version yet", "f:2: b: cert: not in this version yet"],
        )
