"""Tests for L{proxyd.dial.aws.words}: what a person is told of each kind of trouble."""

from __future__ import annotations

import botocore.exceptions as said
from botocore.exceptions import ClientError
from twisted.trial.unittest import SynchronousTestCase

from proxyd.dial.aws.words import is_passing, told


def refusal(code: str, text: str = "", status: int = 400) -> ClientError:
    """What botocore raises for an error answer."""
    answer = {
        "Error": {"Code": code, "Message": text},
        "ResponseMetadata": {"HTTPStatusCode": status},
    }
    return ClientError(answer, "StartSession")


class ToldTests(SynchronousTestCase):
    """One line, with what to do next."""

    def test_services(self) -> None:
        """Errors that AWS answers with."""
        for code, expected in (
            ("ExpiredToken", "the AWS credentials have expired"),
            ("ExpiredTokenException", "the AWS credentials have expired"),
            ("RequestTimeTooSkewed", "clock is wrong"),
            ("InvalidClientTokenId", "does not know these credentials"),
            ("ThrottlingException", "slow down"),
            ("TargetNotConnected", "the instance is not online in SSM"),
            ("AccessDeniedException", "AWS does not allow ssm:StartSession: because"),
            ("ServiceUnavailable", "AWS has trouble of its own"),
            ("InternalFailure", "AWS has trouble of its own"),
            ("InvalidTarget", "there is no such instance"),
            ("NotAuthorized", "AWS does not allow ssm:StartSession: because"),
            ("Strange", "ssm:StartSession: Strange: because"),
        ):
            self.assertIn(expected, told(refusal(code, "because"), "ssm:StartSession"), code)

    def test_library(self) -> None:
        """Errors of the way there, and of the credentials."""
        for error, expected in (
            (said.NoCredentialsError(), "no AWS credentials were found"),
            (said.PartialCredentialsError(provider="env", cred_var="x"), "incomplete"),
            (said.ProfileNotFound(profile="prod"), "prod"),
            (said.UnauthorizedSSOTokenError(), "aws sso login"),
            (said.NoRegionError(), "no AWS region is known"),
            (said.EndpointConnectionError(endpoint_url="https://ssm"), "can't be reached"),
            (said.ReadTimeoutError(endpoint_url="https://ssm"), "can't be reached"),
            (said.SSLError(endpoint_url="https://ssm", error="bad"), "can't be believed"),
        ):
            self.assertIn(expected, told(error, "ssm:StartSession"), type(error).__name__)
            self.assertNotIn("\n", told(error, "ssm:StartSession"))

    def test_passing(self) -> None:
        """What goes by itself is told apart from what does not."""
        self.assertTrue(is_passing(refusal("ThrottlingException")))
        self.assertTrue(is_passing(refusal("Strange", status=503)))
        self.assertTrue(is_passing(said.EndpointConnectionError(endpoint_url="x")))
        self.assertFalse(is_passing(refusal("AccessDenied")))
        self.assertFalse(is_passing(said.NoCredentialsError()))
