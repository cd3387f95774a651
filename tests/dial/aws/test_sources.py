"""Tests for L{proxyd.dial.aws.sources}."""

from __future__ import annotations

from dataclasses import replace

from proxyd.config.model import AwsIam, AwsSecret, Connection, Dsn
from proxyd.dial.aws.iam import IamTokens
from proxyd.dial.aws.secrets_manager import StoredPassword
from proxyd.dial.aws.sources import AwsSources
from proxyd.target import Target
from tests.dial.aws.scene import AwsTestCase, reactor

PLAIN = Connection("a", Dsn((Target("db", 5432),), "svc"))
SECRET = AwsSecret("arn:aws:secretsmanager:eu-central-1:123456789012:secret:x", "eu-central-1")


class AwsSourcesTests(AwsTestCase):
    """A connection's source is made once, and is the right one."""

    def test_kinds(self) -> None:
        """IAM, a stored password, or none of AWS's."""
        sources = AwsSources(self.threads, reactor)
        self.assertIsNone(sources.source_of(PLAIN))
        iam = sources.source_of(replace(PLAIN, aws_iam_auth=AwsIam()))
        self.assertIsInstance(iam, IamTokens)
        stored = sources.source_of(replace(PLAIN, aws_secret=SECRET))
        self.assertIsInstance(stored, StoredPassword)

    def test_kept(self) -> None:
        """The same settings give the same source; another user has another."""
        sources = AwsSources(self.threads, reactor)
        one = replace(PLAIN, aws_iam_auth=AwsIam(profile="p"))
        self.assertIs(sources.source_of(one), sources.source_of(replace(one, name="b")))
        other = replace(one, dsn=replace(one.dsn, user="ann"))
        self.assertIsNot(sources.source_of(one), sources.source_of(other))
