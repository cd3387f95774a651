"""
Real clients through a whole proxyd, and by a real OpenSSH server: curl, PySocks,
python-socks, proxychains4, ssh with nc. A browser is in C{test_browser.py}, psql in
C{test_ssh.py}.
"""

from __future__ import annotations

import http.server
import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path

import socks
from python_socks.sync import Proxy
from twisted.trial.unittest import SkipTest

from tests.support.blackbox import BlackBoxTestCase, configuration, open_service
from tests.support.daemon import PORT, REPOSITORY, Daemon, run_daemon
from tests.support.database import CLIENT, DATABASE
from tests.support.programs import run
from tests.support.sshd import Sshd, account, shared_keys
from tests.support.wireclient import ServerError

SEVERAL = """\
listen: "127.0.0.1:{port}"

auth:  # Optional SOCKS5 authentication
  user: admin
  pass: secret

upstreams:
  dev:
    ssh:
      user: {user}
      key: {key}
    hosts: ["127.0.0.1:{first}", "127.0.0.1:{second}"]

  prod:
    ssh:
      user: {user}
      key: {key}
    hosts: ["127.0.0.1:{second}"]

routes:
  - match: "127.0.0.0/8"
    upstream: dev
  - match: "*.prod.internal"
    upstream: prod

default: dev
"""
"""The first proxies' example, with hosts in place of instances."""

ONE = """\
listen: "127.0.0.1:{port}"
ssh:
  user: {user}
  key: {key}
hosts: ["127.0.0.1:{first}"]
routes:
  - {{match: 127.0.0.0/8, upstream: default}}
"""
"""The same for one upstream."""

PAGE = b"a page behind the host\n"


