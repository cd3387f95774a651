"""
A real OpenSSH server on loopback, and the keys that it and its clients have.

Run as an ordinary user (C{nobody}, where the tests run as root), so that it
needs no user of its own and no C{/run/sshd}; forwarding is all that it does.
"""

from __future__ import annotations

import atexit
import functools
import getpass
import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from twisted.trial.unittest import SkipTest

from tests.support.deadlines import wait_until

START_SECONDS = 90.0
NOBODY = "nobody"
LISTENING = "Server listening on"
TAKEN = "Address already in use"
PORT_TRIES = 5


def program(name: str) -> str:
    """
    The path of one of OpenSSH's programs.

    @raise SkipTest: it is not on this machine
    """
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if found is None:
        raise SkipTest(f"{name} (OpenSSH) is not on this machine")
    return found


def account() -> str:
    """The user as whom the server runs, and as whom its clients log in."""
    return NOBODY if os.getuid() == 0 else getpass.getuser()


def make_key(path: Path, *words: str, passphrase: str = "") -> Path:
    """
    Make a key pair.

    @param words: more of ssh-keygen's words; C{-t ed25519} without any
    @return: the private key's path
    """
    kind = words or ("-t", "ed25519")
    command = [program("ssh-keygen"), "-q", "-N", passphrase, "-C", "test", "-f", str(path), *kind]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    return path


@functools.cache
def shared_keys() -> Path:
    """A folder with keys made once: C{client} and the servers' C{host_TYPE}."""
    folder = Path(tempfile.mkdtemp(prefix="proxyd-keys-"))
    make_key(folder / "client")
    for kind in ("ed25519", "ecdsa"):
        make_key(folder / f"host_{kind}", "-t", kind)
    make_key(folder / "host_rsa", "-t", "rsa", "-b", "2048")

    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def own_port() -> int:
    """
    A free port that stays free while its server is down.

    It is below those that the system gives to clients (ip(7), ip_local_port_range).
    """
    chance = random.SystemRandom()
    while True:
        port = chance.randrange(20000, 32000)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


class Sshd:
    """
    One server, stopped by the C{with} statement or L{stop}.

    @param options: lines of sshd_config, which come first and so win
    @param keys: public keys that may log in
    @param host_keys: types of the host keys that it shows
    @param host: the address that it listens on
    @param starter: words before its command, which then see to the user, too
    """

    def __init__(
        self,
        *options: str,
        keys: Sequence[Path] = (),
        host_keys: Sequence[str] = ("ed25519", "ecdsa", "rsa"),
        host: str = "127.0.0.1",
        starter: Sequence[str] = (),
    ) -> None:
        self.host = host
        self.port = 0
        self.user = account()
        self.folder = Path(tempfile.mkdtemp(prefix="proxyd-sshd-"))
        self._options = options
        self._keys = list(keys) or [shared_keys() / "client.pub"]
        self._host_keys = host_keys
        self._starter = list(starter)
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Sshd:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()
        self.remove()

    @property
    def client_key(self) -> Path:
        """A private key that may log in, unless others were given."""
        return shared_keys() / "client"

    def start(self) -> None:
        """
        Start, on the port of the last time, and wait until it listens.

        @raise AssertionError: it does not; with its log
        """
        again = self.port
        for left in reversed(range(PORT_TRIES)):
            self.port = again or own_port()
            try:
                self._start()
            except AssertionError as problem:
                if again or not left or TAKEN not in str(problem):
                    raise
            else:
                return

    def _start(self) -> None:
        binary = program("sshd")
        config = self._write()
        user = self._own() if os.getuid() == 0 else None
        seen = self.log_text().count(LISTENING)
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [*self._starter, binary, "-D", "-e", "-f", str(config)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                user=None if self._starter else user,
                extra_groups=[] if user is not None and not self._starter else None,
            )
        process = self._process

        def listens() -> bool:
            if process.poll() is not None:
                raise AssertionError(f"sshd ended:\n{self.log_text()}")
            return self.log_text().count(LISTENING) > seen

        wait_until(listens, START_SECONDS, "sshd to listen")

    def _own(self) -> int:
        """Give all that it needs to the user as whom it runs."""
        who = pwd.getpwnam(NOBODY)
        for path in (self.folder, *self.folder.iterdir()):
            os.chown(path, who.pw_uid, who.pw_gid)
        return who.pw_uid

    def _write(self) -> Path:
        lines = list(self._options)
        for kind in self._host_keys:
            copy = self.folder / f"host_{kind}"
            shutil.copy(shared_keys() / copy.name, copy)
            copy.chmod(0o600)
            lines.append(f"HostKey {copy}")
        authorized = self.folder / "authorized"
        authorized.write_text("".join(key.read_text() for key in self._keys))
        lines += [
            f"ListenAddress {self.host}:{self.port}",
            f"AuthorizedKeysFile {authorized}",
            f"PidFile {self.folder / 'pid'}",
            "StrictModes no",
            "UsePAM yes",  # else it asks for the user's entry in shadow(5), which it can't read
            "PasswordAuthentication no",
            "KbdInteractiveAuthentication no",
            "MaxStartups 200",
            "LogLevel VERBOSE",
            "UseDNS no",
        ]
        config = self.folder / "config"
        config.write_text("\n".join(lines) + "\n")
        return config

    def host_key(self, kind: str = "ed25519") -> str:
        """A host key's public half: its type and its text."""
        return " ".join((shared_keys() / f"host_{kind}.pub").read_text().split()[:2])

    def log_text(self) -> str:
        """All it wrote so far."""
        file = self.folder / "log"
        return file.read_text(errors="replace") if file.exists() else ""

    def pids(self) -> list[int]:
        """The server, and the processes that serve one connection each."""
        assert self._process is not None
        found = [self._process.pid]
        for parent in found:
            children = Path(f"/proc/{parent}/task/{parent}/children")
            try:
                found += [int(pid) for pid in children.read_text().split()]
            except OSError:
                pass  # ended meanwhile
        return found

    def signal(self, number: signal.Signals) -> None:
        """Send the server and all that serve its connections a signal."""
        told: set[int] = set()
        # Just after a login one more is born, for whom its parent may have been too quick.
        while fresh := set(self.pids()) - told:
            told |= fresh
            for pid in fresh:
                try:
                    os.kill(pid, number)
                except ProcessLookupError:
                    pass  # ended meanwhile

    def stop(self) -> None:
        """End it and all its connections at once."""
        process = self._process
        if process is None:
            return
        if process.poll() is None:
            self.signal(signal.SIGSTOP)  # so that nobody is born meanwhile
            self.signal(signal.SIGKILL)
        process.wait()
        self._process = None

    def remove(self) -> None:
        """Remove its folder."""
        shutil.rmtree(self.folder, ignore_errors=True)
