"""
C{make ssm-demo}: proxyd with upstreams by AWS Session Manager, without an AWS account.

The API, the relay and the agents are the tests' own, as is the web page that
is reached through them. Everything is on loopback, and ends with Ctrl-C.
"""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

CHECKOUT = Path(__file__).resolve().parent.parent
INSTANCES = ("i-demo-1", "i-demo-2")
PAGE = b"hello from behind an instance\n"


class _Page(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        """The page."""
        self.send_response(200)
        self.send_header("Content-Length", str(len(PAGE)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(PAGE)

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing."""


def configuration(folder: Path, port: int, api: int) -> dict[str, object]:
    """What proxyd is given."""
    aws = {
        "region": "eu-central-1",
        "access_key": "DEMO",
        "secret_key": "demo",
        "endpoint_url": f"http://127.0.0.1:{api}",
    }
    return {
        "state": f"sqlite:///{folder}/state.sqlite",
        "socks5": {"listen": [f"127.0.0.1:{port}"]},
        "upstreams": {"demo": {"aws": aws, "instances": list(INSTANCES)}},
        "routes": [{"match": "localhost", "upstream": "demo"}],
    }


def main() -> int:
    """Run it until it is interrupted."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # Also where a shell started us in the background, and ignores them: none is left behind.
        signal.signal(number, signal.default_int_handler)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="proxyd-ssm-")))
        page = ThreadingHTTPServer(("127.0.0.1", 0), _Page)
        Thread(target=page.serve_forever, daemon=True).start()
        api, port = _free_port(), _free_port()
        peer = [sys.executable, "-m", "tests.support.ssm_peer", str(api), *INSTANCES]
        stack.enter_context(_running(peer))
        config = folder / "proxyd.yaml"
        config.write_text(json.dumps(configuration(folder, port, api), indent=1))
        twistd = Path(sys.executable).with_name("twistd")
        daemon = stack.enter_context(
            _running([str(twistd), "-n", "--pidfile=", "proxyd", "-c", str(config)])
        )
        print(
            f"\n  curl --socks5-hostname 127.0.0.1:{port} http://localhost:{page.server_port}/\n\n"
            "Ctrl-C stops everything\n",
            flush=True,
        )
        try:
            return daemon.wait()
        except KeyboardInterrupt:
            return 0


class _running:  # noqa: N801 (it reads as a word)
    """A program that ends with the block."""

    def __init__(self, words: list[str]) -> None:
        self._process = subprocess.Popen(words, cwd=CHECKOUT)

    def __enter__(self) -> subprocess.Popen[bytes]:
        return self._process

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
        return port


if __name__ == "__main__":
    sys.exit(main())
