"""Tests for L{proxyd.services.notify}."""

from __future__ import annotations

import os
import socket
from tempfile import TemporaryDirectory

from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from proxyd.services.notify import Notify


class NotifyTests(SynchronousTestCase):
    """The service manager gets sd_notify(3)'s messages, and nothing when there is none."""

    def setUp(self) -> None:
        self.path = os.path.join(self.mktemp_short(), "notify")
        self.there = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.there.setblocking(False)
        self.addCleanup(self.there.close)
        self.clock = Clock()

    def mktemp_short(self) -> str:
        """A folder whose path is short enough for a UNIX socket in it."""
        folder = os.path.relpath(self.mktemp())
        os.makedirs(folder)
        return folder

    def heard(self) -> list[str]:
        """The messages that have come."""
        messages = []
        while True:
            try:
                messages.append(self.there.recv(4096).decode())
            except BlockingIOError:
                return messages

    def notify(self, **environment: str) -> Notify:
        """A client whose socket is the test's, in the file system."""
        # A UNIX socket's path is short (unix(7)), and this folder's may not be.
        folder = TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        path = os.path.join(folder.name, "notify")
        self.there.bind(path)
        return Notify(self.clock, {"NOTIFY_SOCKET": path, **environment}, lambda: 1234567)

    def test_states(self) -> None:
        """Each state is said in sd_notify's words; a reload carries the monotonic clock."""
        notify = self.notify()
        notify.ready("listening")
        notify.reloading()
        notify.ready()
        notify.status("5 clients\nREADY=1")
        notify.stopping("draining")
        self.assertEqual(
            self.heard(),
            [
                "READY=1\nSTATUS=listening",
                "RELOADING=1\nMONOTONIC_USEC=1234567",
                "READY=1",
                "STATUS=5 clients READY=1",
                "STOPPING=1\nSTATUS=draining",
            ],
        )

    def test_abstract(self) -> None:
        """An address that begins with @ is an abstract socket's."""
        self.there.bind("")  # Linux picks a free abstract name: unix(7), "autobind"
        name = self.there.getsockname()[1:].decode()
        Notify(self.clock, {"NOTIFY_SOCKET": "@" + name}).ready()
        self.assertEqual(self.heard(), ["READY=1"])

    def test_watchdog(self) -> None:
        """While it runs, the watchdog is fed at half its interval."""
        notify = self.notify(WATCHDOG_USEC="10000000", WATCHDOG_PID=str(os.getpid()))
        notify.startService()
        self.assertEqual(self.heard(), ["WATCHDOG=1"])
        self.clock.advance(4.9)
        self.assertEqual(self.heard(), [])
        self.clock.advance(0.1)
        self.assertEqual(self.heard(), ["WATCHDOG=1"])
        notify.stopService()
        self.clock.advance(10.0)
        self.assertEqual(self.heard(), [])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_watchdog_of_another(self) -> None:
        """A watchdog that waits for another process, or for no sane time, is not fed."""
        # A UNIX socket's path is short (unix(7)), and this folder's may not be.
        folder = TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        path = os.path.join(folder.name, "notify")
        self.there.bind(path)
        for variables in (
            {"WATCHDOG_USEC": "10000000", "WATCHDOG_PID": "1"},
            {"WATCHDOG_USEC": "0"},
            {"WATCHDOG_USEC": "soon"},
        ):
            notify = Notify(self.clock, {"NOTIFY_SOCKET": path, **variables})
            notify.startService()
            self.assertEqual(self.heard(), [], variables)
            notify.stopService()

    def test_nobody_asked(self) -> None:
        """Without NOTIFY_SOCKET nothing is said, and nothing is wrong."""
        notify = Notify(self.clock, {"WATCHDOG_USEC": "10000000"})
        with capturedLogs() as events:
            notify.startService()
            notify.ready("listening")
            notify.stopping()
            notify.stopService()
        self.assertEqual(events, [])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_nobody_listens(self) -> None:
        """A service manager that is gone costs one warning, and no start."""
        # A UNIX socket's path is short (unix(7)), and this folder's may not be.
        folder = TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        path = os.path.join(folder.name, "notify")
        notify = Notify(self.clock, {"NOTIFY_SOCKET": path})
        with capturedLogs() as events:
            notify.ready()
            notify.stopping()
        self.assertEqual(
            [formatEvent(event) for event in events],
            ["the service manager can't be told: No such file or directory"],
        )
