"""Passwords that clients show, and how long a good one is remembered."""

from __future__ import annotations

import threading

from tests.support.blackbox import BlackBoxTestCase, configuration, service, shared_daemon
from tests.support.database import CLIENT, DATABASE, OTHER_CLIENT, SERVICE, Database
from tests.support.deadlines import wait_until
from tests.support.wireclient import Hangup, ServerError


class PasswordTests(BlackBoxTestCase):
    """A password that was right once makes no other right."""

    def setUp(self) -> None:
        """Have a proxyd that asks for passwords."""
        super().setUp()
        self.proxy = self.watch(shared_daemon(asking(self.database)))

    def refused(self, user: str, password: str) -> str:
        """The SQLSTATE with which a login is refused."""
        error: ServerError = self.assertRaises(
            ServerError, self.proxy.session, user, DATABASE, password
        )
        self.assertEqual(error.fields["S"], "FATAL")
        return error.sqlstate

    def login(self, user: str, password: str) -> None:
        """A login that must succeed, and whose session runs as the service user."""
        with self.proxy.session(user, DATABASE, password) as client:
            self.assertEqual(client.value("SELECT current_user"), SERVICE)
            client.leave()

    def test_wrong_after_right(self) -> None:
        """Another password for a user whose right one is remembered is refused (37)."""
        right = self.database.passwords[CLIENT]
        self.login(CLIENT, right)
        near = (right[:-1], right + "x", right.swapcase(), right.encode().hex())
        for wrong in near:
            self.assertEqual(self.refused(CLIENT, wrong), "28P01")
            self.login(CLIENT, right)
        self.assertEqual(self.refused(OTHER_CLIENT, right), "28P01")

    def test_wrong_beside_right(self) -> None:
        """The same when both come at one time (37)."""
        right = self.database.passwords[OTHER_CLIENT]
        outcomes: list[tuple[bool, bool]] = []

        def attempt(good: bool) -> None:
            try:
                with self.proxy.session(OTHER_CLIENT, DATABASE, right if good else "wrong"):
                    outcomes.append((good, True))
            except (ServerError, Hangup):
                outcomes.append((good, False))

        threads = [threading.Thread(target=attempt, args=(n % 2 == 0,)) for n in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        self.assertEqual(len(outcomes), 12)
        self.assertEqual([got_in for good, got_in in outcomes if not good], [False] * 6)
        self.assertIn((True, True), outcomes)

    def test_changed_password(self) -> None:
        """A password changed on the server is refused once it is no more remembered (37)."""
        with self.database.admin() as admin:
            admin.query("DROP ROLE IF EXISTS carol; CREATE ROLE carol LOGIN PASSWORD 'first'")
            self.login("carol", "first")
            admin.query("ALTER ROLE carol PASSWORD 'second'")
            self.login("carol", "second")

            def old_refused() -> bool:
                try:
                    self.proxy.session("carol", DATABASE, "first").close()
                except ServerError as error:
                    return error.sqlstate == "28P01"
                return False

            wait_until(old_refused, 30, "the old password to be forgotten")

    def test_no_secret_in_the_log(self) -> None:
        """No password is in the log, right or wrong (39)."""
        self.login(CLIENT, self.database.passwords[CLIENT])
        self.refused(CLIENT, "secret-and-wrong")
        log = self.proxy.log_text()
        for secret in ("secret-and-wrong", *self.database.passwords.values()):
            self.assertNotIn(secret, log)


def asking(database: Database) -> str:
    """Clients are asked for the password they have on the server."""
    return configuration({"default": service(database)})
