"""Tests for L{proxyd.dial.aws.iam}: the signature, and the source around it."""

from __future__ import annotations

import hashlib
import hmac
from datetime import UTC, datetime
from urllib.parse import parse_qsl, quote, urlsplit

import botocore.auth
from botocore.credentials import ReadOnlyCredentials
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from proxyd.config.aws import region_of
from proxyd.dial.aws.iam import IamTokens, signed
from proxyd.errors import DialError, DialFailure
from proxyd.interfaces import ITokenSource
from tests.dial.aws.scene import SECONDS, AwsTestCase
from tests.support.fake_aws import IDENTITY

# The credentials of AWS's own examples.
CREDENTIALS = ReadOnlyCredentials("akid", "skid", None)

# From the tests of botocore (tests/unit/test_signers.py, TestGenerateDBAuthToken), whose
# own vector this is.
VECTOR_TIME = datetime(2016, 11, 7, 17, 39, 33, tzinfo=UTC)
VECTOR = (
    "prod-instance.us-east-1.rds.amazonaws.com:3306/?Action=connect"
    "&DBUser=someusername&X-Amz-Algorithm=AWS4-HMAC-SHA256"
    "&X-Amz-Date=20161107T173933Z&X-Amz-SignedHeaders=host"
    "&X-Amz-Expires=900&X-Amz-Credential=akid%2F20161107%2F"
    "us-east-1%2Frds-db%2Faws4_request&X-Amz-Signature"
    "=d1138cdbc0ca63eec012ec0fc6c2267e03642168f5884a7795320d4c18374c61"
)


