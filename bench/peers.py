"""
The peers: where pgbouncer is found, and how it is had where it isn't.

What the machine lacks is unpacked under C{.peers/} by the same script that the
tests use (C{tests/support/peers.sh}): nothing is installed, no service started.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from bench.programs import PEERS, REPOSITORY, Missing, find_program
from demo.ground import Account, reaches

FETCH = REPOSITORY / "tests" / "support" / "peers.sh"
FETCH_SECONDS = 300


@dataclass(frozen=True, slots=True)
class Peer:
    """
    A program to compare with.

    @param path: where it is
    @param version: what it calls itself
    @param libraries: a folder of shared libraries it needs; None: it finds its own
    """

    path: Path
    version: str
    libraries: Path | None = None

    @property
    def environment(self) -> dict[str, str]:
        """The variables to start it with."""
        variables = dict(os.environ)
        if self.libraries is not None:
            variables["LD_LIBRARY_PATH"] = str(self.libraries)
        return variables


def find_pgbouncer() -> Peer:
    """
    PgBouncer: the system's, else the one unpacked under C{.peers/}, now if need be.

    @raise Missing: there is none and none can be had
    """
    try:
        path = find_program("pgbouncer")
    except Missing:
        _fetch()
        try:
            path = find_program("pgbouncer")
        except Missing:
            raise Missing("pgbouncer (and apt, as root, could not fetch it)") from None
    try:
        answer = subprocess.run(
            [path, "--version"], capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise Missing(f"pgbouncer ({path} does not run: {type(error).__name__})") from error
    version = re.search(r"\d+(\.\d+)+", answer.stdout)
    return Peer(path, version.group() if version else "?")


def _fetch() -> None:
    """Have the script unpack what is missing; it says so itself when it can't."""
    try:
        subprocess.run(
            ["/bin/sh", FETCH, PEERS],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=FETCH_SECONDS,
            check=True,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise Missing(f"pgbouncer (it can't be unpacked: {type(error).__name__})") from error


def reachable(peer: Peer, account: Account, folder: Path) -> Peer:
    """
    The peer where an account can run it: one in a checkout that is closed to it is copied.

    @param folder: where a copy goes, into a folder C{peer}
    @raise Missing: the account can't reach it, and it can't be copied
    """
    if not account.is_other or reaches(account, peer.path.parent):
        return peer
    unpacked = next(PEERS.glob("root/**/sbin/pgbouncer"), None)
    if unpacked is None:
        raise Missing(f"pgbouncer (user {account.name} can't reach {peer.path})")
    copies = folder / "peer"
    if not copies.exists():
        copies.mkdir(mode=0o755)
        for source in (unpacked, *PEERS.glob("root/**/*.so.*")):
            shutil.copy(source, copies / source.name)
    return Peer(copies / unpacked.name, peer.version, copies)
