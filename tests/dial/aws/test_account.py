"""Tests for L{proxyd.dial.aws.account}: whose credentials, and what a call may cost."""

from __future__ import annotations

import os
from pathlib import Path

from proxyd.dial.aws.account import AwsSession, Keys
from proxyd.errors import DialError, DialFailure
from tests.dial.aws.scene import SECONDS, AwsTestCase


class AwsSessionTests(AwsTestCase):
    """Where the credentials come from."""

    def files(self, credentials: str, config: str = "") -> None:
        """AWS's two files, and no other source."""
        folder = Path(self.mktemp()).absolute()
        folder.mkdir()
        (folder / "credentials").write_text(credentials)
        (folder / "config").write_text(config)
        self.set_variables(
            {
                "AWS_CONFIG_FILE": str(folder / "config"),
                "AWS_SHARED_CREDENTIALS_FILE": str(folder / "credentials"),
                "AWS_EC2_METADATA_DISABLED": "true",
            }
        )

    def test_keys(self) -> None:
        """Keys that are given win, and show in no repr."""
        keys = Keys("AKIA1", "hidden", "also-hidden")
        session = AwsSession(keys=keys, region="us-east-2")
        self.assertEqual(session.credentials(), ("AKIA1", "hidden", "also-hidden", None))
        self.assertEqual(session.region(), "us-east-2")
        self.assertNotIn("hidden", repr(keys))

    def test_profile(self) -> None:
        """A profile's credentials and region."""
        self.files(
            "[prod]\naws_access_key_id = AKIA2\naws_secret_access_key = x\n",
            "[profile prod]\nregion = sa-east-1\n",
        )
        session = AwsSession(profile="prod")
        self.assertEqual(session.credentials().access_key, "AKIA2")
        self.assertEqual(session.region(), "sa-east-1")

    async def test_profile_missing(self) -> None:
        """A profile that is nowhere is named."""
        self.files("")
        with self.assertRaises(DialError) as caught:
            await self.account_with(profile="prod").run(
                AwsSession.credentials, "rds-db:connect", SECONDS
            )
        self.assertIn("(prod)", str(caught.exception))
        self.assertIn("~/.aws/config", str(caught.exception))

    async def test_sso_expired(self) -> None:
        """A profile of SSO without a login: what to run is said."""
        self.files(
            "",
            "[profile sso]\nsso_session = me\nsso_account_id = 123456789012\n"
            "sso_role_name = r\nregion = us-east-1\n"
            "[sso-session me]\nsso_start_url = https://me.example/start\nsso_region = us-east-1\n",
        )
        os.environ["HOME"], home = str(Path(self.mktemp()).absolute()), os.environ["HOME"]
        self.addCleanup(os.environ.__setitem__, "HOME", home)
        with self.assertRaises(DialError) as caught:
            await self.account_with(profile="sso").run(
                AwsSession.credentials, "rds-db:connect", SECONDS
            )
        self.assertIn("aws sso login", str(caught.exception))

    def test_read_again(self) -> None:
        """Credentials that somebody wrote into the file anew are found."""
        self.files("[default]\naws_access_key_id = A\naws_secret_access_key = x\n")
        session = AwsSession()
        session.credentials()
        self.assertFalse(session.read_again())
        path = Path(os.environ["AWS_SHARED_CREDENTIALS_FILE"])
        path.write_text("[default]\naws_access_key_id = B\naws_secret_access_key = x\n")
        self.assertEqual(session.credentials().access_key, "A")
        self.assertTrue(session.read_again())
        self.assertEqual(session.credentials().access_key, "B")


class AwsAccountTests(AwsTestCase):
    """Calls go to threads, and come back as values or as one kind of error."""

    async def test_refused(self) -> None:
        """AWS said no: BROKEN, in words."""
        self.aws.trouble = "denied"
        account = self.account_with(keys=Keys("AKIA1", "x"))
        with self.assertRaises(DialError) as caught:
            await account.run(
                lambda session: session.client("sts").get_caller_identity(), "sts:Get", SECONDS
            )
        self.assertEqual(caught.exception.failure, DialFailure.BROKEN)

    async def test_endpoint_down(self) -> None:
        """Nobody listens there: CREDENTIALS, and which endpoint."""
        account = self.account_with(
            keys=Keys("AKIA1", "x"), endpoint_url="http://127.0.0.1:1", call_time=1.0
        )
        with self.assertRaises(DialError) as caught:
            await account.run(
                lambda session: session.client("sts").get_caller_identity(), "sts:Get", SECONDS
            )
        self.assertIn("can't be reached for sts:Get", str(caught.exception))

    async def test_throttled(self) -> None:
        """Asked to slow down, it tries a few times and then says so."""
        self.aws.trouble = "throttle"
        account = self.account_with(keys=Keys("AKIA1", "x"))
        with self.assertRaises(DialError) as caught:
            await account.run(
                lambda session: session.client("sts").get_caller_identity(), "sts:Get", SECONDS
            )
        self.assertIn("slow down", str(caught.exception))
        self.assertEqual(len(self.aws.asked), 3)

    async def test_anything_else(self) -> None:
        """Whatever a library lets through is one kind of error too, and its text not told."""

        def work(session: AwsSession) -> None:
            raise ValueError("hunter2")

        with self.assertRaises(DialError) as caught:
            await self.account.run(work, "sts:Get", SECONDS)
        self.assertEqual(caught.exception.failure, DialFailure.BROKEN)
        self.assertIn("sts:Get failed: ValueError at test_account.py:", str(caught.exception))
        self.assertNotIn("hunter2", str(caught.exception))

    async def test_clients_while_read_again(self) -> None:
        """A client can be had while another thread reads the credentials anew."""
        session = AwsSession(keys=Keys("AKIA1", "x"), region="us-east-1")
        own = session._own()
        create = own.create_client

        def slowly(*args: object, **named: object) -> object:
            session.read_again()
            return create(*args, **named)

        own.create_client = slowly
        self.assertEqual(session.client("sts").meta.region_name, "us-east-1")

    async def test_not_running(self) -> None:
        """Where the threads don't run, the call fails and does not hang."""
        self.threads.stopService()
        with self.assertRaises(DialError):
            await self.account.run(AwsSession.region, "x", SECONDS)
