"""
A server's password out of AWS Secrets Manager.

It is read once and kept. When the server refuses it, it is read again: so a
rotation needs no restart (Secrets Manager user guide, "Rotation").
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger
from zope.interface import implementer

from proxyd.dial.aws.account import AwsAccount, AwsSession
from proxyd.errors import DialError, DialFailure
from proxyd.interfaces import ITokenSource
from proxyd.target import Finding

ACTION = "secretsmanager:GetSecretValue"


@implementer(ITokenSource)
class StoredPassword:
    """
    The password that a secret holds: its text, or its key C{password} if it is JSON.

    @ivar made: how often it was handed out
    """

    _log = Logger()
    clear_text = False

    def __init__(self, account: AwsAccount, arn: str, region: str, seconds: float) -> None:
        """@param seconds: that reading it may take"""
        self.made = 0
        self._account = account
        self._arn = arn
        self._region = region
        self._seconds = seconds
        self._kept: bytes | None = None

    def __repr__(self) -> str:
        return f"<StoredPassword {self._arn}>"

    def token_for(self, host: str, port: int) -> Deferred[bytes]:
        """See L{ITokenSource}."""
        reading = self._read() if self._kept is None else succeed(self._kept)
        return reading.addCallback(self._handed_out)

    def refused(self) -> Deferred[bool]:
        """See L{ITokenSource}: the password may have been rotated."""
        before = self._kept

        def compare(now: bytes) -> bool:
            if now != before:
                self._log.info("secret {arn} has changed: the new one is used", arn=self._arn)
            return now != before

        return self._read().addCallback(compare).addErrback(lambda _: False)

    def examine(self) -> Deferred[Sequence[Finding]]:
        """See L{ITokenSource}: whether the secret can be read."""

        def good(_: bytes) -> Sequence[Finding]:
            return [Finding("AWS secret", True, f"{self._arn} can be read")]

        def bad(failure: object) -> Sequence[Finding]:
            said = str(getattr(failure, "value", failure))
            remedy = "Allow secretsmanager:GetSecretValue on it to this machine's role."
            return [Finding("AWS secret", False, said, remedy)]

        return self._read().addCallbacks(good, bad)

    def _handed_out(self, password: bytes) -> bytes:
        self.made += 1
        return password

    def _read(self) -> Deferred[bytes]:
        def fetch(session: AwsSession) -> bytes:
            client = session.client("secretsmanager", self._region)
            return _password_in(client.get_secret_value(SecretId=self._arn), self._arn)

        def keep(password: bytes) -> bytes:
            self._kept = password
            return password

        return self._account.run(fetch, ACTION, self._seconds).addCallback(keep)


def _password_in(answer: dict[str, object], arn: str) -> bytes:
    """The password in what Secrets Manager answered; a text of its own never shows in an error."""
    text = answer.get("SecretString")
    if not isinstance(text, str) or not text:
        raise DialError(DialFailure.CREDENTIALS, f"{arn} holds no text")
    if text.lstrip().startswith("{"):
        try:
            text = json.loads(text).get("password")
        except ValueError:
            text = None
        if not isinstance(text, str) or not text:
            raise DialError(DialFailure.CREDENTIALS, f"{arn} is JSON without a password") from None
    return text.encode("utf-8", "surrogateescape")
