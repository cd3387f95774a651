"""
What AWS and its library say, in words that tell what to do next.

Their own texts are kept where they name a thing (an ARN, an action), and never
a credential: those are in no exception of botocore's but as an access key's id,
which is none.
"""

from __future__ import annotations

import botocore.exceptions as said
from botocore.exceptions import ClientError

_EXPIRED = "the AWS credentials have expired: renew them (aws sso login, or the instance's role)"
_CLOCK = "AWS refuses the signature's time: this machine's clock is wrong; synchronise it"
_UNKNOWN = "AWS does not know these credentials: check the access key and the profile"
_SIGNATURE = (
    "AWS refuses the signature: the secret key does not belong to the access key, or this "
    "machine's clock is wrong"
)
_HALF_SIGNED = "AWS got a request without a whole signature: does a proxy on the way change it?"
_TROUBLE = "AWS has trouble of its own; it is tried again later"
_SLOWER = "AWS asks to slow down; it is tried again later"

_BY_CODE = {
    "ExpiredToken": _EXPIRED,
    "ExpiredTokenException": _EXPIRED,
    "RequestExpired": _CLOCK,
    "RequestTimeTooSkewed": _CLOCK,
    "SignatureDoesNotMatch": _SIGNATURE,
    "InvalidSignatureException": _SIGNATURE,
    "IncompleteSignature": _HALF_SIGNED,
    "IncompleteSignatureException": _HALF_SIGNED,
    "MissingAuthenticationToken": _HALF_SIGNED,
    "MissingAuthenticationTokenException": _HALF_SIGNED,
    "InvalidClientTokenId": _UNKNOWN,
    "UnrecognizedClientException": _UNKNOWN,
    "AuthFailure": _UNKNOWN,
    "Throttling": _SLOWER,
    "ThrottlingException": _SLOWER,
    "TooManyRequestsException": _SLOWER,
    "RequestLimitExceeded": _SLOWER,
    "InternalServerError": _TROUBLE,
    "InternalFailure": _TROUBLE,
    "ServiceUnavailable": _TROUBLE,
    "ServiceUnavailableException": _TROUBLE,
    "OptInRequired": "this AWS account is not signed up for Systems Manager, or not in this region",
    "DoesNotExistException": "AWS does not know that session: it is over",
    "TargetNotConnected": "the instance is not online in SSM: is it running, with the SSM agent, "
    "and with a way to the ssm endpoints?",
    "InvalidDocument": "AWS does not know the session document in this region, or the account has "
    "shared another one under its name",
    "InvalidTarget": "there is no such instance in this region and account",
    "InvalidInstanceId": "there is no such instance in this region and account",
}
_DENIED = frozenset(
    {"AccessDenied", "AccessDeniedException", "NotAuthorized", "UnauthorizedOperation"}
)
_LATER = frozenset({_SLOWER, _TROUBLE})

_SSO = (
    said.SSOTokenLoadError,
    said.UnauthorizedSSOTokenError,
    said.TokenRetrievalError,
    said.LoginRefreshRequired,
    said.LoginTokenLoadError,
)
_NOT_REACHED = (
    said.EndpointConnectionError,
    said.ConnectTimeoutError,
    said.ReadTimeoutError,
    said.ConnectionClosedError,
    said.ProxyConnectionError,
)


def told(error: BaseException, action: str) -> str:
    """
    One line about what went wrong.

    @param error: what botocore raised
    @param action: what was being done, as IAM calls it: C{ssm:StartSession}
    """
    if isinstance(error, ClientError):
        return _of_the_service(error, action)
    if isinstance(error, said.NoCredentialsError):
        return (
            "no AWS credentials were found: name a profile, set AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY, or give this machine a role"
        )
    if isinstance(error, said.PartialCredentialsError):
        return "the AWS credentials are incomplete: an access key and its secret go together"
    if isinstance(error, said.ProfileNotFound):
        return f"{error}: is it in ~/.aws/config of the user that runs proxyd?"
    if isinstance(error, _SSO):
        return "the SSO session has expired: run `aws sso login` for this profile"
    if isinstance(error, said.NoRegionError):
        return "no AWS region is known: name one"
    if isinstance(error, _NOT_REACHED):
        return f"AWS can't be reached for {action}: {error}"
    if isinstance(error, said.SSLError):
        return f"AWS can't be believed for {action}: {error}"
    if isinstance(error, said.CredentialRetrievalError):
        return f"the AWS credentials could not be had: {error}"
    return f"{action}: {str(error) or type(error).__name__}"


def is_passing(error: BaseException) -> bool:
    """Whether the same call may well succeed a little later."""
    if isinstance(error, ClientError):
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        return _BY_CODE.get(_code(error)) in _LATER or status >= 500
    return isinstance(error, _NOT_REACHED)


def _of_the_service(error: ClientError, action: str) -> str:
    code = _code(error)
    known = _BY_CODE.get(code)
    if known is not None:
        return known
    text = str(error.response.get("Error", {}).get("Message", "")).strip()
    if code in _DENIED:
        return f"AWS does not allow {action}: {text or code}"
    return f"{action}: {code}: {text}" if text else f"{action}: {code}"


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))
