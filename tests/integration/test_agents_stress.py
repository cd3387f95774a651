"""
Real processes under stress: readers who never read beside one who does, and what the
server and the agent weigh then. (How an end, a refusal and a reset arrive: C{test_agents.py}.)
"""

from __future__ import annotations

import threading

from tests.integration.agents import AgentsTestCase, read
from tests.support.agent import echo, pour
from tests.support.deadlines import wait_until

MIB = 1024 * 1024
READERS = 4
EACH = 64 * MIB
GROWTH = 16 * MIB


class StressTests(AgentsTestCase):
    """Four readers take nothing of 64 MiB each."""

    def test_readers_who_never_read(self) -> None:
        """Others are served as before, and neither process grows by 16 MiB."""
        self.begin()
        agent = self.agent("pc1")
        poured = self.reverse(self.place(pour(EACH)))
        echoed = self.reverse(self.place(echo))
        self.says_back(echoed)
        before = self.daemon.rss(), agent.rss()
        stuck = [self.user(poured) for _ in range(READERS)]
        for one in stuck:
            self.assertEqual(len(one.recv(1)), 1)
        for _ in range(50):
            self.says_back(echoed, b"x" * 1000)
        after = self.daemon.rss(), agent.rss()
        for name, was, now in zip(("server", "agent"), before, after, strict=True):
            self.assertLess(now - was, GROWTH, f"the {name} grew from {was} to {now}")
        self.assertLess(self.proxy(poured)["bytes_out"], READERS * EACH // 2)
        # What is read at last is whole.
        first = stuck[0]
        reader = threading.Thread(target=lambda: counts.append(len(read(first, EACH))))
        counts: list[int] = []
        reader.start()
        self.says_back(echoed)
        reader.join(120)
        self.assertEqual(counts, [EACH - 1])
        for one in stuck:
            one.close()
        wait_until(lambda: not self.proxy(poured)["users"], 30.0, "the users to be gone")
