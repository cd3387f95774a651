"""Tests for L{proxyd.ctl.client}: where proxyd is found, and what is said when it is not."""

from __future__ import annotations

import os
import socket
import tempfile
from pathlib import Path

from twisted.internet import reactor
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SynchronousTestCase

from proxyd.config.model import Listener
from proxyd.ctl.client import CallFailed, found_socket, printable
from proxyd.ctl.main import DONE, FAILED, WRONG_USAGE
from proxyd.net.certificates import own_certificate
from proxyd.net.tls import server_context
from proxyd.web.service import Web
from tests.ctl.asked import AskedTestCase
from tests.web.scene import ADMIN


class UrlTests(AskedTestCase):
    """By C{--url}."""

    async def test_token(self) -> None:
        """The variable's token opens it; without one, or with another, one line says so."""
        self.variable("PROXYD_ADMIN_TOKEN", None)
        ran = await self.proxyctl("status", "--url", self.url)
        self.assertEqual((ran.code, ran.out), (FAILED, ""))
        self.assertEqual(ran.err, "proxyctl: --url needs the admin token: set PROXYD_ADMIN_TOKEN\n")
        os.environ["PROXYD_ADMIN_TOKEN"] = "another"
        ran = await self.proxyctl("status", "--url", self.url)
        self.assertEqual(ran.code, FAILED)
        self.assertIn("the token in PROXYD_ADMIN_TOKEN is not good there", ran.err)
        self.assertNotIn("another", ran.err)
        os.environ["PROXYD_ADMIN_TOKEN"] = ADMIN
        ran = await self.proxyctl("status", "--url", self.url)
        self.assertEqual((ran.code, ran.err), (DONE, ""))

    async def test_tls(self) -> None:
        """A certificate that is not believed is told; C{--ca} has it believed."""
        self.variable("PROXYD_ADMIN_TOKEN", ADMIN)
        folder = tempfile.TemporaryDirectory(prefix="pxd")
        self.addCleanup(folder.cleanup)
        certificate, key = own_certificate(folder.name, names=(), clock=reactor)
        place = Listener("127.0.0.1:0", "tcp", "127.0.0.1", 0)
        context = server_context(certificate, key, alpn=(b"http/1.1",))
        web = Web(reactor, self.api, [place], f"{folder.name}/s", context, lambda *_: None)
        web.open()
        web.startService()
        self.addCleanup(web.stopService)
        (url,) = web.urls()
        ran = await self.proxyctl("status", "--url", url)
        self.assertEqual(ran.code, FAILED)
        self.assertIn("--ca FILE names a CA", ran.err)
        ran = await self.proxyctl("status", "--url", url, "--ca", f"{folder.name}/ca.pem")
        self.assertEqual((ran.code, ran.err), (DONE, ""))

    async def test_no_token(self) -> None:
        """What can't be a token is told in a line, without it."""
        for text in ("two\nlines", "hush \u00e9"):
            self.variable("PROXYD_ADMIN_TOKEN", text)
            ran = await self.proxyctl("status", "--url", self.url)
            self.assertEqual((ran.code, ran.out), (FAILED, ""))
            self.assertIn("what PROXYD_ADMIN_TOKEN holds is no admin token", ran.err)
            self.assertNotIn(text[:4], ran.err)

    async def test_ca(self) -> None:
        """A file of certificates that is not there, or is none, is named."""
        self.variable("PROXYD_ADMIN_TOKEN", ADMIN)
        for path, what in (("/no/such/file", "No such file"), (__file__, "holds no PEM")):
            ran = await self.proxyctl("status", "--url", "https://127.0.0.1:1", "--ca", path)
            self.assertEqual(ran.code, FAILED)
            self.assertIn(f"--ca {path}: ", ran.err)
            self.assertIn(what, ran.err)

    async def test_not_there(self) -> None:
        """A port where nobody listens, and one where somebody else does."""
        self.variable("PROXYD_ADMIN_TOKEN", ADMIN)
        with socket.socket() as silent:
            silent.bind(("127.0.0.1", 0))
            url = f"http://127.0.0.1:{silent.getsockname()[1]}"
            ran = await self.proxyctl("status", "--url", url)
            self.assertEqual(ran.code, FAILED)
            self.assertEqual(ran.err, f"proxyctl: {url}: connection refused: is proxyd running?\n")
            silent.listen()

            def answer() -> None:
                client, _ = silent.accept()
                with client:
                    client.recv(65536)
                    client.sendall(b"SSH-2.0-OpenSSH\r\n")

            answering = deferToThread(answer)
            ran = await self.proxyctl("status", "--url", url)
            await answering
        self.assertEqual(ran.code, FAILED)
        self.assertIn("its answer is no HTTP", ran.err)

    async def test_usage(self) -> None:
        """What can't be meant is wrong usage."""
        for arguments in (
            ("status", "--url", "127.0.0.1:8080"),
            ("status", "--url", "ftp://x"),
            ("status", "--url", "http://x:99999"),
            ("status", "--url", "http://[::1"),
            ("status", "--url", "http://x/elsewhere"),
            ("status", "--url", "http://ann:hunter2@x"),
            ("status", "--url", self.url, "--socket", self.path),
            ("sessions", "kill"),
            ("sessions", "list", "--limit", "0"),
            ("databases", "remove", "x"),
            ("tokens",),
        ):
            ran = await self.proxyctl(*arguments)
            self.assertEqual((ran.code, ran.out), (WRONG_USAGE, ""), arguments)
            self.assertEqual(len(ran.err.splitlines()), 1, ran.err)
            self.assertNotIn("hunter2", ran.err)


