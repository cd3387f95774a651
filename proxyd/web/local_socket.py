"""
The UNIX socket of the API: whoever may open it may do all, so only one user may.

Its mode is 0600 from the first moment, and the peer's user is asked of the
kernel besides (SO_PEERCRED, unix(7)): proxyd's own, or root.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import stat
import struct
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from twisted.internet.address import UNIXAddress
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IListeningPort
from twisted.internet.protocol import Factory
from twisted.logger import Logger
from zope.interface import implementer

from proxyd.config.values import SOCKET_PATH_LIMIT
from proxyd.errors import StartError
from proxyd.net.listening import Acceptor
from proxyd.web.http import ApiChannel, ApiSite

_log = Logger()

_BACKLOG = 128
_LIVE = (errno.EAGAIN, errno.EACCES, errno.EPERM)


def open_socket(path: str) -> socket.socket:
    """
    A listening socket at a path, which is ours alone.

    What a proxyd that is gone left there is replaced; one that is alive is not.

    @param path: a whole path; its folder is made with mode 0700 if it is not there
    @raise StartError: somebody listens there, something else than a socket is
        there, or it can't be made
    """
    if len(os.fsencode(path)) > SOCKET_PATH_LIMIT:
        raise StartError(
            f"api.socket {path}: the path of a socket has at most {SOCKET_PATH_LIMIT} bytes: "
            "name a shorter one"
        )
    folder = os.path.dirname(path)
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)
        lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            # Two that start at once must not both find that nobody is there.
            fcntl.flock(lock, fcntl.LOCK_EX)
            _clear(path)
            return _bound(path)
        finally:
            os.close(lock)
    except OSError as error:
        raise StartError(f"api.socket {path}: {error.strerror}") from None


def _clear(path: str) -> None:
    """Take away a socket that nobody listens at."""
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise StartError(f"api.socket {path}: there is something that is no socket: remove it")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        answer = probe.connect_ex(path)
    if answer == 0 or answer in _LIVE:
        raise StartError(f"api.socket {path}: another proxyd listens there: stop it, or change it")
    os.unlink(path)


def _bound(path: str) -> socket.socket:
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    # Of the whole process, for a moment in which nothing else runs in this thread; a file that
    # another thread makes just now is closed to others, too.
    before = os.umask(0o177)
    try:
        listening.bind(path)
        listening.listen(_BACKLOG)
    except OSError:
        listening.close()
        raise
    finally:
        os.umask(before)
    return listening


class LocalDoor:
    """
    Accepts at the UNIX socket, and lets the right users in.

    @ivar path: where it is
    """

    def __init__(
        self, reactor: Any, path: str, site: ApiSite, allowed: Callable[[int], bool]
    ) -> None:
        """
        @param allowed: whether the user of this id may come in
        @raise StartError: it can't be opened
        """
        self.path = path
        self._reactor = reactor
        self._site = site
        self._allowed = allowed
        self._acceptor = Acceptor(reactor, reactor, _Bound(open_socket(path), path), self._accepted)

    def stop(self) -> Deferred[None]:
        """Let no more clients in; the file goes, if it is still ours."""
        return self._acceptor.stop()

    def _accepted(self, sock: socket.socket, address: object) -> None:
        try:
            user = peer_user(sock)
            if not self._allowed(user):
                _log.warn("a process of user {user} may not use the API's socket", user=user)
                return
            # It has a descriptor of its own for it.
            self._reactor.adoptStreamConnection(
                sock.fileno(), socket.AF_UNIX, _One(self._site, user)
            )
        finally:
            sock.close()


@implementer(IListeningPort)
class _Bound:
    """A listening socket, as the acceptor wants to have one."""

    def __init__(self, listening: socket.socket, path: str) -> None:
        self._socket = listening
        self._path = path
        self._identity = _identity(path)

    def fileno(self) -> int:
        """The descriptor."""
        return self._socket.fileno()

    def stopReading(self) -> None:
        """Nobody reads it but the acceptor."""

    def startListening(self) -> None:
        """It listens already."""

    def getHost(self) -> IAddress:
        """Where it is."""
        return UNIXAddress(os.fsencode(self._path))

    def stopListening(self) -> None:
        """Close it, and take its file away, unless that is somebody else's by now."""
        self._socket.close()
        with suppress(OSError):
            if _identity(self._path) == self._identity:
                os.unlink(self._path)


def _identity(path: str) -> tuple[int, int]:
    found = os.lstat(path)
    return (found.st_dev, found.st_ino)


class _One(Factory):
    """Makes the channel of one client whose user is known."""

    noisy = False

    def __init__(self, site: ApiSite, user: int) -> None:
        self._site = site
        self._user = user

    def buildProtocol(self, addr: IAddress | None) -> ApiChannel:
        """The channel."""
        channel = self._site.buildProtocol(addr)
        channel.peer_user = self._user
        return channel


def peer_user(sock: socket.socket) -> int:
    """The user id of the process at the other end, as it was when it connected."""
    size = struct.calcsize("3i")
    _pid, user, _group = struct.unpack(
        "3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
    )
    return int(user)


def is_ours(user: int) -> bool:
    """Whether a user may do all: root, or the user that proxyd runs as."""
    return user in (0, os.geteuid())
