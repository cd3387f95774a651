"""
Who may log in, and whether a password is the right one.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Sequence

from proxyd.config.ways import Account
from proxyd.errors import StartError
from proxyd.rules.routes import NO_LIMITS, Limits


class Accounts:
    """
    The users of the listener; their passwords are kept hashed, by a key of this process.
    """

    def __init__(self, accounts: Sequence[Account]) -> None:
        """
        Read the passwords.

        @raise StartError: one can't be read, or is empty: everybody would know it
        """
        self._key = secrets.token_bytes(32)
        self._known = {
            account.user.encode("utf-8", "surrogateescape"): (
                account.user,
                self._hash(_password_of(account)),
            )
            for account in accounts
        }
        self._limits = {account.user: account.limits for account in accounts}
        self._nobody = ("", secrets.token_bytes(32))

    def __bool__(self) -> bool:
        """Whether a login is needed at all."""
        return bool(self._known)

    def verify(self, user: bytes, password: bytes) -> str | None:
        """
        The name of whoever logged in; None: the password is wrong, or there is no such user.

        It takes as long for a user that there is not.
        """
        name, expected = self._known.get(user, self._nobody)
        right = hmac.compare_digest(self._hash(password), expected)
        return name if right and user in self._known else None

    def limits(self, user: str) -> Limits:
        """What one user may have."""
        return self._limits.get(user, NO_LIMITS)

    def _hash(self, password: bytes) -> bytes:
        return hashlib.blake2b(password, key=self._key, digest_size=32).digest()


def _password_of(account: Account) -> bytes:
    password = account.password.read()
    if not password:
        place = account.password.place
        raise StartError(f"socks5.auth: the password of {account.user} is empty ({place})")
    return password.encode("utf-8", "surrogateescape")
