"""
A network namespace at the end of a bad line: packets take their time, some get lost, and
now and then all do.

The kernel's netem would do it where it is built in. This one is a process of ours between
two TUN devices, so that it is there wherever root may have those; elsewhere tests skip.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import secrets
import shutil
import socket
import struct
import subprocess
import sys
import threading
from pathlib import Path
from types import TracebackType

from twisted.trial.unittest import SkipTest

TUNSETIFF = 0x400454CA
IFF_TUN_NO_PI = 0x1001
CLONE_NEWNET = 0x40000000
PACKETS = Path(__file__).with_name("packets.py")


class BadLine:
    """
    A namespace with one address, which this machine reaches by a bad line.

    @param delay: seconds that a packet takes, each way
    @param loss: of all packets, the share that is lost
    @param seed: of the chance by which they are
    @ivar here: this end's address
    @ivar there: the namespace's
    @ivar inside: the words before a command that is to run in it
    """

    def __init__(self, delay: float, loss: float, seed: int) -> None:
        # From the block for benchmarks between networks (RFC 2544), which nobody routes.
        net = f"198.{18 + secrets.randbelow(2)}.{secrets.randbelow(256)}"
        four = 4 * secrets.randbelow(64)
        self.here = f"{net}.{four + 1}"
        self.there = f"{net}.{four + 2}"
        word = secrets.token_hex(4)
        self._name = f"proxyd-{word}"
        self._near, self._far = f"pl{word}a", f"pl{word}b"
        self.inside = ["ip", "netns", "exec", self._name]
        self._words = [str(delay), str(loss), str(seed)]
        self._devices: list[int] = []
        self._carrier: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> BadLine:
        if shutil.which("ip") is None:
            raise SkipTest("ip is not on this machine")
        if os.getuid():
            raise SkipTest("only root makes network namespaces")
        try:
            self._make()
        except subprocess.CalledProcessError as problem:
            self._remove()
            raise SkipTest(f"no namespace with TUN devices: {problem.stderr.strip()}") from None
        except OSError as problem:
            self._remove()
            raise SkipTest(f"no TUN devices here: {problem}") from None
        return self

    def _make(self) -> None:
        self._devices = [_tun(self._near), _tun(self._far)]
        self._ip("netns", "add", self._name)
        self._ip("link", "set", self._far, "netns", self._name)
        self._ip("addr", "add", self.here, "peer", self.there, "dev", self._near)
        self._ip("link", "set", self._near, "up")
        far = ("-n", self._name)
        self._ip(*far, "addr", "add", self.there, "peer", self.here, "dev", self._far)
        self._ip(*far, "link", "set", self._far, "up")
        self._ip(*far, "link", "set", "lo", "up")
        self._carrier = subprocess.Popen(
            [sys.executable, str(PACKETS), *map(str, self._devices), *self._words],
            stdin=subprocess.PIPE,
            pass_fds=self._devices,
            start_new_session=True,
        )

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._remove()

    def pull(self) -> None:
        """From now on all packets get lost, and nobody is told."""
        self._say(b"0")

    def plug(self) -> None:
        """Packets are carried again."""
        self._say(b"1")

    def listener(self, host: str = "127.0.0.1") -> socket.socket:
        """A socket that listens within the namespace, on loopback or another address of it."""
        made: list[socket.socket] = []
        problems: list[OSError] = []

        def make() -> None:
            try:
                self._enter()
                made.append(socket.create_server((host, 0), backlog=200))
            except OSError as problem:
                problems.append(problem)

        # In a thread, for it goes there for good; a socket stays where it was made.
        thread = threading.Thread(target=make)
        thread.start()
        thread.join()
        if problems:
            raise problems[0]
        return made[0]

    def _enter(self) -> None:
        """
        Have the thread that calls this live in the namespace.

        @raise OSError: it may not
        """
        libc = ctypes.CDLL(None, use_errno=True)
        descriptor = os.open(f"/run/netns/{self._name}", os.O_RDONLY)
        try:
            if libc.setns(descriptor, CLONE_NEWNET):
                number = ctypes.get_errno()
                raise OSError(number, os.strerror(number))
        finally:
            os.close(descriptor)

    def _say(self, word: bytes) -> None:
        assert self._carrier is not None and self._carrier.stdin is not None
        self._carrier.stdin.write(word)
        self._carrier.stdin.flush()

    def _remove(self) -> None:
        if self._carrier is not None:
            self._carrier.communicate(timeout=20)
        for device in self._devices:
            os.close(device)
        self._devices = []
        subprocess.run(["ip", "netns", "del", self._name], check=False, capture_output=True)

    @staticmethod
    def _ip(*words: str) -> None:
        subprocess.run(["ip", *words], check=True, capture_output=True, text=True)


def _tun(name: str) -> int:
    """
    A device whose packets are read and written by a descriptor; gone when that is closed.

    @raise OSError: there are none here
    """
    device = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.ioctl(device, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TUN_NO_PI))
    except OSError:
        os.close(device)
        raise
    return device
