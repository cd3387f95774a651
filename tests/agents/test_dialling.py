"""Tests for L{proxyd.agents.dialling}: what a server asks of an agent, sense and nonsense."""

from __future__ import annotations

from socket import AF_INET
from typing import Any

from twisted.trial.unittest import TestCase

from proxyd.agents.allow import AllowList
from proxyd.agents.dialling import Dialling
from proxyd.dial.direct import DirectDialer
from proxyd.net.resolver import Address, Resolver
from proxyd.wire.agent.frames import Code
from tests.agents.scene import free_port, reactor
from tests.support.streams import until


class Session:
    """Hears what is refused."""

    lost_because = ""

    def __init__(self) -> None:
        self.refused: list[tuple[int, Code, str]] = []

    def refuse(self, number: int, code: Code, text: str) -> None:
        """Keep it."""
        self.refused.append((number, code, text))


class DiallingTests(TestCase):
    """Each refusal has its code, and text for people."""

    def setUp(self) -> None:
        self.resolver = Resolver(reactor)
        self.resolver.startService()  # type: ignore[no-untyped-call]
        self.addCleanup(self.resolver.stopService)
        self.session: Any = Session()

    def dialling(self, *allow: str, seconds: float = 20.0) -> Dialling:
        """For a session."""
        dialer = DirectDialer(reactor, self.resolver, 20.0)
        made = Dialling(reactor, dialer, self.resolver, AllowList(allow), seconds)
        made.session = self.session
        self.addCleanup(made.stop)
        return made

    async def refusal(self, fields: dict[str, Any], *allow: str) -> tuple[Code, str]:
        """How it is refused."""
        self.dialling(*allow).take(2, fields)
        await until(lambda: self.session.refused, "the refusal")
        _, code, text = self.session.refused.pop()
        return code, text

    async def test_nonsense(self) -> None:
        """Fields that can't be a target."""
        for fields in (
            {},
            {"remote_host": 7, "remote_port": 1},
            {"remote_host": "a", "remote_port": "1"},
            {"remote_host": "a", "remote_port": 0},
            {"remote_host": "a", "remote_port": True},
            {"remote_host": "127.0.0.1", "remote_port": 1, "protocol": "udp"},
        ):
            code, _ = await self.refusal(fields)
            self.assertEqual(code, Code.UNSUPPORTED, fields)

    async def test_codes(self) -> None:
        """Refused, unknown, not on the list."""
        here = {"remote_host": "127.0.0.1", "remote_port": free_port()}
        self.assertEqual((await self.refusal(here))[0], Code.REFUSED)
        self.assertEqual((await self.refusal(here, "10.0.0.0/8"))[0], Code.DENIED)
        nowhere = {"remote_host": "nowhere.invalid", "remote_port": 1}
        self.assertEqual((await self.refusal(nowhere))[0], Code.NAME)
        metadata = {"remote_host": "169.254.169.254", "remote_port": 80}
        self.assertEqual((await self.refusal(metadata))[0], Code.DENIED)

    async def test_looked_up_once(self) -> None:
        """
        What was looked at is what is dialled, however many addresses a name has: it may stand
        for others a moment later.
        """
        asked: list[str] = []
        here = free_port()

        def look_up(host: str, port: int) -> list[Address]:
            asked.append(host)
            texts = ["127.0.0.1", "127.0.0.2"] if len(asked) == 1 else ["169.254.169.254"]
            return [Address(AF_INET, text, port) for text in texts]

        self.resolver.stopService()
        self.resolver = Resolver(reactor, look_up=look_up)
        self.resolver.startService()  # type: ignore[no-untyped-call]
        self.addCleanup(self.resolver.stopService)
        code, _ = await self.refusal({"remote_host": "db.example", "remote_port": here})
        self.assertEqual(code, Code.REFUSED)
        self.assertEqual(asked, ["db.example"])
