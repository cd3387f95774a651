"""Tests for L{proxyd.services.root}; tests/test_tap.py has it under twistd."""

from __future__ import annotations

import io

from twisted.application.service import Application, IService
from twisted.logger import ILogObserver
from twisted.trial.unittest import SynchronousTestCase

from proxyd.config.model import Log
from proxyd.services.root import Root, StartFailed


class RootTests(SynchronousTestCase):
    """The daemon's place in twistd's application."""

    def test_log(self) -> None:
        """The application logs by our observer, from its first line on."""
        stream = io.StringIO()
        application = Application("proxyd")
        Root(Log(), stream, foreground=True).setServiceParent(application)
        ours = application.getComponent(ILogObserver)
        ours({"log_time": 0.0, "log_format": "hello", "log_namespace": "x"})
        self.assertEqual(stream.getvalue(), "1970-01-01T00:00:00.000Z info     [x] hello\n")
        self.assertEqual(len(list(IService(application))), 1)

    def test_log_elsewhere(self) -> None:
        """Where twistd logs to a place of its own, that is left alone."""
        application = Application("proxyd")
        Root(Log(), None, foreground=True).setServiceParent(application)
        self.assertIsNone(application.getComponent(ILogObserver))

    def test_start_failed(self) -> None:
        """Its exit code is 1, its text the line, and twistd's clean-up sees it."""
        failed = StartFailed("proxyd: port taken")
        self.assertEqual((failed.code, str(failed)), (1, "proxyd: port taken"))
        self.assertIsInstance(failed, Exception)
