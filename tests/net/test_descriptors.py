"""Tests for L{proxyd.net.descriptors}."""

from __future__ import annotations

import resource

from twisted.trial.unittest import SynchronousTestCase, TestCase

from proxyd.net.descriptors import OWN_DESCRIPTORS, check
from tests.services.running import End, python

RAISING = """
import resource
from proxyd.net.descriptors import raise_limit
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
hard = 200 if hard == resource.RLIM_INFINITY else min(hard, 200)
resource.setrlimit(resource.RLIMIT_NOFILE, (hard - 100, hard))
print(raise_limit() == hard, resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard))
print(raise_limit() == hard)
"""


class RaiseLimitTests(TestCase):
    """As many files may be open as the kernel allows us without asking."""

    async def test_raised(self) -> None:
        """The soft limit becomes the hard one, which is told; a second time changes nothing."""
        running = python(self, RAISING)
        self.assertEqual(await running.ended(), End(0, None), running.err)
        self.assertEqual(running.out.split(), ["True", "True", "True"])


class CheckTests(SynchronousTestCase):
    """A limit that is too low for the configuration is told before clients feel it."""

    def test_enough(self) -> None:
        """Exactly enough is enough, and so is no limit."""
        self.assertIsNone(check(1000 + 50 + OWN_DESCRIPTORS, 1000, 50))
        self.assertIsNone(check(resource.RLIM_INFINITY, 1000, 50))

    def test_too_low(self) -> None:
        """One too few is told in one line with all numbers and both remedies."""
        line = check(1049 + OWN_DESCRIPTORS, 1000, 50)
        assert line is not None
        for part in ("1113", "1000 clients", "50 server", "1114", "LimitNOFILE", "max_clients"):
            self.assertIn(part, line)
        self.assertNotIn("\n", line)
