"""Tests for L{proxyd.app.agent}: an agent inside another program."""

from __future__ import annotations

from proxyd.app.agent import make_agent
from proxyd.errors import StartError
from tests.agents.scene import AgentsTestCase, Target, reactor
from tests.support.streams import until


class MakeAgentTests(AgentsTestCase):
    """A service with one promise: it is connected from its start to its stop."""

    async def test_life(self) -> None:
        """It comes, serves, and goes."""
        token = await self.registry.add("pc1")
        port = self.listen(Target())
        agent = make_agent(reactor, self.place, token, [f"127.0.0.1:{port}"], client_id="pc1")
        self.assertFalse(self.registry.is_here(["pc1"]))
        agent.startService()  # type: ignore[no-untyped-call]
        await until(lambda: self.registry.is_here(["pc1"]), "the agent")
        await agent.stopService()  # type: ignore[no-untyped-call]
        await until(lambda: not self.registry.is_here(["pc1"]), "it to be gone")

    def test_bad(self) -> None:
        """What can't be used is told at once."""
        for server, words in (
            ("http://h", {}),
            ("wss://h/agent", {"pin": "md5:1"}),
            ("wss://h/agent", {"ca": "/none/ca.pem"}),
            ("ws://h/agent", {"allow": ["10.0.*"]}),
        ):
            with self.assertRaises(StartError):
                make_agent(reactor, server, "token", **words)  # type: ignore[arg-type]
