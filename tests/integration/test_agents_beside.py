"""
What a reverse port does when things go wrong, one row each: proxyd's, and with
C{PROXYD_SOAK=1} those of others beside it. The table in C{docs/compatibility.md} is this one's.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from typing import Protocol

from tests.integration.agents import AgentsTestCase, read
from tests.support.agent import AgentProcess, answer_after_end, echo, pour, reset
from tests.support.deadlines import DeadlinePassed, wait_until
from tests.support.reverse import Other, SshBack, Tunnel, resident
from tests.support.seeds import SOAK
from tests.support.sshd import own_port

MIB = 1024 * 1024
READERS, EACH, GROWTH = 4, 64 * MIB, 16
PINGS = 50
GRACE = 3
PATIENCE = 10.0
"""Seconds after which a user who hears nothing is said to hang."""
SERVED = 30.0


class Side(Protocol):
    """A server with reverse ports, and the agent behind them."""

    @property
    def name(self) -> str:
        """What it is called."""

    @property
    def ports(self) -> Mapping[str, int]:
        """Where users come, by what is behind."""

    def start_agent(self) -> None:
        """Start an agent; one that runs already stays."""

    def signal_agent(self, number: signal.Signals) -> None:
        """Send the agent that was started last a signal."""

    def rss(self) -> tuple[int, int]:
        """Resident bytes of server and agent."""


def outcome(user: socket.socket) -> str:
    """What a user hears who says nothing: C{reset}, C{end} or C{hangs}; and after how long."""
    began = time.monotonic()
    user.settimeout(PATIENCE)
    try:
        heard = "data" if user.recv(1) else "end"
    except ConnectionResetError:
        heard = "reset"
    except TimeoutError:
        return f"hangs ({PATIENCE:g} s)"
    return f"{heard} after {time.monotonic() - began:.1f} s"


class BesideTests(AgentsTestCase):
    """The same is done to each."""

    deadline = 400.0

    def setUp(self) -> None:
        super().setUp()
        behind = {"half": answer_after_end, "reset": reset, "echo": echo, "pour": pour(EACH)}
        self.places = {name: self.place(serve) for name, serve in behind.items()}
        self.places["refused"] = own_port()

    def test_table(self) -> None:
        """proxyd: as it should be, in each column."""
        self.begin({"grace": f"{GRACE}s"})
        ours = Ours(self, self.places)
        sides: list[Side] = [ours]
        if SOAK:
            others: list[Other] = [SshBack(self.places)]
            if shutil.which("wtunnel"):
                others.append(Tunnel(self.places))
            for other in others:
                self.addCleanup(other.stop)
                other.start_server()
            sides += others
        rows = {side.name: self.row(side) for side in sides}
        columns = list(rows[ours.name])
        lines = ["| | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
        lines += [f"| {name} | " + " | ".join(row.values()) + " |" for name, row in rows.items()]
        sys.stderr.write("\n" + "\n".join(lines) + "\n")
        row = rows[ours.name]
        self.assertEqual(row["half-close"], "kept")
        for column in ("refused", "target resets", "agent killed: open user"):
            self.assertRegex(row[column], "^reset after")
        self.assertNotEqual(row["others while 4 stall"], "blocked")
        for whose in ("server", "agent"):
            self.assertLess(float(row[f"{whose}, MiB more"]), GROWTH)
        self.assertRegex(row["new user, no agent"], "^reset after")
        for column in ("agent back", "takeover"):
            self.assertRegex(row[column], "^served after")

    def row(self, side: Side) -> dict[str, str]:
        """What comes of everything, by the column's name."""
        side.start_agent()
        self.served(side)
        row = {"half-close": self.half_close(side)}
        row["refused"] = outcome(self.user(side.ports["refused"]))
        row["target resets"] = outcome(self.user(side.ports["reset"]))
        row |= self.stalled(side)
        user = self.user(side.ports["echo"])
        user.sendall(b"1")
        read(user, 1)
        side.signal_agent(signal.SIGKILL)
        row["agent killed: open user"] = outcome(user)
        try:
            row["new user, no agent"] = outcome(self.user(side.ports["echo"]))
        except ConnectionRefusedError:
            row["new user, no agent"] = "port closed"
        side.start_agent()
        row["agent back"] = self.served(side)
        # So that it neither hears that it was replaced, nor comes again.
        side.signal_agent(signal.SIGSTOP)
        side.start_agent()
        row["takeover"] = self.served(side)
        return row

    def half_close(self, side: Side) -> str:
        """A user ends, and the answer comes after that."""
        user = self.user(side.ports["half"])
        user.settimeout(PATIENCE)
        user.sendall(b"x" * 100_000)
        user.shutdown(socket.SHUT_WR)
        try:
            return "kept" if read(user, 100) == b"100000 bytes\n" else "lost"
        except OSError:
            return "lost"

    def stalled(self, side: Side) -> dict[str, str]:
        """Four users who never read, and one beside them."""
        before = side.rss()
        users = [self.user(side.ports["pour"]) for _ in range(READERS)]
        for user in users:
            read(user, 1)
        # What grows without a bound has grown by then: that is what others say to be fast.
        wait_until(self.quiet(side), SERVED, "nothing to move any more")
        pings = []
        try:
            with socket.create_connection(("127.0.0.1", side.ports["echo"]), PATIENCE) as user:
                for _ in range(PINGS):
                    began = time.monotonic()
                    user.sendall(b"p")
                    if not user.recv(1):
                        raise ConnectionError("it ended")
                    pings.append((time.monotonic() - began) * 1000)
            others = f"{statistics.median(pings):.1f} ms"
        except OSError:
            others = "blocked"
        growth = [(now - was) / MIB for was, now in zip(before, side.rss(), strict=True)]
        for user in users:
            user.close()
        return {
            "others while 4 stall": others,
            "server, MiB more": f"{growth[0]:.1f}",
            "agent, MiB more": f"{growth[1]:.1f}",
        }

    def quiet(self, side: Side) -> Callable[[], bool]:
        """Whether both processes weigh the same as a second ago."""
        seen = [(0.0, (0, 0))]

        def check() -> bool:
            now, weight = time.monotonic(), side.rss()
            if max(abs(a - b) for a, b in zip(weight, seen[-1][1], strict=True)) > MIB:
                seen.append((now, weight))
            return len(seen) > 1 and now - seen[-1][0] > 1.0

        return check

    def served(self, side: Side) -> str:
        """How long it takes until a user is served."""
        began = time.monotonic()

        def is_served() -> bool:
            try:
                with socket.create_connection(("127.0.0.1", side.ports["echo"]), 2.0) as user:
                    user.settimeout(2.0)
                    user.sendall(b"1")
                    return user.recv(1) == b"1"
            except OSError:
                return False

        try:
            wait_until(is_served, SERVED, f"{side.name} to serve")
        except DeadlinePassed:
            return f"not within {SERVED:g} s"
        return f"served after {time.monotonic() - began:.1f} s"


class Ours:
    """proxyd, and its agent."""

    name = "proxyd"

    def __init__(self, test: BesideTests, places: Mapping[str, int]) -> None:
        self._test = test
        self._token = test.new_agent("pc1")[0]
        self.ports = {name: test.reverse(place) for name, place in places.items()}
        self._agents: list[AgentProcess] = []

    def start_agent(self) -> None:
        """One more with the same token."""
        self._agents.append(self._test.agent("pc1", token=self._token, here=False))

    def signal_agent(self, number: signal.Signals) -> None:
        """To the last one."""
        agent = self._agents[-1]
        if number is signal.SIGKILL:
            self._agents.remove(agent)
            agent.kill()
        else:
            os.kill(agent.pid, number)
            self._test.addCleanup(os.kill, agent.pid, signal.SIGCONT)

    def rss(self) -> tuple[int, int]:
        """Resident bytes of both."""
        return resident(self._test.daemon.pid), resident(self._agents[-1].pid)
