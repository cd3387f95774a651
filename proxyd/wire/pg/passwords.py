"""
The answer to AuthenticationMD5Password.

Source: PostgreSQL, "Frontend/Backend Protocol", chapter "Message Flow",
section "Start-up".
"""

from __future__ import annotations

import hashlib


def md5_password(user: str, password: bytes, salt: bytes) -> bytes:
    """
    The hashed password as the server wants it: C{md5} and 32 hexadecimal digits.

    @param salt: the four bytes of the server's request
    """
    stored = _md5(password + user.encode("utf-8", "surrogateescape"))
    return b"md5" + _md5(stored + salt)


def _md5(data: bytes) -> bytes:
    """MD5 as text; said to be no security, so that a FIPS build has it too."""
    return hashlib.md5(data, usedforsecurity=False).hexdigest().encode()
