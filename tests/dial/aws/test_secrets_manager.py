"""Tests for L{proxyd.dial.aws.secrets_manager}."""

from __future__ import annotations

import json

from twisted.logger import capturedLogs
from zope.interface.verify import verifyObject

from proxyd.dial.aws.secrets_manager import StoredPassword
from proxyd.errors import DialError
from proxyd.interfaces import ITokenSource
from tests.dial.aws.scene import SECONDS, AwsTestCase

ARN = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:db-AbCdEf"


class StoredPasswordTests(AwsTestCase):
    """The password is read once, and again when the server does not take it."""

    def setUp(self) -> None:
        super().setUp()
        self.source = StoredPassword(self.account, ARN, "eu-central-1", SECONDS)

    def read(self) -> int:
        """How often it was read."""
        return self.aws.asked.count("GetSecretValue")

    async def test_kept(self) -> None:
        """It is asked for once."""
        verifyObject(ITokenSource, self.source)
        for _ in range(3):
            self.assertEqual(await self.source.token_for("db", 5432), b"hush")
        self.assertEqual((self.read(), self.source.made), (1, 3))

    async def test_json(self) -> None:
        """A secret that RDS keeps is JSON: its key C{password} counts."""
        self.aws.secret = json.dumps({"username": "svc", "password": "härter"})
        self.assertEqual(await self.source.token_for("db", 5432), "härter".encode())

    async def test_no_password_in_it(self) -> None:
        """JSON without one, or none at all: an error that does not show what is there."""
        for secret in ('{"user": "hidden-thing"}', '{"password": 7}', "{hidden-thing"):
            self.aws.secret = secret
            with self.assertRaises(DialError) as caught:
                await self.source.token_for("db", 5432)
            self.assertIn("JSON without a password", str(caught.exception))
            self.assertNotIn("hidden", str(caught.exception))

    async def test_rotation(self) -> None:
        """After a refusal the new one is used, and the log names the secret and no password."""
        await self.source.token_for("db", 5432)
        self.assertFalse(await self.source.refused())
        self.aws.secret = "changed"
        with capturedLogs() as events:
            self.assertTrue(await self.source.refused())
        self.assertEqual(await self.source.token_for("db", 5432), b"changed")
        self.assertEqual([event["arn"] for event in events if "arn" in event], [ARN])
        self.assertNotIn("changed", repr(self.source))

    async def test_out_of_reach(self) -> None:
        """While AWS says no the last one stays in use."""
        await self.source.token_for("db", 5432)
        self.aws.trouble = "denied"
        self.assertFalse(await self.source.refused())
        self.assertEqual(await self.source.token_for("db", 5432), b"hush")
        (finding,) = await self.source.examine()
        self.assertFalse(finding.good)
        self.assertIn("AWS does not allow secretsmanager:GetSecretValue", finding.what)
        self.aws.trouble = ""
        (finding,) = await self.source.examine()
        self.assertTrue(finding.good)
