"""Tests for L{demo.ssm}: its line is pasted, and works."""

from __future__ import annotations

import os
import shlex
import sys
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.protocol import ProcessProtocol
from twisted.internet.utils import getProcessOutputAndValue
from twisted.trial.unittest import TestCase

from demo.ssm import CHECKOUT, PAGE
from tests.support.streams import until


class _Demo(ProcessProtocol):
    def __init__(self) -> None:
        self.text = ""
        self.ended: Deferred[None] = Deferred()

    def outReceived(self, data: bytes) -> None:
        """It says something."""
        self.text += data.decode(errors="replace")

    errReceived = outReceived

    def processEnded(self, reason: object) -> None:
        """It is over."""
        self.ended.callback(None)


class SsmDemoTests(TestCase):
    """C{python -m demo.ssm}."""

    timeout = 120

    async def test_line(self) -> None:
        """curl gets the page through an instance; Ctrl-C, or SIGTERM, ends all of it."""
        demo = _Demo()
        environment = os.environ | {"PYTHONUNBUFFERED": "1"}
        process: Any = reactor.spawnProcess(  # type: ignore[attr-defined]
            demo, sys.executable, [sys.executable, "-m", "demo.ssm"], environment, str(CHECKOUT)
        )

        async def stop() -> None:
            if not demo.ended.called:
                process.signalProcess("TERM")
            await demo.ended

        self.addCleanup(lambda: Deferred.fromCoroutine(stop()))
        await until(lambda: "curl" in demo.text and "is connected" in demo.text, "the demo")
        line = next(one for one in demo.text.splitlines() if "curl" in one)
        program, *words = shlex.split(line)
        path = f"/usr/bin/{program}"
        if not os.path.exists(path):
            return
        out, err, _ = await getProcessOutputAndValue(path, ["-sS", *words], os.environ)
        self.assertEqual(out, PAGE, err)
