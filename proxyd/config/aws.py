"""
What a connection says of AWS: C{aws_iam_auth} and C{aws_secret}.

Whether a profile exists and a region is right is not looked at here, but when
the daemon starts and by C{proxyctl doctor}.
"""

from __future__ import annotations

import re
from dataclasses import replace

from proxyd.config.model import AwsIam, AwsSecret, Dsn
from proxyd.config.section import Section
from proxyd.config.values import BadValue

TOKEN_LIFE = 900.0
"""Seconds for which an IAM token is good (RDS user guide, "IAM database authentication")."""

_REGION = re.compile(r"[a-z]{2,}(-[a-z]+)+-[0-9]{1,2}")
_NAME = r"([a-z]{2,}(?:-[a-z]+)+-[0-9]{1,2})"
# In China newer endpoints have it behind the rds.
_RDS_HOSTS = (
    re.compile(rf"\.{_NAME}\.rds\.amazonaws\.com(?:\.cn)?$"),
    re.compile(rf"\.[a-z0-9-]+\.rds\.{_NAME}\.amazonaws\.com\.cn$"),
)
_SECRET_ARN = re.compile(
    r"arn:(?P<partition>aws[a-z-]*):secretsmanager:(?P<region>[a-z0-9-]+):[0-9]{12}:secret:\S+"
)


def read_iam(section: Section, usual_timeout: float) -> AwsIam | None:
    """
    C{aws_iam_auth} of a connection; None where it is absent or not enabled.

    @param usual_timeout: of C{connection_timeout}, in seconds
    """
    iam = section.section("aws_iam_auth")
    if iam is None:
        return None
    enabled = iam.flag("enabled")
    if not iam.has("enabled"):
        iam.wrong("", "does not say enabled: true or false")
    read = AwsIam(
        region=iam.value("region", _region),
        user=iam.text("db_user"),
        profile=iam.text("profile"),
        connection_timeout=iam.duration("connection_timeout", usual_timeout),
    )
    iam.close()
    return read if enabled is True else None


def read_aws_secret(section: Section) -> AwsSecret | None:
    """C{aws_secret} of a connection; None where it is absent or can't be used."""
    secret = section.section("aws_secret")
    if secret is None:
        return None
    arn = secret.value("arn", _secret_arn)
    if arn is None and not secret.has("arn"):
        secret.wrong("", "has no arn: arn: arn:aws:secretsmanager:REGION:ACCOUNT:secret:NAME")
    region, profile = secret.value("region", _region), secret.text("profile")
    secret.close()
    if arn is None:
        return None
    match = _SECRET_ARN.fullmatch(arn)
    assert match is not None
    inside = match["region"]
    if region is not None and region != inside:
        secret.wrong("region", f"{region} contradicts the arn, which is in {inside}")
    return AwsSecret(arn, inside, profile)


def with_tls(dsn: Dsn, section: Section) -> Dsn:
    """
    The DSN of a connection with IAM, whose token is never sent without TLS.

    Warns where the server need not prove itself before it is given the token.
    """
    if dsn.sslmode == "disable" or any(host.is_unix for host in dsn.hosts):
        section.wrong(
            "dsn", "aws_iam_auth sends its token inside TLS only: say sslmode=verify-full"
        )
        return dsn
    mode = "require" if dsn.sslmode in ("allow", "prefer") else dsn.sslmode
    if mode != "verify-full":
        section.warn(
            "dsn",
            f"sslmode={mode} with aws_iam_auth: whoever answers at this address "
            "is given the token; sslmode=verify-full has the server prove itself first",
        )
    return replace(dsn, sslmode=mode)


def region_of(host: str) -> str | None:
    """The region in the name of an RDS endpoint; None: it is no such name."""
    found = (form.search(host.lower()) for form in _RDS_HOSTS)
    return next((match[1] for match in found if match is not None), None)


def _region(text: str) -> str:
    if _REGION.fullmatch(text) is None:
        raise BadValue(f"{text!r} is no AWS region, such as us-east-1")
    return text


def _secret_arn(text: str) -> str:
    if _SECRET_ARN.fullmatch(text) is None:
        raise BadValue("must be arn:aws:secretsmanager:REGION:ACCOUNT:secret:NAME")
    return text
