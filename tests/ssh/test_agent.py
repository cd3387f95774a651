"""Tests for L{proxyd.ssh.agent}: a real ssh-agent, and one that misbehaves."""

from __future__ import annotations

import os
import socket
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import UNIXServerEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase, TestCase

from proxyd.config.times import SSH_AGENT
from proxyd.ssh import agent as agents
from proxyd.ssh.agent import Agent, connect_agent
from proxyd.ssh.identities import IdentityError
from tests.support.deadlines import wait_until
from tests.support.sshd import make_key, program


class RealAgent:
    """An ssh-agent with keys; C{path} is its socket's."""

    def __init__(self, *keys: Path) -> None:
        self.folder = tempfile.TemporaryDirectory(prefix="proxyd-agent-")
        self.path = f"{self.folder.name}/socket"
        self.process = subprocess.Popen(
            [program("ssh-agent"), "-D", "-a", self.path],
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )
        wait_until(self._is_up, 60.0, "the agent")
        for key in keys:
            subprocess.run(
                [program("ssh-add"), "-q", str(key)],
                env=os.environ | {"SSH_AUTH_SOCK": self.path},
                check=True,
                stdin=subprocess.DEVNULL,
            )

    def _is_up(self) -> bool:
        # The file is there a moment before the agent listens.
        with socket.socket(socket.AF_UNIX) as asking:
            return asking.connect_ex(self.path) == 0

    def stop(self) -> None:
        """End it."""
        self.process.terminate()
        self.process.wait()
        self.folder.cleanup()


class RealAgentTests(TestCase):
    """What OpenSSH's agent holds is of use."""

    async def test_keys(self) -> None:
        """It shows its keys, and signs with each by the algorithm asked for."""
        folder = Path(self.mktemp())
        folder.mkdir()
        real = RealAgent(
            make_key(folder / "new"), make_key(folder / "old", "-t", "rsa", "-b", "2048")
        )
        self.addCleanup(real.stop)
        agent = await connect_agent(reactor, real.path)  # type: ignore[arg-type]
        self.addCleanup(agent.close)
        new, old = await agent.identities()
        self.assertIn("test of the ssh-agent", new.name)
        for identity, algorithm in (
            (new, b"ssh-ed25519"),
            (old, b"rsa-sha2-512"),
            (old, b"rsa-sha2-256"),
        ):
            self.assertTrue(identity.ask_first)
            signature = await identity.sign(b"data", algorithm)
            self.assertEqual(signature[4 : 4 + len(algorithm)], algorithm)

    async def test_empty(self) -> None:
        """One without keys shows none."""
        real = RealAgent()
        self.addCleanup(real.stop)
        agent = await connect_agent(reactor, real.path)  # type: ignore[arg-type]
        self.addCleanup(agent.close)
        self.assertEqual(await agent.identities(), [])

    async def test_none(self) -> None:
        """No agent at all: what is missing is said."""
        for path, word in ((None, "SSH_AUTH_SOCK"), ("/nowhere/agent", "/nowhere/agent")):
            try:
                await connect_agent(reactor, path)  # type: ignore[arg-type]
            except IdentityError as problem:
                self.assertIn(word, str(problem))
            else:
                self.fail("connected")

    async def test_hangs_up(self) -> None:
        """One that hangs up leaves nobody waiting."""

        class Rude(Protocol):
            def dataReceived(self, data: bytes) -> None:
                assert self.transport is not None
                self.transport.loseConnection()

        folder = tempfile.TemporaryDirectory(prefix="proxyd-agent-")
        self.addCleanup(folder.cleanup)
        endpoint = UNIXServerEndpoint(reactor, f"{folder.name}/socket")  # type: ignore[no-untyped-call]
        port = await endpoint.listen(Factory.forProtocol(Rude))
        self.addCleanup(port.stopListening)
        agent = await connect_agent(reactor, f"{folder.name}/socket")  # type: ignore[arg-type]
        try:
            await agent.identities()
        except IdentityError as problem:
            self.assertIn("hung up", str(problem))
        else:
            self.fail("it answered")


class BadAgentTests(SynchronousTestCase):
    """An agent that does not do as it should."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.agent = Agent(self.clock, "/agent")
        self.transport = StringTransport()
        self.agent.makeConnection(self.transport)

    def ask(self) -> Any:
        """Ask for its keys."""
        return Deferred.fromCoroutine(self.agent.identities())

    def answer(self, body: bytes) -> None:
        """It says something."""
        self.agent.dataReceived(len(body).to_bytes(4, "big") + body)

    def refusal(self, asked: Any) -> str:
        """What was made of it."""
        return str(self.failureResultOf(asked, IdentityError).value)

    def test_silence(self) -> None:
        """It does not answer: given up after a while, and nothing is left."""
        asked = self.ask()
        self.clock.advance(SSH_AGENT + 1)
        self.assertIn("has not answered", self.refusal(asked))
        self.assertTrue(self.transport.disconnecting)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_refusal(self) -> None:
        """It says no."""
        asked = self.ask()
        self.answer(b"\x05")
        self.assertIn("refuses", self.refusal(asked))

    def test_noise(self) -> None:
        """It promises more keys than it sends."""
        asked = self.ask()
        self.answer(bytes([agents.IDENTITIES_ANSWER]) + b"\0\0\0\x09" + b"\0\0\0\x01")
        self.assertIn("another language", self.refusal(asked))

    def test_too_long(self) -> None:
        """An answer without end is not waited for."""
        self.ask().addErrback(lambda _: None)
        self.agent.dataReceived(b"\x7f\xff\xff\xff")
        self.assertTrue(self.transport.disconnecting)

    def test_unasked(self) -> None:
        """An answer to nothing ends it."""
        self.answer(b"\x0c")
        self.assertTrue(self.transport.disconnecting)

    def test_other_signature(self) -> None:
        """RSA by SHA-1, which nobody asked for, is not sent on."""
        asked = Deferred.fromCoroutine(self.agent.sign(b"blob", b"data", b"rsa-sha2-512"))
        made = b"\0\0\0\x07ssh-rsa\0\0\0\x01x"
        self.answer(bytes([agents.SIGN_RESPONSE]) + len(made).to_bytes(4, "big") + made)
        self.assertIn("can't sign with rsa-sha2-512", self.refusal(asked))
