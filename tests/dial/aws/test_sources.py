"""Tests for L{proxyd.dial.aws.sources}."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from proxyd.config.model import AwsIam, AwsSecret, Connection, Dsn
from proxyd.dial.aws.iam import IamTokens
from proxyd.dial.aws.secrets_manager import StoredPassword
from proxyd.dial.aws.sources import AwsSources
from proxyd.errors import DialError, DialFailure
from proxyd.net.threads import Threads
from proxyd.target import Target
from tests.dial.aws.scene import SECONDS, AwsTestCase, reactor

PLAIN = Connection("a", Dsn((Target("db", 5432),), "svc"))
SECRET = AwsSecret("arn:aws:secretsmanager:eu-central-1:123456789012:secret:x", "eu-central-1")


class AwsSourcesTests(AwsTestCase):
    """A connection's source is made once, and is the right one."""

    def test_kinds(self) -> None:
        """IAM, a stored password, or none of AWS's."""
        sources = AwsSources(lambda _: self.threads, reactor)
        self.assertIsNone(sources.source_of(PLAIN))
        iam = sources.source_of(replace(PLAIN, aws_iam_auth=AwsIam()))
        self.assertIsInstance(iam, IamTokens)
        stored = sources.source_of(replace(PLAIN, aws_secret=SECRET))
        self.assertIsInstance(stored, StoredPassword)

    def test_kept(self) -> None:
        """The same settings give the same source; another user has another."""
        sources = AwsSources(lambda _: self.threads, reactor)
        one = replace(PLAIN, aws_iam_auth=AwsIam(profile="p"))
        self.assertIs(sources.source_of(one), sources.source_of(replace(one, name="b")))
        other = replace(one, dsn=replace(one.dsn, user="ann"))
        self.assertIsNot(sources.source_of(one), sources.source_of(other))

    async def test_one_that_hangs(self) -> None:
        """A profile whose program never answers costs its own connections, and no others."""
        folder = Path(self.mktemp()).absolute()
        folder.mkdir()
        pipe, config = folder / "pipe", folder / "config"
        os.mkfifo(pipe)
        config.write_text(
            f"[profile hung]\ncredential_process = cat {pipe}\n"
            "[profile good]\naws_access_key_id = AKIA1\naws_secret_access_key = x\n"
        )
        self.set_variables(
            {"AWS_CONFIG_FILE": str(config), "AWS_SHARED_CREDENTIALS_FILE": "/no/such/file"}
        )
        sources = AwsSources(self.own_threads, reactor)
        hung = sources.source_of(self.with_profile("hung", 0.1))
        good = sources.source_of(self.with_profile("good", SECONDS))
        assert hung is not None and good is not None
        calls = [hung.token_for("h", 1) for _ in range(6)]
        for call in calls:
            error = await self.assertFailure(call, DialError)
            self.assertIs(error.failure, DialFailure.TIMEOUT)
        token = await good.token_for("h", 1)
        self.assertIn(b"AKIA1", token)
        # Whoever reads the pipe comes to its end, and whoever comes late finds none.
        writer = os.open(pipe, os.O_RDWR)
        pipe.unlink()
        os.close(writer)

    def own_threads(self, name: str) -> Threads:
        """Threads for one profile."""
        threads = Threads(reactor, name, 2)
        threads.startService()  # type: ignore[no-untyped-call]
        self.addCleanup(threads.stopService)
        return threads

    def with_profile(self, name: str, seconds: float) -> Connection:
        """A connection that logs in by IAM."""
        iam = AwsIam(region="us-east-1", profile=name, connection_timeout=seconds)
        return replace(PLAIN, aws_iam_auth=iam)
