"""Tests for L{proxyd.postgres.directory}."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address, ip_network
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from proxyd.config.model import Connection, Dsn
from proxyd.postgres.directory import Directory, Place, lets_user_in
from proxyd.target import Target

HOSTS = (Target("db.example", 5432),)
NEAR, FAR = ip_address("10.1.2.3"), ip_address("192.0.2.7")


class Behind:
    """A server of which only its connection matters."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection


def directory(*connections: Connection) -> Directory:
    """A directory of these."""
    servers: Any = {one.name: Behind(one) for one in connections}
    return Directory(servers)


def connection(name: str, database: str | None = None, **changes: Any) -> Connection:
    """A connection; without a database the client's name is used."""
    return replace(Connection(name, Dsn(HOSTS, "svc", database)), **changes)


class FindTests(SynchronousTestCase):
    """A name stands for an exact connection, else for C{default}."""

    def found(self, place: Place | None) -> tuple[str, str, bool]:
        """A place in short: connection, database there, whether it is served."""
        assert place is not None
        return place.connection.name, place.database, place.served

    def test_exact_before_default(self) -> None:
        """The exact name wins; every other is C{default}'s."""
        names = directory(connection("shop", "prod"), connection("default"))
        self.assertEqual(self.found(names.find("shop")), ("shop", "prod", True))
        self.assertEqual(self.found(names.find("other")), ("default", "other", True))

    def test_case_and_blanks_matter(self) -> None:
        """Names are compared as they are."""
        names = directory(connection("shop", "prod"))
        for name in ("Shop", "shop ", "sho", "shop*", ""):
            self.assertIsNone(names.find(name), name)

    def test_fixed_database(self) -> None:
        """A database in the DSN is used whatever the client calls it."""
        names = directory(connection("default", "prod"))
        self.assertEqual(self.found(names.find("x")), ("default", "prod", True))

    def test_registered_names(self) -> None:
        """C{db_NUMBER} never goes to C{default}; what only looks like it does."""
        names = directory(connection("default"))
        self.assertIsNone(names.find("db_1"))
        self.assertIsNone(names.find("db_0042"))
        for name in ("db_", "db_1x", "xdb_1", "DB_1", "db_-1"):
            self.assertIsNotNone(names.find(name), name)

    def test_served_names(self) -> None:
        """C{databases} are patterns; what matches none is known, and not served."""
        names = directory(connection("default", databases=("shop*", "crm")))
        served = {name: self.found(names.find(name))[2] for name in ("shop2", "crm", "crm2", "Crm")}
        self.assertEqual(served, {"shop2": True, "crm": True, "crm2": False, "Crm": False})

    def test_nothing(self) -> None:
        """Without C{default} an unknown name is nothing."""
        self.assertIsNone(directory(connection("shop")).find("other"))


class AuthTests(SynchronousTestCase):
    """How clients log in."""

    def test_nothing(self) -> None:
        """A name of nothing is asked as all are, or for a password where they differ."""
        cert, trust = connection("a", auth=("cert",)), connection("b", auth=("trust",))
        self.assertEqual(directory(cert).auth_for(None), ("cert",))
        self.assertEqual(directory(cert, trust).auth_for(None), ("backend",))
        self.assertEqual(directory().auth_for(None), ("backend",))

    def test_registered_form(self) -> None:
        """db_NUMBER is asked for a token, there or not; and says nothing of the others."""
        cert = connection("a", auth=("cert",))
        known = connection("db_1", auth=("token",))
        both = directory(cert, known)
        self.assertEqual(both.auth_for(both.find("db_1"), "db_1"), ("token",))
        self.assertEqual(both.auth_for(None, "db_2"), ("token",))
        self.assertEqual(both.auth_for(None, "other"), ("cert",))

    def test_place(self) -> None:
        """A place's own."""
        names = directory(connection("a", auth=("cert",)), connection("b", auth=("trust",)))
        self.assertEqual(names.auth_for(names.find("b")), ("trust",))


class LetsInTests(SynchronousTestCase):
    """Which addresses may come at all."""

    near = (ip_network("10.0.0.0/8"),)

    def test_allow(self) -> None:
        """C{allow} lets its networks in, and nobody else; without it everybody may come."""
        names = directory(connection("shop", allow=self.near), connection("open"))
        shop, everybody = names.find("shop"), names.find("open")
        self.assertTrue(names.lets_in(shop, NEAR))
        self.assertFalse(names.lets_in(shop, FAR))
        self.assertFalse(names.lets_in(shop, ip_address("::1")))
        self.assertTrue(names.lets_in(everybody, FAR))

    def test_socket(self) -> None:
        """A UNIX socket is let in everywhere."""
        names = directory(connection("shop", allow=self.near))
        self.assertTrue(names.lets_in(names.find("shop"), None))

    def test_unknown_name(self) -> None:
        """A name that stands for nothing is refused where some real one would be."""
        names = directory(connection("shop", allow=self.near), connection("open"))
        self.assertFalse(names.lets_in(None, FAR))
        self.assertTrue(names.lets_in(None, NEAR))

    def test_nobody(self) -> None:
        """C{allow} of nothing lets nobody in."""
        names = directory(connection("shop", allow=()))
        self.assertFalse(names.lets_in(names.find("shop"), NEAR))


class LetsUserInTests(SynchronousTestCase):
    """Which names may come."""

    def test_patterns(self) -> None:
        """C{users} are patterns, compared with case; without them everybody may come."""
        shop = connection("shop", users=("app_*", "ann"))
        allowed = {
            name: lets_user_in(shop, name) for name in ("app_1", "ann", "Ann", "anna", "app")
        }
        self.assertEqual(
            allowed, {"app_1": True, "ann": True, "Ann": False, "anna": False, "app": False}
        )
        self.assertTrue(lets_user_in(connection("shop"), "anybody"))