def signature_of(token: str, secret: str) -> str:
    """
    The signature that a token should carry, computed anew without botocore.

    Source: AWS general reference, "Signature Version 4 signing process", for
    presigned URLs.
    """
    parts = urlsplit("https://" + token)
    pairs = [(name, value) for name, value in parse_qsl(parts.query) if name != "X-Amz-Signature"]
    query = "&".join(
        f"{quote(name, safe='-_.~')}={quote(value, safe='-_.~')}" for name, value in sorted(pairs)
    )
    values = dict(pairs)
    nothing = hashlib.sha256(b"").hexdigest()
    canonical = f"GET\n/\n{query}\nhost:{parts.netloc}\n\nhost\n{nothing}"
    scope = values["X-Amz-Credential"].partition("/")[2]
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    text = "\n".join(("AWS4-HMAC-SHA256", values["X-Amz-Date"], scope, digest))
    key = b"AWS4" + secret.encode()
    for part in scope.split("/"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()


class SignedTests(SynchronousTestCase):
    """A token is what AWS's own tools make."""

    def test_vector(self) -> None:
        """The known vector, word for word."""
        self.patch(botocore.auth, "get_current_datetime", lambda *_, **__: VECTOR_TIME)
        made = signed(
            CREDENTIALS,
            "us-east-1",
            "prod-instance.us-east-1.rds.amazonaws.com",
            3306,
            "someusername",
        )
        here, there = urlsplit("https://" + made), urlsplit("https://" + VECTOR)
        self.assertEqual(here.netloc, there.netloc)
        self.assertEqual(dict(parse_qsl(here.query)), dict(parse_qsl(there.query)))

    def test_computed_anew(self) -> None:
        """The signature is the one that the specification gives, for odd names, too."""
        for user in ("iam_user", "ann smith", "a/b+c=d&e"):
            made = signed(CREDENTIALS, "eu-west-3", "db.example", 5432, user)
            values = dict(parse_qsl(urlsplit("https://" + made).query))
            self.assertEqual(values["DBUser"], user)
            self.assertEqual(values["X-Amz-Expires"], "900")
            self.assertEqual(values["X-Amz-Signature"], signature_of(made, "skid"))


class IamTokensTests(AwsTestCase):
    """A token for every login, with credentials as good as can be had."""

    def source(self, region: str | None = None, seconds: float = SECONDS) -> IamTokens:
        """Of the user C{iam_user}."""
        return IamTokens(self.account, "iam_user", region, region_of, seconds)

    async def token(self, source: IamTokens, host: str = "db.example") -> dict[str, str]:
        """A token's parts."""
        made = (await source.token_for(host, 5432)).decode()
        self.assertTrue(made.startswith(f"{host}:5432/?"))
        return dict(parse_qsl(urlsplit("https://" + made).query))

    async def failure(self, waiting: Deferred[bytes]) -> DialError:
        """How it failed."""
        try:
            await waiting
        except DialError as error:
            return error
        self.fail("it did not fail")

    def test_interface(self) -> None:
        """It is a source of tokens."""
        verifyObject(ITokenSource, self.source())

    async def test_region(self) -> None:
        """Given, else in the host's name, else the account's."""
        rds = "orders.abc.us-west-2.rds.amazonaws.com"
        for region, host, expected in (
            ("ap-south-1", rds, "ap-south-1"),
            (None, rds, "us-west-2"),
            (None, "db.example", "eu-central-1"),
        ):
            values = await self.token(self.source(region), host)
            self.assertIn(f"/{expected}/rds-db/", values["X-Amz-Credential"])

    async def test_no_region(self) -> None:
        """None anywhere: one line that says so."""
        self.set_variables(
            {name: value for name, value in self.aws.variables().items() if name != "AWS_REGION"}
        )
        error = await self.failure(self.source().token_for("db.example", 5432))
        self.assertEqual(error.failure, DialFailure.CREDENTIALS)
        self.assertIn("no AWS region is known", str(error))

    async def test_each_anew(self) -> None:
        """Every call makes one; AWS is asked for credentials once, and for tokens never."""
        source = self.source()
        for _ in range(3):
            await self.token(source)
        self.assertEqual(source.made, 3)
        self.assertEqual(self.aws.asked, ["container"])

    async def test_session_token(self) -> None:
        """Credentials of a role bring their session token along, inside the signature."""
        values = await self.token(self.source())
        self.assertEqual(values["X-Amz-Security-Token"], "session-1")

    async def test_hiccup(self) -> None:
        """Credentials that can't be refreshed are used as long as they are good."""
        self.aws.life = 300.0  # so short that botocore refreshes before every use
        source = self.source()
        await self.token(source)
        self.aws.trouble = "broken"
        values = await self.token(source)
        self.assertIn("ASIAGENERATION1", values["X-Amz-Credential"])
        self.aws.trouble, self.aws.generation = "", 2
        values = await self.token(source)
        self.assertIn("ASIAGENERATION2", values["X-Amz-Credential"])

    async def test_none(self) -> None:
        """No credentials anywhere: what can be done is said."""
        self.set_variables({"AWS_EC2_METADATA_DISABLED": "true", "AWS_REGION": "eu-west-1"})
        error = await self.failure(self.source().token_for("db.example", 5432))
        self.assertEqual(error.failure, DialFailure.CREDENTIALS)
        self.assertIn("no AWS credentials were found", str(error))

    async def test_silent(self) -> None:
        """An endpoint that never answers costs the time that was given, and not more."""
        self.aws.trouble = "silent"
        error = await self.failure(self.source(seconds=0.2).token_for("db.example", 5432))
        self.assertEqual(error.failure, DialFailure.TIMEOUT)

    async def test_refused(self) -> None:
        """A token that the server did not take: credentials are looked for anew."""
        source = self.source()
        await self.token(source)
        self.assertFalse(await source.refused())
        self.aws.generation = 2
        self.assertTrue(await source.refused())
        self.aws.trouble = "broken"
        self.assertFalse(await source.refused())

    async def test_examine(self) -> None:
        """Whose credentials they are, and whether the clock is right."""
        who, clock = await self.source().examine()
        self.assertTrue(who.good)
        self.assertIn(IDENTITY, who.what)
        self.assertTrue(clock.good)
        for ahead, word in ((-601.0, "ahead of"), (601.0, "behind")):
            self.aws.ahead = ahead
            _, clock = await self.source().examine()
            self.assertFalse(clock.good)
            self.assertIn(word, clock.what)
            self.assertIn("Synchronise", clock.remedy)

    async def test_examine_trouble(self) -> None:
        """What AWS says against it is a finding, not a failure."""
        for trouble, said in (
            ("expired", "have expired"),
            ("denied", "AWS does not allow sts:GetCallerIdentity"),
        ):
            source = self.source()
            await self.token(source)
            self.aws.trouble = trouble
            (finding,) = await source.examine()
            self.aws.trouble = ""
            self.assertFalse(finding.good)
            self.assertIn(said, finding.what)
