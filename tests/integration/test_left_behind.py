"""
What DISCARD ALL leaves behind, as docs/security.md says it, and that reset: close leaves nothing.

Two clients, alice and bob, one after the other on one server connection.
"""

from __future__ import annotations

from twisted.trial.unittest import SkipTest

from tests.integration.one_server import BACKEND
from tests.support.blackbox import BlackBoxTestCase, configuration, service, shared_daemon
from tests.support.database import CLIENT, DATABASE, OTHER_CLIENT, SERVICE, Database
from tests.support.wireclient import ServerError

RANDOM = "SELECT random()"


class LeftBehindTests(BlackBoxTestCase):
    """Each of the table in docs/security.md."""

    def setUp(self) -> None:
        """Have a proxyd with both kinds of reset, each for the service user and a superuser."""
        super().setUp()
        self.proxy = self.watch(shared_daemon(both(self.database)))

    def extension(self, name: str) -> None:
        """
        Have an extension.

        @raise SkipTest: this server has not got it
        """
        if not self.has_extension(name):
            raise SkipTest(f"no extension {name}")

    def found(self, connection: str, left: str, question: str) -> str | None:
        """What bob is told after alice left something; the SQLSTATE where it is an error."""
        with self.proxy.session(CLIENT, connection) as alice:
            pid = alice.value(BACKEND)
            alice.query(left)
            alice.leave()
        with self.proxy.session(OTHER_CLIENT, connection) as bob:
            self.assertEqual(bob.value(BACKEND) == pid, connection.startswith("kept"))
            try:
                return bob.value(question)
            except ServerError as error:
                return error.sqlstate
            finally:
                bob.leave()

    def test_dblink(self) -> None:
        """A dblink connection: the next client runs statements as whoever opened it."""
        self.extension("dblink")
        here = self.database
        place = f"host={here.host} port={here.port} dbname={DATABASE}"
        login = f"{place} user={CLIENT} password={here.passwords[CLIENT]}"
        left = f"SELECT dblink_connect('c', '{login}')"
        question = "SELECT u FROM dblink('c', 'SELECT current_user') AS r(u text)"
        self.assertEqual(self.found("kept", left, question), CLIENT)
        # 2F003: password is required.
        self.assertEqual(self.found("closing", left, question), "2F003")

    def test_random(self) -> None:
        """The state of the random generator."""
        with self.database.direct() as direct:
            direct.query("SELECT setseed(0.5)")
            known = direct.value(RANDOM)
        self.assertEqual(self.found("kept", "SELECT setseed(0.5)", RANDOM), known)
        self.assertNotEqual(self.found("closing", "SELECT setseed(0.5)", RANDOM), known)

    def test_own_setting(self) -> None:
        """A setting of one's own is an empty text then, and not NULL; its value is gone."""
        question = "SELECT coalesce(current_setting('my.note', true), 'NULL')"
        self.assertEqual(self.found("kept", "SET my.note = 'alice was here'", question), "")
        self.assertEqual(self.found("closing", "SET my.note = 'alice was here'", question), "NULL")

    def test_library(self) -> None:
        """A loaded library, which a superuser alone can load."""
        question = "SHOW auto_explain.log_analyze"
        left = "LOAD 'auto_explain'"
        self.assertEqual(self.found("kept_super", left, question), "off")
        self.assertEqual(self.found("closing_super", left, question), "42704")

    def test_language_globals(self) -> None:
        """Globals of a procedural language."""
        self.extension("plperl")
        with self.database.admin() as admin:
            for name, argument, body in (
                ("remember", "text", "$_SHARED{x} = $_[0]; return 1;"),
                ("recall", "", "return $_SHARED{x};"),
            ):
                admin.query(
                    f"CREATE OR REPLACE FUNCTION {name}({argument}) RETURNS text"
                    f" LANGUAGE plperl AS $$ {body} $$"
                )
        left, question = "SELECT remember('from alice')", "SELECT coalesce(recall(), 'NULL')"
        self.assertEqual(self.found("kept", left, question), "from alice")
        self.assertEqual(self.found("closing", left, question), "NULL")


def both(database: Database) -> str:
    """Both kinds of reset, each on one server connection."""
    cluster = database.cluster
    connections = {}
    for prefix, reset in (("kept", "discard_all"), ("closing", "close")):
        for suffix, user, password in (
            ("", SERVICE, database.passwords[SERVICE]),
            ("_super", cluster.superuser, cluster.password),
        ):
            dsn = database.dsn(user, DATABASE, sslmode="disable")
            keys = {"dsn": dsn, "password": password, "auth": "trust", "reset": reset}
            connections[prefix + suffix] = service(
                database, max_open_connections=1, min_idle_connections=0, **keys
            )
    return configuration(connections)
