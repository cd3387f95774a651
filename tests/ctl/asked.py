"""proxyctl beside an API that is up: run in a thread, as it blocks."""

from __future__ import annotations

import json
import os
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from typing import Any

from twisted.internet.threads import deferToThread

from proxyd.ctl.main import run
from tests.web.scene import ApiTestCase


@dataclass(frozen=True, slots=True)
class Ran:
    """What a command said, and its exit code."""

    code: int
    out: str
    err: str

    @property
    def value(self) -> Any:
        """What it printed, as JSON."""
        return json.loads(self.out)


class AskedTestCase(ApiTestCase):
    """An API that is up, and proxyctl."""

    async def ctl(self, *arguments: str, stdin: str = "") -> Ran:
        """Run a command that finds the API by C{--socket}."""
        return await self.proxyctl(*arguments, "--socket", self.path, stdin=stdin)

    async def proxyctl(self, *arguments: str, stdin: str = "") -> Ran:
        """Run a command."""
        return await deferToThread(self._here, arguments, stdin)

    def _here(self, arguments: tuple[str, ...], stdin: str) -> Ran:
        out, err = StringIO(), StringIO()
        before, sys.stdin = sys.stdin, StringIO(stdin)
        try:
            with redirect_stdout(out), redirect_stderr(err):
                code = run(arguments)
        finally:
            sys.stdin = before
        return Ran(code, out.getvalue(), err.getvalue())

    def variable(self, name: str, value: str | None) -> None:
        """Set a variable of the process until the test ends; None: it is not set."""
        before = os.environ.pop(name, None)
        if value is not None:
            os.environ[name] = value

        def restore() -> None:
            os.environ.pop(name, None)
            if before is not None:
                os.environ[name] = before

        self.addCleanup(restore)
