"""Tests for L{proxyd.agents.hush}: one event is one line."""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet.threads import deferToThread
from twisted.logger import LogLevel, formatEvent, globalLogPublisher

from proxyd.agents.hush import Hush
from tests.agents.test_registry import RegistryTestCase
from tests.support.streams import until

QUIET = LogLevel.debug


class LinesTests(RegistryTestCase):
    """What somebody who looks at the log reads."""

    async def setUp(self) -> None:
        """Read along."""
        await super().setUp()
        self.lines: list[str] = []
        globalLogPublisher.addObserver(self.seen)
        self.addCleanup(globalLogPublisher.removeObserver, self.seen)

    def seen(self, event: dict[str, Any]) -> None:
        """A line, unless nobody would see it."""
        if event["log_level"] > QUIET:
            self.lines.append(formatEvent(event))

    async def test_refused(self) -> None:
        """A wrong token, another id, a browser: one line each, with the reason."""
        token = await self.registry.add("pc1")
        for arguments, headers, reason in (
            (("wrong",), {}, "no good token"),
            ((token, "?client_id=pc2"), {}, "another client_id"),
            ((token,), {"Origin": "http://evil.example"}, "browsers"),
        ):
            self.lines.clear()
            await self.refusal(*arguments, **headers)
            await until(lambda: self.lines, "a line")
            self.assertEqual([reason in line for line in self.lines], [True], self.lines)
            self.assertNotIn(token, self.lines[0])

    async def test_no_websocket(self) -> None:
        """Something else than a WebSocket is one line."""

        def speak() -> bytes:
            with socket.create_connection(("127.0.0.1", self.door.getHost().port), 20) as one:
                one.sendall(b"SSH-2.0-OpenSSH_9.2\r\n\r\n")
                return one.recv(1000)

        await deferToThread(speak)
        await until(lambda: self.lines, "a line")
        self.assertEqual(["was none" in line for line in self.lines], [True], self.lines)

    async def test_in_order(self) -> None:
        """An agent that comes and goes: here, and gone."""
        agent = await self.agent()
        self.lines.clear()
        agent.stopService()
        await until(lambda: not self.registry.is_here(["pc1"]), "it to be gone")
        ours = [line for line in self.lines if "the server is gone" not in line]
        self.assertEqual([line[:18] for line in ours], ["agent pc1 is gone "])

    def test_levels(self) -> None:
        """What autobahn says of an ending is there for who looks for it."""
        events: list[Any] = []
        globalLogPublisher.addObserver(events.append)
        self.addCleanup(globalLogPublisher.removeObserver, events.append)
        hush = Hush()
        hush.debug("a message")
        hush.error("an end: {why}", why="none")
        self.assertEqual([event["log_level"] for event in events], [QUIET])
        self.assertEqual(formatEvent(events[0]), "an end: none")
