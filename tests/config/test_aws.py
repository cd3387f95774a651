"""Tests for L{proxyd.config.aws}: logins by IAM, and passwords in Secrets Manager."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from proxyd.config.aws import region_of
from proxyd.config.model import AwsIam, AwsSecret
from tests.config.reading import ReadingCase

ARN = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:db-AbCdEf"


class IamTests(ReadingCase):
    """C{aws_iam_auth} as it stands in a file."""

    def text(
        self, iam: str, dsn: str = "postgresql://u@h/?sslmode=verify-full", more: str = ""
    ) -> str:
        """A file with one connection."""
        return f"connections:\n  a:\n    dsn: {dsn}\n    aws_iam_auth: {{{iam}}}\n    {more}\n"

    def test_all(self) -> None:
        """Every key."""
        found = self.load(
            self.text(
                "enabled: true, region: eu-west-1, db_user: x, profile: p, connection_timeout: 3s"
            )
        ).connections["a"]
        self.assertEqual(found.aws_iam_auth, AwsIam("eu-west-1", "x", "p", 3.0))
        self.assertEqual((found.dsn.user, found.connect_timeout), ("x", 3.0))

    def test_disabled(self) -> None:
        """What is not enabled is not there."""
        self.assertIsNone(self.load(self.text("enabled: false")).connections["a"].aws_iam_auth)

    def test_timeout(self) -> None:
        """connect_timeout is said once more: it wins for the whole login."""
        found = self.load(self.text("enabled: true", more="connect_timeout: 4s")).connections["a"]
        self.assertEqual(found.connect_timeout, 4.0)

    def test_tls(self) -> None:
        """No token without TLS: what libpq would leave open is demanded, and no TLS is refused."""
        for mode, meant in (
            ("prefer", "require"),
            ("allow", "require"),
            ("verify-ca&sslrootcert=/ca.pem", "verify-ca"),
        ):
            config = self.load(self.text("enabled: true", f"postgresql://u@h/?sslmode={mode}"))
            self.assertEqual(config.connections["a"].dsn.sslmode, meant)
            (warning,) = config.warnings
            self.assertIn(f"sslmode={meant} with aws_iam_auth", str(warning))
        for dsn in ("postgresql://u@h/?sslmode=disable", "postgresql://u@/?host=/run/pg"):
            (problem,) = self.wrong(self.text("enabled: true", f"'{dsn}'"))
            self.assertIn("inside TLS only", problem)

    def test_region(self) -> None:
        """What can't be a region is refused."""
        (problem,) = self.wrong(self.text("enabled: true, region: Frankfurt"))
        self.assertIn("'Frankfurt' is no AWS region", problem)


class SecretTests(ReadingCase):
    """C{aws_secret} as it stands in a file."""

    def text(self, secret: str, more: str = "") -> str:
        """A file with one connection."""
        dsn = "postgresql://u@h/?sslmode=verify-full"
        return f"connections:\n  a:\n    dsn: {dsn}\n    aws_secret: {{{secret}}}\n    {more}\n"

    def test_arn(self) -> None:
        """The region is the ARN's."""
        found = self.load(self.text(f"arn: '{ARN}', profile: p")).connections["a"]
        self.assertEqual(found.aws_secret, AwsSecret(ARN, "eu-central-1", "p"))

    def test_wrong(self) -> None:
        """What can't be right is refused at load."""
        for secret, more, said in (
            ("arn: db", "", "must be arn:aws:secretsmanager:"),
            ("region: eu-west-1", "", "has no arn"),
            (
                f"arn: '{ARN}', region: us-east-1",
                "",
                "contradicts the arn, which is in eu-central-1",
            ),
            (f"arn: '{ARN}'", "password: x", "a password contradicts aws_secret"),
            (f"arn: '{ARN}'", "aws_iam_auth: {enabled: true}", "contradicts aws_iam_auth"),
        ):
            problems = self.wrong(self.text(secret, more))
            self.assertTrue(any(said in problem for problem in problems), problems)


class RegionTests(SynchronousTestCase):
    """The region in the name of an RDS endpoint."""

    def test_names(self) -> None:
        """Instances, clusters, proxies, China; no other name has one."""
        for host, region in (
            ("orders.abc.us-east-1.rds.amazonaws.com", "us-east-1"),
            ("c.cluster-ro-abc.EU-central-1.rds.amazonaws.com", "eu-central-1"),
            ("p.proxy-abc.us-gov-west-1.rds.amazonaws.com", "us-gov-west-1"),
            ("x.rds.cn-north-1.amazonaws.com.cn", None),
            ("x.abc.cn-north-1.rds.amazonaws.com.cn", "cn-north-1"),
            ("x.abc.rds.cn-northwest-1.amazonaws.com.cn", "cn-northwest-1"),
            ("x.cluster-abc.rds.cn-north-1.amazonaws.com.cn", "cn-north-1"),
            ("x.abc.rds.us-east-1.amazonaws.com", None),
            ("db.example", None),
            ("us-east-1.rds.amazonaws.com.evil.example", None),
        ):
            self.assertEqual(region_of(host), region, host)
