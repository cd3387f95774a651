"""
Secrets that proxyd makes itself at its first start, and keeps in the state directory.
"""

from __future__ import annotations

import os
import secrets
import stat

from proxyd.errors import StartError

_BYTES = 32
_LEAST = 32


def kept_secret(directory: str, name: str) -> bytes:
    """
    A secret of 256 random bits: the one in this file, or a new one where there is none.

    Two processes that start at once get the same one. A file that is there is
    never overwritten.

    @param directory: made where it is not there
    @return: the file's text, without its newline
    @raise StartError: it can't be read or made, or is no secret
    """
    path = os.path.join(directory, name)
    try:
        os.makedirs(directory, mode=0o700, exist_ok=True)
        if not os.path.exists(path):
            _make(path)
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        with open(descriptor, "rb") as file:
            if stat.S_IMODE(os.fstat(descriptor).st_mode) & 0o077:
                raise StartError(f"secret file {path}: others may read it: chmod 600 {path}")
            secret = file.read(4096).strip()
    except OSError as error:
        raise StartError(f"secret file {path}: {error.strerror}") from None
    if len(secret) < _LEAST:
        raise StartError(
            f"secret file {path}: it is cut short: put back a copy, or remove it to have a new one "
            "made (what the old one signed or encrypted is then lost)"
        )
    return secret


def _make(path: str) -> None:
    """Make the file whole or not at all, and on disk before it is used."""
    temporary = f"{path}.{secrets.token_hex(4)}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    descriptor = os.open(temporary, flags, 0o600)
    try:
        with open(descriptor, "wb") as file:
            file.write(secrets.token_hex(_BYTES).encode() + b"\n")
            file.flush()
            os.fsync(descriptor)
        try:
            os.link(temporary, path)
        except FileExistsError:
            pass  # somebody else was first: theirs is used
    finally:
        os.unlink(temporary)
    folder = os.open(os.path.dirname(path), os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
