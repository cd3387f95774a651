"""The agent for Node in C{docs/howto-agents.md}, as it stands there."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from twisted.trial.unittest import SkipTest

from tests.integration.agents import AgentsTestCase
from tests.support.agent import echo
from tests.support.daemon import REPOSITORY
from tests.support.sshd import own_port

MIB = 1024 * 1024
PAGE = REPOSITORY / "docs" / "howto-agents.md"


def node_with_ws(folder: Path) -> str:
    """
    Node, with its C{ws} package in a folder.

    @raise SkipTest: they can't be had
    """
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        raise SkipTest("node and npm are not on this machine")
    command = [npm, "install", "--no-fund", "--no-audit", "--prefix", str(folder), "ws@8"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    except subprocess.TimeoutExpired:
        raise SkipTest("npm does not get the package ws in time") from None
    if done.returncode:
        raise SkipTest(f"npm does not get the package ws: {done.stderr.strip()[-200:]}")
    return node


class NodeTests(AgentsTestCase):
    """Level 0, by somebody else's WebSocket."""

    def test_page(self) -> None:
        """Bytes both ways; a refusal is a reset."""
        (program,) = re.findall(r"```js\n(.*?)```", PAGE.read_text(), re.DOTALL)
        folder = Path(tempfile.mkdtemp(prefix="proxyd-node-"))
        self.addCleanup(shutil.rmtree, folder, True)
        node = node_with_ws(folder)
        (folder / "agent.js").write_text(program)
        self.begin()
        token, _ = self.new_agent("pc1")
        url = f"ws://127.0.0.1:{self.door}/agent?client_id=pc1"
        agent = subprocess.Popen(
            [node, str(folder / "agent.js")],
            env={**os.environ, "SERVER": url, "TOKEN": token},
            stdin=subprocess.DEVNULL,
        )
        self.addCleanup(agent.wait)
        self.addCleanup(agent.kill)
        self.wait_here("pc1")
        nobody = self.reverse(own_port())
        with self.assertRaises(ConnectionResetError):
            self.user(nobody).recv(1)
        local = self.reverse(self.place(echo))
        self.says_back(local)
        user = self.user(local)
        user.sendall(b"x" * MIB)
        came = bytearray()
        while len(came) < MIB:
            came += user.recv(65536)
        self.assertEqual(came, b"x" * MIB)
        user.close()
