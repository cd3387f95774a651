"""
The benchmarks measure what they say, and tell it in the shape that they promise.

No test here asserts how fast anything is.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from twisted.trial.unittest import TestCase

from bench.cases import all_names, cases_for
from bench.peers import find_pgbouncer
from bench.profile import top_of_stacks
from bench.programs import Missing, find_program, remembered
from bench.report import write_results
from bench.rounds import Result, compare, interleave, percentile
from bench.scene import Scene, Settings

REPOSITORY = Path(__file__).resolve().parent.parent
SHAPE = {"name": str, "peer": str, "ratio": float, "ours": float, "theirs": float, "unit": str}
RUN_SECONDS = 110


class RoundTests(TestCase):
    """Two programs are compared fairly."""

    def test_order_turns(self) -> None:
        """Each side runs once a round, and the order turns round at every round."""
        order: list[str] = []
        interleave("AB", lambda side: order.append(side), 3, lambda: False)
        self.assertEqual("".join(order), "ABBAAB")

    def test_late(self) -> None:
        """A run that is late still makes one whole round, and no more."""
        order: list[str] = []
        interleave("AB", lambda side: order.append(side), 3, lambda: True)
        self.assertEqual("".join(order), "AB")

    def test_share(self) -> None:
        """The time that is left is shared out among the cases that are left; none has none."""
        now = time.monotonic()
        place: Any = None
        scene = Scene(Settings(), Path(), place, place, None, now + 1000.0)
        for cases, most in ((4, 250.0), (1, 1000.0)):
            share = scene.for_one_of(cases).ends - now
            self.assertLessEqual(share, most + 60.0)
            self.assertGreater(share, most - 60.0)
        late = Scene(Settings(), Path(), place, place, None, now - 1.0)
        self.assertTrue(late.is_late())
        self.assertLessEqual(late.for_one_of(3).ends, time.monotonic())
        self.assertFalse(scene.is_late())

    def test_ratio_is_of_pairs(self) -> None:
        """The ratio is the median of the pairs' ratios, whatever the machine did between them."""
        result = compare("n", "u", "p", [10.0, 200.0, 30.0], [10.0, 100.0, 10.0])
        self.assertEqual(result.ratio, 2.0)
        self.assertEqual((result.ours, result.theirs), (30.0, 10.0))

    def test_cost_is_turned_over(self) -> None:
        """For what costs, less is better: half the cost is a ratio of two."""
        result = compare("n", "u", "p", [5.0], [10.0], less_is_better=True)
        self.assertEqual(result.ratio, 2.0)

    def test_percentile(self) -> None:
        """A percentile is one of the values, by nearest rank."""
        values = [float(number) for number in range(100, 0, -1)]
        self.assertEqual(percentile(values, 0.5), 50.0)
        self.assertEqual(percentile(values, 0.99), 99.0)
        self.assertEqual(percentile([7.0], 0.99), 7.0)


class NameTests(TestCase):
    """What can be measured goes by its name."""

    def test_case_of_each(self) -> None:
        """Each name is given by exactly one case."""
        names = all_names()
        self.assertEqual(len(set(names)), len(names))
        for name in names:
            self.assertEqual(len(cases_for([name])), 1, name)

    def test_missing_program(self) -> None:
        """A program that is nowhere is named."""
        error = self.assertRaises(Missing, find_program, "no-such-program")
        self.assertEqual(str(error), "no-such-program")


class ReportTests(TestCase):
    """Results can be read by a program."""

    def test_digits(self) -> None:
        """A figure keeps five digits that count, and what stands beside it stays."""
        path = Path(self.mktemp())
        write_results([Result("n", "p", 1.23456789, 12345.678, 0.0, "u", {"rounds": 3})], path)
        (row,) = json.loads(path.read_text())
        self.assertEqual((row["ratio"], row["ours"], row["theirs"]), (1.2346, 12346.0, 0.0))
        self.assertEqual(row["rounds"], 3)

    def test_profile(self) -> None:
        """A profile counts each sample where it ended, and once for each caller."""
        text = top_of_stacks("main;loop;send 30\nmain;loop 10\nmain;loop;loop;recv 60\n", 3)
        lines = [line.split() for line in text.splitlines()[1:]]
        self.assertEqual(lines[0], ["60.0", "%", "60.0", "%", "recv"])
        self.assertEqual(lines[2], ["10.0", "%", "100.0", "%", "loop"])


class WholeRunTests(TestCase):
    """C{python -m bench} measures real programs."""

    def setUp(self) -> None:
        """Skip where a program to compare with or to measure with can't be had."""
        try:
            find_pgbouncer()
            find_program("pgbench")
        except Missing as missing:
            self.skipTest(f"not on this machine: {missing}")
        self.folder = Path(tempfile.mkdtemp(prefix="proxyd-test-bench-"))
        self.addCleanup(shutil.rmtree, self.folder)

    def run_bench(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run the command to its end."""
        return subprocess.run(
            [sys.executable, "-m", "bench", *arguments],
            cwd=REPOSITORY,
            env=dict(os.environ),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=RUN_SECONDS,
            check=False,
        )

    def test_results(self) -> None:
        """A short run tells its results in a table and in a file of the promised shape."""
        output = self.folder / "results.json"
        done = self.run_bench(
            "pg.simple.c1", "--quick", "--seconds", "1", "--rounds", "1", "--output", str(output)
        )
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertIn("pg.simple.c1", done.stdout)
        rows = json.loads(output.read_text())
        self.assertEqual([row["peer"] for row in rows], ["pgbouncer", "direct"])
        for row in rows:
            for key, kind in SHAPE.items():
                self.assertIsInstance(row[key], kind, key)
            self.assertEqual(row["name"], "pg.simple.c1")
            self.assertGreater(row["ours"], 0)
            self.assertGreater(row["theirs"], 0)

    def test_unknown_name(self) -> None:
        """A name that is not known is wrong usage, and the known ones are told."""
        done = self.run_bench("pg.nonsense")
        self.assertEqual(done.returncode, 2)
        self.assertIn("unknown: pg.nonsense", done.stderr)
        self.assertIn("pg.simple.c32", done.stderr)


class PortTests(TestCase):
    """Ports that closed connections are remembered by."""

    def test_remembered(self) -> None:
        """How many there are stands in a line of the kernel's; where it has none, it is nought."""
        told = (
            "sockets: used 8\nTCP: inuse 1 orphan 0 tw 86259 alloc 1 mem 10\nUDP: inuse 0 mem 0\n"
        )
        self.assertEqual((remembered(told), remembered("UDP: inuse 0\n")), (86259, 0))
