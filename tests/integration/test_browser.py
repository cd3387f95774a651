"""
A real Chromium through a whole proxyd, and by real OpenSSH servers.

Chromium goes straight to loopback, whatever its proxy and its PAC file say;
where the proxy is named on its command line it can be told otherwise
(C{<-loopback>}; see "net/docs/proxy.md" of its sources, implicit bypass rules).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from twisted.trial.unittest import SkipTest

from tests.integration.test_socks import Pages, SocksTestCase
from tests.support.deadlines import wait_until
from tests.support.netns import Cabled
from tests.support.programs import run
from tests.support.sshd import Sshd

SECONDS = 90.0
SCRIPT = "<!doctype html><p id=sum></p><script>sum.textContent = 'it is ' + 6 * 7</script>"
"""A page that says what it says only in a browser."""

SAID = "it is 42</p>"

OFFICE = "198.51.100.7"
"""Of a block for documents (RFC 5737): no machine has it outside of a namespace of ours."""

WEB_PORT = 8000

TEXT = """\
socks5: {{listen: ["127.0.0.1:{port}"], pac: true}}
upstreams:
  office: {{ssh: {{user: {user}, key: {key}}}, hosts: ["{host}"]}}
routes:
  - {{match: "{match}", upstream: office}}
default: {default}
"""


class Sums(Pages):
    """The page with a script."""

    page = SCRIPT.encode()


class BrowserTestCase(SocksTestCase):
    """A browser, and a proxyd that goes by an SSH server."""

    deadline = 300.0
    pages = Sums

    def dump(self, url: str, *options: str) -> str:
        """The document of a page as the browser has it when its scripts have run."""
        program = shutil.which("chromium")
        if program is None:
            raise SkipTest("chromium is not on this machine")
        folder = tempfile.mkdtemp(prefix="proxyd-browser-")
        self.addCleanup(shutil.rmtree, folder, ignore_errors=True)
        command = [
            program,
            # Its sandbox is not for root, nor for machines without user namespaces.
            *("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"),
            *("--no-first-run", "--disable-background-networking", "--disable-component-update"),
            *(f"--user-data-dir={folder}", *options, "--dump-dom", url),
        ]
        return run(command, {**os.environ, "HOME": folder}, seconds=SECONDS).out


class ProxyServerTests(BrowserTestCase):
    """C{--proxy-server}."""

    def test_socks5(self) -> None:
        """A page comes through SOCKS5 and over the SSH server."""
        host = f"127.0.0.1:{self.first.port}"
        daemon = self.started(TEXT, host=host, match="127.0.0.0/8", default="deny")
        said = self.dump(
            f"http://127.0.0.1:{self.page}/",
            f"--proxy-server=socks5://127.0.0.1:{daemon.port}",
            "--proxy-bypass-list=<-loopback>",
        )
        self.assertIn(SAID, said)
        daemon.wait_logged(rf"CONNECT 127\.0\.0\.1:{self.page} by office \({host}\)")


class PacTests(BrowserTestCase):
    """C{--proxy-pac-url}: an office whose web server only its SSH server reaches."""

    def setUp(self) -> None:
        """A namespace with both; the web server is to be reached from here by another address."""
        super().setUp()
        self.cable = Cabled()
        self.enterContext(self.cable)
        self.cable.add_inside(OFFICE)
        self.inner = Sshd(host=self.cable.host, starter=self.cable.starter)
        self.addCleanup(self.inner.remove)
        self.addCleanup(self.inner.stop)
        self.inner.start()
        self.serve()

    def serve(self) -> None:
        """The page, on all addresses of the namespace."""
        folder = Path(self.mktemp()).absolute()
        folder.mkdir()
        (folder / "index.html").write_text(SCRIPT)
        log = folder / "log"
        command = [*self.cable.inside, sys.executable, "-u", "-m", "http.server", str(WEB_PORT)]
        with log.open("wb") as file:
            process = subprocess.Popen(
                command, cwd=folder, stdin=subprocess.DEVNULL, stdout=file, stderr=file
            )
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        wait_until(lambda: "Serving HTTP" in log.read_text(), SECONDS, "the web server")

    def test_pac(self) -> None:
        """What a route takes goes through, what none takes goes round; by the file made of them."""
        host = f"{self.inner.host}:{self.inner.port}"
        daemon = self.started(TEXT, host=host, match=f"{OFFICE}/32", default="direct")
        pac = f"--proxy-pac-url=http://127.0.0.1:{daemon.port}/proxy.pac"
        self.assertIn(SAID, self.dump(f"http://{OFFICE}:{WEB_PORT}/", pac))
        daemon.wait_logged(rf"CONNECT {OFFICE}:{WEB_PORT} by office \({host}\)")
        self.assertIn(SAID, self.dump(f"http://{self.cable.host}:{WEB_PORT}/", pac))
        daemon.wait_no_clients()
        self.assertNotIn(f"CONNECT {self.cable.host}", daemon.log_text())
