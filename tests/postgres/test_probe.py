"""Tests for L{proxyd.postgres.probe}; tests/ctl/test_servers.py has it on a real server."""

from __future__ import annotations

from proxyd.config.secrets import Secret
from proxyd.postgres.probe import look_at
from tests.postgres.fakeserver import scram, trust
from tests.postgres.scene import SceneTestCase


class LookAtTests(SceneTestCase):
    """What is seen at a server."""

    async def test_good(self) -> None:
        """A server that checks passwords, and the service user that logs in: nothing to say."""
        self.fake.login = scram
        self.assertEqual(await look_at(self.server()), [])

    async def test_trusting(self) -> None:
        """A server that lets everybody in can't check a client's password."""
        self.fake.login = trust
        (seen,) = await look_at(self.server())
        self.assertTrue(seen.failed)
        self.assertIn("pg_hba.conf trusts this address", seen.what)

    async def test_refused(self) -> None:
        """A wrong password of the service user fails, and is not told."""
        self.fake.login = scram
        connection = self.connection(password=Secret("hunter2"))
        (seen,) = await look_at(self.server(connection))
        self.assertTrue(seen.failed)
        self.assertIn("the service user was refused: 28P01", seen.what)
        self.assertNotIn("hunter2", seen.what)

    async def test_superuser(self) -> None:
        """A service user that is a superuser is worth a warning only."""
        self.fake.login = scram
        self.fake.parameters["is_superuser"] = "on"
        (seen,) = await look_at(self.server())
        self.assertFalse(seen.failed)
        self.assertIn("is a superuser", seen.what)
