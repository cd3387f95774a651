"""
A network namespace behind a cable that can be pulled: what is sent there then gets lost.

Needs root and iproute2; where there is none, tests skip.
"""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
from types import TracebackType

from twisted.trial.unittest import SkipTest

from tests.support.sshd import account


class Cabled:
    """
    A namespace with one address, which this machine reaches by a pair of veth.

    @ivar host: its address
    @ivar inside: the words before a command that is to run in it
    @ivar starter: the same for an ordinary user
    """

    def __init__(self) -> None:
        # From the block for benchmarks between networks (RFC 2544), which nobody routes.
        net = f"198.{18 + secrets.randbelow(2)}.{secrets.randbelow(256)}"
        four = 4 * secrets.randbelow(64)
        self._here = f"{net}.{four + 1}"
        self.host = f"{net}.{four + 2}"
        self._name = f"proxyd-{secrets.token_hex(4)}"
        self._near = f"pd{secrets.token_hex(4)}a"
        self._far = f"{self._near[:-1]}b"
        self.inside = ["ip", "netns", "exec", self._name]
        self.starter = [
            *self.inside,
            *("setpriv", f"--reuid={account()}", "--clear-groups", "--regid=nogroup"),
        ]

    def __enter__(self) -> Cabled:
        for word in ("ip", "setpriv"):
            if shutil.which(word) is None:
                raise SkipTest(f"{word} is not on this machine")
        if os.getuid():
            raise SkipTest("only root makes network namespaces")
        try:
            self._ip("netns", "add", self._name)
        except subprocess.CalledProcessError as problem:
            raise SkipTest(f"no network namespaces here: {problem.stderr.strip()}") from None
        try:
            far = ("peer", "name", self._far, "netns", self._name)
            self._ip("link", "add", self._near, "type", "veth", *far)
            self._ip("addr", "add", f"{self._here}/30", "dev", self._near)
            self._ip("link", "set", self._near, "up")
            self._ip("-n", self._name, "addr", "add", f"{self.host}/30", "dev", self._far)
            self._ip("-n", self._name, "link", "set", self._far, "up")
            self._ip("-n", self._name, "link", "set", "lo", "up")
        except subprocess.CalledProcessError as problem:
            self._remove()
            raise SkipTest(f"no veth pair here: {problem.stderr.strip()}") from None
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._remove()

    def pull(self) -> None:
        """Pull the cable: packets of both sides get lost, and nobody is told."""
        self._ip("-n", self._name, "link", "set", self._far, "down")

    def plug(self) -> None:
        """Plug it in again."""
        self._ip("-n", self._name, "link", "set", self._far, "up")

    def add_inside(self, address: str) -> None:
        """Give the namespace one more address, to which no cable leads."""
        self._ip("-n", self._name, "addr", "add", f"{address}/32", "dev", "lo")

    def _remove(self) -> None:
        subprocess.run(["ip", "link", "del", self._near], check=False, capture_output=True)
        subprocess.run(["ip", "netns", "del", self._name], check=False, capture_output=True)

    @staticmethod
    def _ip(*words: str) -> None:
        subprocess.run(["ip", *words], check=True, capture_output=True, text=True)
