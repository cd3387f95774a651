"""
proxyd is killed (kill -9) while tokens are issued and revoked: what was answered is so.

PROXYD_SOAK=1: two hundred kills.
"""

from __future__ import annotations

import random
import signal
import threading
import time
from dataclasses import dataclass, field
from http.client import HTTPException

from tests.integration.crowd_of_tokens import ADMIN, Api
from tests.support.blackbox import BlackBoxTestCase, configuration
from tests.support.daemon import Daemon, free_port
from tests.support.database import DATABASE
from tests.support.seeds import SOAK, printed_seed
from tests.support.wireclient import ServerError, WireClient

KILLS = 200 if SOAK else 3
LONGEST = 0.4
"""Seconds that calls go on before a kill, at most."""

LOOKED_AT = 4
"""Tokens of each kind that are tried by a login after each kill."""


@dataclass(slots=True)
class _Known:
    """
    What was answered.

    @ivar issued: tokens by their id
    @ivar asked: ids whose revocation was asked for, answered or not
    @ivar revoked: ids whose revocation was answered
    """

    issued: dict[str, str] = field(default_factory=dict)
    asked: set[str] = field(default_factory=set)
    revoked: set[str] = field(default_factory=set)


class KilledTests(BlackBoxTestCase):
    """No change that was answered is lost, and no revoked token is alive."""

    deadline = 3600.0 if SOAK else 180.0

    def test_killed(self) -> None:
        """Killed at any moment, again and again, on one state file."""
        chance = random.Random(printed_seed(self.id()))
        port = free_port()
        text = configuration(
            {
                "shop": {
                    "dsn": self.database.dsn(database=DATABASE, sslmode="disable"),
                    "password": self.database.passwords["svc"],
                    "auth": "token",
                    "min_idle_connections": 0,
                }
            },
            api={"listen": f"127.0.0.1:{port}", "admin_token": ADMIN},
        )
        self.api = Api(port)
        daemon = Daemon(text)
        self.addCleanup(daemon.remove)
        self.addCleanup(daemon.stop)
        known = _Known()
        for _ in range(KILLS):
            daemon.start()
            self.check(known, daemon, chance)
            workers = [
                threading.Thread(target=self.work, args=(known, random.Random(chance.random())))
                for _ in range(3)
            ]
            for worker in workers:
                worker.start()
            threading.Event().wait(chance.uniform(0.02, LONGEST))
            daemon.signal(signal.SIGKILL)
            for worker in workers:
                worker.join()
            daemon.wait_ended()
            daemon._kill()
        daemon.start()
        self.check(known, daemon, chance)
        self.assertGreater(len(known.issued), KILLS)

    def work(self, known: _Known, chance: random.Random) -> None:
        """Issue and revoke until nobody answers any more."""
        mine: list[str] = []
        end = time.monotonic() + 30
        try:
            while time.monotonic() < end:
                token, token_id = self.api.issue("shop")
                known.issued[token_id] = token
                mine.append(token_id)
                if chance.random() < 0.5:
                    gone = mine.pop(chance.randrange(len(mine)))
                    known.asked.add(gone)
                    self.api.revoke(gone)
                    known.revoked.add(gone)
        except (OSError, ValueError, HTTPException):
            pass  # it was killed

    def check(self, known: _Known, daemon: Daemon, chance: random.Random) -> None:
        """See that all is as it was answered."""
        listed = {one["token_id"]: one for one in self.api.call("GET", "/api/tokens")["tokens"]}
        self.assertEqual(known.issued.keys() - listed.keys(), set(), "an issued token is lost")
        alive = {name for name in known.revoked if listed[name]["revoked_at"] is None}
        self.assertEqual(alive, set(), "a revoked token is alive")
        dead = {name for name, one in listed.items() if one["revoked_at"] is not None}
        self.assertEqual(dead & known.issued.keys() - known.asked, set(), "nobody revoked it")
        good = sorted(known.issued.keys() - known.asked)
        for names, expected in ((good, None), (sorted(known.revoked), "28000")):
            for name in chance.sample(names, min(LOOKED_AT, len(names))):
                self.assertEqual(self.log_in(daemon, known.issued[name]), expected)

    def log_in(self, daemon: Daemon, token: str) -> str | None:
        """The SQLSTATE of a login by a token; None: it was let in."""
        with WireClient("127.0.0.1", daemon.port, seconds=30) as client:
            try:
                client.login("token", "shop", token)
            except ServerError as error:
                return error.fields["C"]
        return None
