"""
Who a server of ours runs as, and folders that this user can reach.

PostgreSQL refuses to run as root, so that for root it runs as another user,
to whom the checkout may be closed (a checkout in root's home is).
"""

from __future__ import annotations

import os
import pwd
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

NOT_ROOT = ("postgres", "nobody")
ANSWER_SECONDS = 20.0


class Identity(TypedDict, total=False):
    """The arguments of C{subprocess} that make a child another user's."""

    user: int
    group: int
    extra_groups: list[int]


@dataclass(frozen=True, slots=True)
class Account:
    """
    The user a server runs as.

    @param is_other: whether this is another user than our own
    """

    name: str
    uid: int
    gid: int
    is_other: bool

    def identity(self) -> Identity:
        """What C{subprocess} is told so that a child runs as this user."""
        if not self.is_other:
            return {}
        return {"user": self.uid, "group": self.gid, "extra_groups": []}

    def own(self, folder: Path) -> None:
        """Give a folder that we just made to this user."""
        if self.is_other:
            os.chown(folder, self.uid, self.gid)


def account_for(uid: int) -> Account:
    """
    The user a server runs as, when we are this one: ourselves, unless we are root.

    @raise LookupError: we are root, and there is no other user at all
    """
    if uid:
        return Account(str(uid), uid, os.getgid(), False)
    for name in NOT_ROOT:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(name, entry.pw_uid, entry.pw_gid, True)
    raise LookupError(
        f"PostgreSQL does not run as root, and there is no user {' or '.join(NOT_ROOT)}"
    )


def reaches(account: Account, folder: Path) -> bool:
    """Whether the user can enter this folder: tried, as modes alone don't tell it."""
    done = subprocess.run(
        ["/bin/sh", "-c", 'cd -- "$1"', "sh", str(folder)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd="/",
        timeout=ANSWER_SECONDS,
        check=False,
        **account.identity(),
    )
    return done.returncode == 0


def make_temporary(prefix: str, account: Account) -> Path:
    """
    A new folder that the user can reach, below the usual place or else /var/tmp.

    @raise OSError: there is none
    """
    tried = []
    for parent in (tempfile.gettempdir(), "/var/tmp", "/tmp"):
        if parent in tried or not os.path.isdir(parent):
            continue
        tried.append(parent)
        folder = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
        if account.is_other:
            folder.chmod(0o711)
        if reaches(account, folder):
            return folder
        folder.rmdir()
    raise OSError(f"user {account.name} can't reach a folder below {' or '.join(tried)}")


def reachable_folder(folder: Path, account: Account) -> Path:
    """
    This folder, or one in its stead that the user can reach.

    The stead is made once below /var/tmp and remembered in the file
    C{FOLDER.elsewhere}, so that the next call gives it again.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if account.is_other:
        folder.chmod(0o711)
    if reaches(account, folder):
        return folder
    memory = folder.with_name(folder.name + ".elsewhere")
    if memory.is_file():
        elsewhere = Path(memory.read_text().rstrip("\n"))
        # Whoever may write to /var/tmp must not hand us a folder of theirs.
        if elsewhere.is_dir() and not elsewhere.is_symlink() and _is_ours(elsewhere):
            return elsewhere
    elsewhere = Path(tempfile.mkdtemp(prefix="proxyd-demo-", dir="/var/tmp"))
    elsewhere.chmod(0o711)
    memory.write_text(f"{elsewhere}\n")
    return elsewhere


def _is_ours(folder: Path) -> bool:
    return folder.stat().st_uid == os.getuid()