class SocketTests(AskedTestCase):
    """By the UNIX socket."""

    async def test_configuration(self) -> None:
        """The configuration names it."""
        file = Path(self.mktemp())
        file.write_text(f"api: {{socket: '{self.path}'}}\n")
        ran = await self.proxyctl("status", "-c", str(file))
        self.assertEqual((ran.code, ran.err), (DONE, ""))

    async def test_runtime_directory(self) -> None:
        """systemd's variable names its folder."""
        self.variable("RUNTIME_DIRECTORY", os.path.dirname(self.path))
        ran = await self.proxyctl("status")
        self.assertEqual((ran.code, ran.err), (DONE, ""))

    async def test_gone(self) -> None:
        """A socket that nobody serves any more."""
        with socket.socket(socket.AF_UNIX) as left:
            path = self.path + ".left"
            left.bind(path)
        ran = await self.proxyctl("status", "--socket", path)
        self.assertEqual(ran.code, FAILED)
        self.assertEqual(ran.err, f"proxyctl: {path}: connection refused: is proxyd running?\n")


class FindingTests(SynchronousTestCase):
    """Where the socket is looked for."""

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory(prefix="pxd")
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def test_nowhere(self) -> None:
        """The line says where it was looked for, and what to do."""
        environment = {"STATE_DIRECTORY": str(self.folder), "HOME": str(self.folder)}
        error = self.assertRaises(CallFailed, found_socket, None, environment)
        self.assertIn(f"{self.folder}/api.sock", error.message)
        self.assertIn("/run/proxyd/api.sock", error.message)
        self.assertIn("`api:`", error.message)

    def test_state_directory(self) -> None:
        """The runtime directory first, then the state directory."""
        for name in ("run", "state"):
            (self.folder / name).mkdir()
        environment = {
            "HOME": str(self.folder),
            "RUNTIME_DIRECTORY": str(self.folder / "run"),
            "STATE_DIRECTORY": str(self.folder / "state"),
        }
        for name in ("state", "run"):
            path = str(self.folder / name / "api.sock")
            listening = socket.socket(socket.AF_UNIX)
            self.addCleanup(listening.close)
            listening.bind(path)
            self.assertEqual(found_socket(None, environment), path)

    def test_printable(self) -> None:
        """A terminal does nothing but show it."""
        self.assertEqual(printable("a\x1b[2Jb\nc\u202e"), "a\\x1b[2Jb\\nc\\u202e")
        self.assertEqual(printable("é 日本"), "é 日本")
