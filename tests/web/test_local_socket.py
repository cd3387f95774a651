"""Tests for L{proxyd.web.local_socket}: whose socket it is, at every moment."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from proxyd.errors import StartError
from proxyd.web.local_socket import is_ours, open_socket, peer_user
from tests.web.scene import ApiTestCase


class OpenTests(SynchronousTestCase):
    """The socket's place in the file system."""

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory(prefix="pxd")
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.path = self.folder / "run" / "api.sock"

    def opened(self) -> socket.socket:
        """A socket that is closed at the end of the test."""
        listening = open_socket(str(self.path))
        self.addCleanup(listening.close)
        return listening

    def refused(self) -> str:
        """Why it can't be opened."""
        return str(self.assertRaises(StartError, open_socket, str(self.path)))

    def test_modes(self) -> None:
        """Its folder is made for us alone, and so is it, whatever the umask says."""
        before = os.umask(0)
        self.addCleanup(os.umask, before)
        self.opened()
        self.assertEqual(stat.S_IMODE(self.path.stat().st_mode), 0o600)
        self.assertEqual(stat.S_IMODE(self.path.parent.stat().st_mode), 0o700)
        self.assertEqual(os.umask(0), 0, "the umask is as it was")

    def test_never_open_to_others(self) -> None:
        """At the moment it is there, it is closed to others already."""
        seen = []

        def watch(event: str, arguments: object) -> None:
            # Raised by the interpreter right before what it names.
            if event == "socket.bind" and watching:
                now = os.umask(0)
                os.umask(now)
                seen.append(now)

        watching = [True]
        sys.addaudithook(watch)
        self.addCleanup(watching.clear)
        self.opened()
        self.assertEqual(seen, [0o177])

    def test_left_behind(self) -> None:
        """What a proxyd that was killed left there is replaced."""
        self.opened().close()
        self.assertTrue(self.path.exists())
        self.opened()
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(self.path))

    def test_alive(self) -> None:
        """One that is served by another process stays, and is named in the refusal."""
        first = self.opened()
        self.assertIn("another proxyd listens there", self.refused())
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(self.path))
            first.accept()[0].close()

    def test_something_else(self) -> None:
        """A file that is no socket is left alone; so is what a link points to."""
        self.path.parent.mkdir()
        self.path.write_text("precious")
        self.assertIn("no socket", self.refused())
        self.assertEqual(self.path.read_text(), "precious")
        self.path.unlink()
        target = self.folder / "target"
        target.write_text("precious")
        self.path.symlink_to(target)
        self.assertIn("no socket", self.refused())
        self.assertEqual(target.read_text(), "precious")

    def test_no_folder(self) -> None:
        """A folder that can't be made: one line."""
        (self.folder / "run").write_text("")
        self.assertIn(str(self.path), self.refused())

    def test_too_long(self) -> None:
        """A path that no socket can have, as of a deep state directory, is told with what to do."""
        error = self.assertRaises(StartError, open_socket, f"/{'x' * 120}/api.sock")
        self.assertIn("name a shorter one", str(error))

    def test_two_at_once(self) -> None:
        """Of many processes that start at the same moment one gets it, and can be reached."""
        self.opened().close()  # a stale one, that all of them find
        program = (
            "import sys, proxyd.web.local_socket as it, proxyd.errors as e\n"
            "sys.stdin.read(1)\n"
            "try:\n    s = it.open_socket(sys.argv[1])\n"
            "except e.StartError:\n    print('no', flush=True)\n"
            "else:\n    print('yes', flush=True)\n"
            "sys.stdin.read()\n"
        )
        started = [
            subprocess.Popen(
                [sys.executable, "-c", program, str(self.path)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for _ in range(4)
        ]
        for process in started:
            assert process.stdin is not None
            process.stdin.write("x")
            process.stdin.flush()
        answers = [process.stdout.readline().strip() for process in started if process.stdout]
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(self.path))
        for process in started:
            process.communicate()
        self.assertEqual(sorted(answers), ["no", "no", "no", "yes"])


class PeerTests(SynchronousTestCase):
    """Who is at the other end."""

    def test_peer(self) -> None:
        """The kernel says who it is."""
        ours, theirs = socket.socketpair()
        self.addCleanup(ours.close)
        self.addCleanup(theirs.close)
        self.assertEqual(peer_user(ours), os.geteuid())

    def test_who_may(self) -> None:
        """Root and our own user, and nobody else."""
        self.assertTrue(is_ours(0))
        self.assertTrue(is_ours(os.geteuid()))
        self.assertFalse(is_ours(os.geteuid() + 1))


class DoorTests(ApiTestCase):
    """The socket as it is served."""

    admitted = True

    def lets_in(self, user: int) -> bool:
        """Whoever the test says."""
        return self.admitted

    async def test_served(self) -> None:
        """No token is needed, and the log knows which user it was."""
        heard = await self.ask("DELETE", "/api/sessions/7", token=None, local=True)
        self.assertEqual(heard.status, 200)
        self.assertIn(f"by unix (user {os.geteuid()})", self.lines("audit")[0])

    async def test_other_user(self) -> None:
        """Another user's process is closed without a word, and the log says so."""
        self.admitted = False
        with socket.socket(socket.AF_UNIX) as client:
            client.setblocking(False)
            client.connect(self.path)
            await self.until(lambda: self.lines("may not use the API's socket"))
            self.assertEqual(client.recv(1), b"")
        self.assertEqual(self.web.clients(), 0)

    async def test_stopped(self) -> None:
        """The file goes with the service."""
        self.assertTrue(os.path.exists(self.path))
        await self.web.stopService()
        self.assertFalse(os.path.exists(self.path))

    async def test_not_ours_any_more(self) -> None:
        """A socket that somebody put in its place is left alone."""
        os.unlink(self.path)
        other = open_socket(self.path)
        self.addCleanup(other.close)
        await self.web.stopService()
        self.assertTrue(os.path.exists(self.path))
