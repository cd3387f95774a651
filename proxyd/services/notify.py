"""
What systemd is told: ready, reloading, stopping, a line of status, still alive.

The protocol is that of sd_notify(3): datagrams of C{NAME=value} lines to the
UNIX socket that C{NOTIFY_SOCKET} names. Without that variable all of it does
nothing.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Mapping

from twisted.application.service import Service
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger


def _monotonic_microseconds() -> int:
    return time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000


class Notify(Service):
    """
    Tells the service manager how we are.

    While the service runs, its watchdog (C{WatchdogSec=}) is fed at half the
    interval that C{WATCHDOG_USEC} asks for. No message ever blocks or raises:
    the first that can't be sent is logged as a warning.

    @param clock: who measures the watchdog's interval
    @param environment: where C{NOTIFY_SOCKET}, C{WATCHDOG_USEC} and
        C{WATCHDOG_PID} are looked up
    @param microseconds: CLOCK_MONOTONIC, which a reload's message must carry
    """

    name = "notify"
    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        environment: Mapping[str, str] = os.environ,
        microseconds: Callable[[], int] = _monotonic_microseconds,
    ) -> None:
        self._address = _socket_address(environment.get("NOTIFY_SOCKET", ""))
        self._microseconds = microseconds
        self._complained = False
        self._interval = _watchdog_interval(environment) if self._address else None
        self._watchdog = LoopingCall(self._send, "WATCHDOG=1")
        self._watchdog.clock = clock

    def startService(self) -> None:
        """Begin to feed the watchdog, if there is one."""
        self.running = 1
        if self._interval is not None:
            # Its Deferred only fires when it is stopped: _send raises nothing.
            self._watchdog.start(self._interval)

    def stopService(self) -> None:
        """Stop feeding the watchdog."""
        self.running = 0
        if self._watchdog.running:
            self._watchdog.stop()

    def ready(self, status: str = "") -> None:
        """All is open: at the end of a start, and again at the end of a reload."""
        self._send("READY=1", status)

    def reloading(self) -> None:
        """A reload has begun; L{ready} must follow, however it ends."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={self._microseconds()}")

    def stopping(self, status: str = "") -> None:
        """The stop has begun."""
        self._send("STOPPING=1", status)

    def status(self, text: str) -> None:
        """Say one line for C{systemctl status}; line breaks become blanks."""
        self._send("", text)

    def _send(self, state: str, status: str = "") -> None:
        if not self._address:
            return
        lines = [state] if state else []
        if status:
            lines.append("STATUS=" + " ".join(status.split()))
        message = "\n".join(lines).encode("utf-8", "backslashreplace")
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as there:
                there.setblocking(False)
                there.sendto(message, self._address)
        except OSError as error:
            if not self._complained:
                self._complained = True
                self._log.warn(
                    "the service manager can't be told: {reason}",
                    reason=error.strerror or type(error).__name__,
                )


def _socket_address(text: str) -> str:
    """The socket's address for C{sendto}: a path, or with a NUL in front an abstract name."""
    if text.startswith("@"):
        return "\0" + text[1:]
    return text if text.startswith("/") else ""


def _watchdog_interval(environment: Mapping[str, str]) -> float | None:
    """
    Seconds between two signs of life: half of what is asked for, as
    sd_watchdog_enabled(3) advises; None when it is not asked of this process.
    """
    if environment.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    microseconds = environment.get("WATCHDOG_USEC", "")
    if not (microseconds.isascii() and microseconds.isdigit()) or int(microseconds) == 0:
        return None
    return int(microseconds) / 2 / 1_000_000
