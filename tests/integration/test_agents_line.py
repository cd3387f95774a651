"""
Agents at the end of a bad line: 100 ms there and back, 1 % of the packets lost, and seconds
in which all are. No stream may hang, and none may end as if all were there when it isn't.

With C{PROXYD_SOAK=1} the long form: 20 MB each way for each stream, and a line that stays dead.
"""

from __future__ import annotations

import hashlib
import random
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator

from tests.integration.agents import SECONDS, AgentsTestCase, read
from tests.support.agent import AgentProcess, Place, echo
from tests.support.bad_line import BadLine
from tests.support.deadlines import wait_until
from tests.support.seeds import SOAK, printed_seed
from tests.support.sshd import own_port

DELAY, LOSS = 0.05, 0.01
HOLE = 5.0 if SOAK else 3.0
"""Seconds of darkness; the kernel's repeats need up to twice that to come through again."""
LIGHT = 30.0
"""Seconds between two times that all is dark."""
STREAMS = 50
EACH = 20_000_000 if SOAK else 64 * 1024
HOLES = 5 if SOAK else 1
PATIENCE = 2400.0 if SOAK else 120.0
SILENT = 3 * 15.0
"""Seconds without a word after which a peer counts as dead: three pings."""
BLOCK = 64 * 1024
WHOLE, RESET = "equal checksums", "a reset"


def noise(seed: int) -> Iterator[bytes]:
    """So many bytes as a stream has, the same for the same seed."""
    chance = random.Random(seed)
    for start in range(0, EACH, BLOCK):
        yield chance.randbytes(min(BLOCK, EACH - start))


def checksum(seed: int) -> str:
    """That of all of them."""
    total = hashlib.sha256()
    for block in noise(seed):
        total.update(block)
    return total.hexdigest()


def talk(there: socket.socket, seed: int, first: threading.Event | None = None) -> str:
    """
    Send noise, end, and meanwhile read to the end: the checksum of what came.

    @raise ConnectionError: it was reset
    """
    problems: list[OSError] = []

    def send() -> None:
        try:
            for block in noise(seed):
                there.sendall(block)
            there.shutdown(socket.SHUT_WR)
        except OSError as problem:
            problems.append(problem)

    sender = threading.Thread(target=send, daemon=True)
    sender.start()
    came = hashlib.sha256()
    while data := there.recv(BLOCK):
        came.update(data)
        if first is not None:
            first.set()
    sender.join()
    if problems:
        # The kernel tells of a reset once: to whoever writes, and whoever reads then sees an end.
        raise problems[0]
    return came.hexdigest()


class BadLineTests(AgentsTestCase):
    """The agent and what is behind it live at the far end of the line."""

    deadline = PATIENCE + 240.0

    def setUp(self) -> None:
        super().setUp()
        self.seed = printed_seed("bad line")
        self.line = BadLine(DELAY, LOSS, self.seed)
        self.enterContext(self.line)
        self.heard: dict[int, str] = {}

    def far_agent(self, grace: str) -> AgentProcess:
        """A server, and an agent at the far end that is here."""
        place = f"{self.line.here}:{own_port()}"
        self.begin({"listen": [place], "grace": grace})
        token, pin = self.new_agent("pc1")
        agent = AgentProcess(
            f"wss://{place}/agent",
            token,
            *("--id", "pc1", "--allow", "127.0.0.1:*", "--pin", pin),
            starter=self.line.inside,
        )
        self.addCleanup(agent.remove)
        self.addCleanup(agent.stop)
        agent.start()
        self.wait_here("pc1", agent)
        return agent

    def far_place(self, serve: Callable[[socket.socket], None]) -> int:
        """A server at the far end; gives its port."""
        place = Place(serve, listener=self.line.listener())
        self.addCleanup(place.close)
        return place.port

    def test_streams(self) -> None:
        """
        Fifty streams, each way at once: each ends whole or by a reset, none hangs; where
        the agent was not lost meanwhile, all that were open are whole.
        """
        agent = self.far_agent("30s")
        local = self.reverse(self.far_place(self.answer))
        since = self.since("pc1")
        began = time.monotonic()
        flowing = [threading.Event() for _ in range(STREAMS)]
        ended: dict[int, str] = {}
        streams = [
            threading.Thread(
                target=self.one, args=(local, number, flowing[number], ended), daemon=True
            )
            for number in range(STREAMS)
        ]
        for stream in streams:
            stream.start()
        for first in flowing:
            self.assertTrue(first.wait(PATIENCE), "nothing came through")
        clock = threading.Event()
        for number in range(HOLES):
            if number:
                clock.wait(LIGHT)
            self.line.pull()
            clock.wait(HOLE)
            self.line.plug()
        for stream in streams:
            stream.join(max(0.0, began + PATIENCE - time.monotonic()))
        told = Counter(ended.get(number, "hung") for number in range(STREAMS))
        seconds = time.monotonic() - began
        sys.stderr.write(f"bad line: {dict(told)} of {EACH} bytes each way in {seconds:.1f} s\n")
        self.assertEqual(set(told) - {WHOLE, RESET}, set(), told)
        if self.since("pc1") == since:
            # Who could not be connected in time is a reset as well, and an error in the API.
            refused = sum(self.proxy(local)["errors"].values())
            self.assertEqual(told[RESET], refused, told)
        self.wait_left(local)
        agent.check()

    def one(self, local: int, number: int, flowing: threading.Event, ended: dict[int, str]) -> None:
        """One user, to the end; how that was."""
        try:
            with socket.create_connection(("127.0.0.1", local), SECONDS) as user:
                user.settimeout(PATIENCE)
                user.sendall(bytes([number]))
                came = talk(user, 2 * number, flowing)
        except (ConnectionResetError, BrokenPipeError):
            ended[number] = RESET
            return
        except OSError as problem:
            ended[number] = f"{type(problem).__name__}: {problem}"
            return
        finally:
            flowing.set()
        wait_until(lambda: number in self.heard, PATIENCE, "the other end to be done")
        whole = came == checksum(2 * number + 1) and self.heard[number] == checksum(2 * number)
        ended[number] = WHOLE if whole else "other bytes than were sent"

    def answer(self, there: socket.socket) -> None:
        """The far end of one stream."""
        number = there.recv(1)[0]
        self.heard[number] = talk(there, 2 * number + 1)

    def test_lost(self) -> None:
        """Users of a lost agent are reset; whoever comes then waits C{grace}, and is reset."""
        agent = self.far_agent("2s")
        local = self.reverse(self.far_place(echo))
        user = self.user(local)
        user.sendall(b"1")
        self.assertEqual(read(user, 1), b"1")
        if SOAK:
            # Nobody says anything any more: three pings without an answer.
            user.settimeout(SILENT + 2 * SECONDS)
            self.line.pull()
        else:
            agent.kill()
        began = time.monotonic()
        with self.assertRaises(ConnectionResetError):
            user.recv(1)
        sys.stderr.write(f"bad line: the loss was told after {time.monotonic() - began:.1f} s\n")
        began = time.monotonic()
        late = self.user(local)
        with self.assertRaises(ConnectionResetError):
            late.recv(1)
        self.assertGreater(time.monotonic() - began, 1.9)
        self.line.plug()
        if not SOAK:
            agent.start()
        self.wait_here("pc1", agent)
        self.says_back(local)