class Pages(http.server.BaseHTTPRequestHandler):
    """One page, whatever is asked for."""

    page = PAGE

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.page)))
        self.end_headers()
        self.wfile.write(self.page)

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing."""


class SocksTestCase(BlackBoxTestCase):
    """A page, two SSH servers, and a proxyd before them."""

    deadline = 120.0
    pages: type[Pages] = Pages

    def setUp(self) -> None:
        super().setUp()
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), self.pages)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.addCleanup(self.server.server_close)
        self.addCleanup(self.server.shutdown)
        self.page = self.server.server_address[1]
        self.first, self.second = self.sshd(), self.sshd()

    def sshd(self) -> Sshd:
        """A running SSH server."""
        sshd = Sshd()
        self.addCleanup(sshd.remove)
        self.addCleanup(sshd.stop)
        sshd.start()
        return sshd

    def started(self, text: str, **words: object) -> Daemon:
        """A proxyd with this configuration."""
        words = {
            "port": PORT,
            "user": account(),
            "key": shared_keys() / "client",
            "first": self.first.port,
            "second": self.second.port,
            **words,
        }
        daemon = self.start_daemon(text.format(**words))
        self.port = daemon.port
        return daemon

    def ran(self, command: Sequence[object], folder: Path | None = None, **variables: str) -> bytes:
        """What a program wrote; it has to end well."""
        path = shutil.which(str(command[0]), path=f"{os.environ.get('PATH', '')}:/usr/sbin")
        if path is None:
            raise SkipTest(f"{command[0]} is not on this machine")
        done = subprocess.run(
            [path, *map(str, command[1:])],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=60,
            check=False,
            env={**os.environ, **variables},
        )
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout


class ClientTests(SocksTestCase):
    """Each client gets the page."""

    def test_several(self) -> None:
        """The example runs: with a login, by address and by name, each by its route."""
        daemon = self.started(SEVERAL)
        for kind, host, way in (
            ("socks5", "127.0.0.1", "dev"),
            ("socks5h", "127.0.0.1", "dev"),
            ("http", "127.0.0.1", "dev"),
        ):
            proxy = f"{kind}://admin:secret@127.0.0.1:{self.port}"
            url = f"http://{host}:{self.page}/"
            page = self.ran(["curl", "-sS", "-p", "-x", proxy, url], NO_PROXY="")
            self.assertEqual(page, PAGE, kind)
            daemon.wait_logged(rf"\[admin\] .*CONNECT {host}:{self.page} by {way} ")
        # Names that nobody knows go to the far side as they are, and are not found there.
        for name, way in (("db.prod.internal", "prod"), ("nowhere.invalid", "dev")):
            proxy = f"socks5h://admin:secret@127.0.0.1:{self.port}"
            lost = run(["curl", "-sS", "-x", proxy, f"http://{name}/"], os.environ, good=False)
            self.assertEqual(lost.code, 97, lost.err)
            daemon.wait_logged(rf"\[admin\] .*CONNECT {name}:80 by {way}\b")
        proxy = f"socks5h://admin:secret@127.0.0.1:{self.port}"
        self.assertEqual(
            self.ran(["curl", "-sS", "-x", proxy, f"http://localhost:{self.page}/"]), PAGE
        )
        wrong = subprocess.run(
            ["curl", "-sS", "-x", proxy.replace("secret", "wrong"), "http://127.0.0.1/"],
            capture_output=True,
            timeout=60,
            check=False,
        )
        self.assertEqual(wrong.returncode, 97, wrong.stderr)
        self.assertNotIn("secret", daemon.log_text())

    def test_one(self) -> None:
        """The file that is one upstream; nc, proxychains4 and the libraries."""
        self.started(ONE)
        proxied = socks.socksocket()
        proxied.set_proxy(socks.SOCKS5, "127.0.0.1", self.port, rdns=True)
        proxied.settimeout(30)
        proxied.connect(("127.0.0.1", self.page))
        self.assertIn(PAGE, self.get(proxied))
        proxy = Proxy.from_url(f"socks5://127.0.0.1:{self.port}")
        self.assertIn(PAGE, self.get(proxy.connect("127.0.0.1", self.page, timeout=30)))

    def get(self, sock: socket.socket) -> bytes:
        """The page, by hand."""
        with sock:
            sock.sendall(b"GET / HTTP/1.0\r\n\r\n")
            data = b""
            while more := sock.recv(65536):
                data += more
        return data

    def test_proxychains(self) -> None:
        """A program that knows nothing of proxies, made to use one."""
        self.started(ONE)
        file = Path(self.mktemp()).absolute()
        file.write_text(f"strict_chain\n[ProxyList]\nsocks5 127.0.0.1 {self.port}\n")
        command = ["curl", "-sS", f"http://127.0.0.1:{self.page}/"]
        library = next((REPOSITORY / ".peers").glob("root/**/libproxychains.so.*"), None)
        if library is None:
            page = self.ran(["proxychains4", "-q", "-f", file, *command])
        else:  # only unpacked, where the program does not find its library
            page = self.ran(command, LD_PRELOAD=str(library), PROXYCHAINS_CONF_FILE=str(file))
        self.assertEqual(page, PAGE)

    def test_ssh_by_nc(self) -> None:
        """C{ssh -o ProxyCommand='nc -X 5 ...'} to a server behind the host."""
        self.started(ONE)
        nc = shutil.which("nc.openbsd") or shutil.which("nc")
        if nc is None:
            raise SkipTest("nc.openbsd is not on this machine")
        out = self.ran(
            [
                "ssh",
                "-F", "none", "-n", "-v",
                "-i", shared_keys() / "client",
                "-o", f"ProxyCommand={nc} -X 5 -x 127.0.0.1:{self.port} %h %p",
                "-o", "StrictHostKeyChecking=no",
                "-o", "UserKnownHostsFile=/dev/null",
                "-o", "BatchMode=yes",
                "-W", f"127.0.0.1:{self.page}",
                "-p", self.second.port,
                f"{account()}@127.0.0.1",
            ]
        )  # fmt: skip
        self.assertEqual(out, b"")


class PostgresTests(SocksTestCase):
    """A pool behind an SSH host."""

    def test_via(self) -> None:
        """By C{via}: a session, two megabytes each way, and an error without the way."""
        daemon = self.start_daemon(
            configuration(
                {"default": open_service(self.database, via="dev")},
                upstreams={
                    "dev": {
                        "ssh": {"user": account(), "key": str(shared_keys() / "client")},
                        "hosts": [f"127.0.0.1:{self.first.port}"],
                    }
                },
            )
        )
        with daemon.session(CLIENT, DATABASE) as client:
            self.assertEqual(client.value("SELECT 1"), "1")
            size = client.value("SELECT length(repeat('x', 2000000))")
            self.assertEqual(size, "2000000")
            text = "y" * 2_000_000
            self.assertEqual(client.value(f"SELECT length('{text}')"), "2000000")
            client.leave()
        self.first.stop()
        with self.assertRaises(ServerError):
            daemon.session(CLIENT, DATABASE).value("SELECT 1")

    def test_unknown(self) -> None:
        """An upstream that there is not is refused at load, by name and line."""
        text = configuration({"default": open_service(self.database, via="dve")}, upstreams={})
        folder = Path(self.mktemp()).absolute()
        folder.mkdir(parents=True)
        file = folder / "proxyd.yaml"
        file.write_text(text)
        ended = run_daemon("-c", str(file), folder=folder)
        self.assertEqual(ended.code, 1)
        self.assertIn("via: dve is not one of the upstreams", ended.err)


class StartTests(SocksTestCase):
    """What must be up at the start."""

    def test_required(self) -> None:
        """All of an upstream's hosts failing ends the daemon, with one line that names it."""
        self.second.stop()
        folder = Path(self.mktemp()).absolute()
        folder.mkdir()
        file = folder / "proxyd.yaml"
        file.write_text(
            SEVERAL.format(
                port=0,
                user=account(),
                key=shared_keys() / "client",
                first=self.first.port,
                second=self.second.port,
            )
        )
        ended = run_daemon("-c", str(file), folder=folder)
        self.assertEqual(ended.code, 1, ended)
        self.assertEqual(len(ended.lines), 1, ended.err)
        self.assertIn("prod", ended.lines[0])
        self.assertIn(f"127.0.0.1:{self.second.port}", ended.lines[0])
