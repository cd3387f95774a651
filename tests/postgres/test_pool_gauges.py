"""Tests for L{proxyd.postgres.pool_gauges}: what can be read off a pool."""

from __future__ import annotations

from typing import Any

from proxyd.postgres.pool_gauges import PoolGauges
from tests.postgres.scene import SERVICE
from tests.postgres.test_pool import Behind, PoolTestCase, shop


class GaugeTests(PoolTestCase):
    """What a pool holds, while it is used."""

    def numbers(self) -> tuple[int, int, int, int]:
        """All there are, those idle, those in use, and who waits."""
        pool = self.pool
        return pool.total, pool.idle, pool.in_use, pool.waiting

    def test_new(self) -> None:
        """A pool that was just made is named, holds nothing and knows nothing."""
        self.make()
        server: Any = self.behind
        gauges = PoolGauges(server, SERVICE, "orders", self.clock, True)
        self.assertEqual((gauges.name, gauges.user), ("shop/orders/svc", "svc"))
        self.assertEqual((gauges.database, gauges.keep_warm), ("orders", True))
        self.assertEqual((gauges.total, gauges.idle, gauges.in_use, gauges.waiting), (0, 0, 0, 0))
        self.assertEqual((gauges.clients, gauges.last_error), (0, ""))
        self.assertEqual((gauges.parameters, gauges.learnt), ({}, {}))
        self.assertEqual(set(gauges.counters.as_dict().values()), {0})

    def test_greetings(self) -> None:
        """They are good for what a server told last: when that changes they are forgotten."""
        pool = self.make()
        pool.greetings["ann"] = b"R"
        pool.parameters = {"in_hot_standby": "on"}
        self.assertEqual((pool.parameters, pool.greetings), ({"in_hot_standby": "on"}, {}))

    def test_name_tells_no_secret(self) -> None:
        """The log may have the name: the service user is in it, its password is not."""
        name = self.make().name
        self.assertEqual(name, "shop/shop/svc")
        assert SERVICE.password is not None
        self.assertNotIn(SERVICE.password.decode(), name)

    def test_numbers(self) -> None:
        """Opening, in use, waiting, idle, closed: each connection is counted once."""
        self.make(max_open_connections=1)
        first = self.pool.acquire()
        self.assertEqual(self.numbers(), (1, 0, 0, 1))
        self.behind.let_in()
        server = self.successResultOf(first)
        self.assertEqual(self.numbers(), (1, 0, 1, 0))
        second = self.pool.acquire()
        self.assertEqual(self.numbers(), (1, 0, 1, 1))
        self.pool.give_back(server)
        self.assertIs(self.successResultOf(second), server)
        self.assertEqual(self.numbers(), (1, 0, 1, 0))
        self.pool.give_back(server)
        self.assertEqual(self.numbers(), (1, 1, 0, 0))
        self.pool.close()
        self.assertEqual(self.numbers(), (0, 0, 0, 0))

    def test_unused_for(self) -> None:
        """Seconds since a connection was wanted last; a later wish begins anew."""
        self.make()
        for _ in range(2):
            waiting = self.pool.acquire()
            self.behind.let_in(len(self.behind.logins))
            self.pool.give_back(self.successResultOf(waiting))
            self.assertEqual(self.pool.unused_for(self.clock.seconds()), 0.0)
            self.clock.advance(5.0)
            self.assertEqual(self.pool.unused_for(self.clock.seconds()), 5.0)

    def test_used(self) -> None:
        """It is in use while one holds a connection, waits for one, or is only logged in."""
        self.make(max_open_connections=1)
        waiting = self.pool.acquire()
        self.clock.advance(3.0)
        self.assertEqual(self.pool.unused_for(self.clock.seconds()), 0.0)
        self.behind.let_in()
        self.clock.advance(3.0)
        self.assertEqual(self.pool.unused_for(self.clock.seconds()), 0.0)
        self.pool.clients = 1
        self.pool.give_back(self.successResultOf(waiting))
        self.clock.advance(3.0)
        self.assertEqual(self.pool.unused_for(self.clock.seconds()), 0.0)
        self.pool.clients = 0
        self.assertGreater(self.pool.unused_for(self.clock.seconds()), 0.0)

    def test_made_and_never_used(self) -> None:
        """One that nobody ever used is unused since it was made."""
        self.make()
        self.clock.advance(100.0)
        server: Any = Behind(shop(), self.clock)
        gauges = PoolGauges(server, SERVICE, "shop", self.clock, False)
        self.clock.advance(4.0)
        self.assertEqual(gauges.unused_for(self.clock.seconds()), 4.0)
