"""Clients of SOCKS5 while the SSH server that their connections go through dies."""

from __future__ import annotations

import os
import re
import socket
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

from tests.integration.test_socks import SocksTestCase
from tests.socks.scene import Targets, take, through
from tests.support.daemon import Daemon
from tests.support.deadlines import wait_until

SOAK = bool(os.environ.get("PROXYD_SOAK"))
TEXT = """\
socks5: {{listen: ["127.0.0.1:{port}"]}}
upstreams:
  box: {{ssh: {{user: {user}, key: {key}}}, hosts: [{hosts}]}}
routes:
  - {{match: "127.0.0.0/8", upstream: box}}
"""
OLD = 50
NEW = 400 if SOAK else 80
PAUSE = 0.05  # twenty a second
KILLED_AT = 20


class FailoverTests(SocksTestCase):
    """Three SSH servers behind one upstream."""

    deadline = 300.0

    def test_first_is_killed(self) -> None:
        """
        The first dies under fifty open connections, while twenty new ones come each second.

        Each new one is connected within C{connect_timeout}, the old ones end at
        once, and the first is used again when it is back.
        """
        servers = [self.first, self.second, self.sshd()]
        hosts = [f"127.0.0.1:{server.port}" for server in servers]
        daemon = self.started(TEXT, hosts=", ".join(f'"{host}"' for host in hosts))
        for host in hosts:
            daemon.wait_logged(f"upstream box: {host} is connected")
        self.targets = Targets()
        self.addCleanup(self.targets.close)
        old = [self.opened(daemon) for _ in range(OLD)]
        for sock in old:
            self.echo(sock)
        killed = threading.Event()
        with ThreadPoolExecutor(NEW) as pool:
            coming = []
            for number in range(NEW):
                coming.append(pool.submit(self.come, daemon, killed.is_set()))
                if number == KILLED_AT:
                    servers[0].stop()
                    killed.set()
                threading.Event().wait(PAUSE)  # the pace that is tested
            endings = [self.ending(sock) for sock in old]
            took = [one.result() for one in coming]
        if SOAK:
            sys.stderr.write(
                f"\n{NEW} new connections: {max(took):.2f} s at most;"
                f" old ones: {dict(Counter(endings))}\n"
            )
        daemon.wait_logged(f"upstream box: new connections go through {hosts[1]}")
        ends = rf"CONNECT \S+ by box \({hosts[0]}\).* ended after .*: 6 bytes up, 5 bytes down"
        self.assertGreaterEqual(len(self.lines(daemon, ends)), OLD)
        servers[0].start()

        def is_used() -> bool:
            sock = self.opened(daemon)
            self.echo(sock)
            sock.close()
            return bool(self.lines(daemon, f"new connections go through {hosts[0]}"))

        wait_until(is_used, 120.0, "the first to be used again")

    def opened(self, daemon: Daemon) -> socket.socket:
        """A connection to the target."""
        sock, code = through(daemon.port, "127.0.0.1", self.targets.port)
        self.addCleanup(sock.close)
        self.assertEqual(code, 0)
        return sock

    def echo(self, sock: socket.socket) -> None:
        """Something goes there and back."""
        sock.sendall(b"Ehello")
        self.assertEqual(take(sock, 5), b"hello")

    def come(self, daemon: Daemon, after: bool) -> float:
        """
        A new client: seconds until it is connected.

        @param after: whether the server was dead when it came; else it may have
            been connected by that one, and be lost with it
        """
        began = time.monotonic()
        sock = self.opened(daemon)
        took = time.monotonic() - began
        if after:
            self.echo(sock)
        sock.close()
        return took

    def ending(self, sock: socket.socket) -> str:
        """How it ends; that it does is the promise."""
        try:
            self.assertEqual(sock.recv(1), b"")
        except ConnectionResetError:
            return "reset"
        return "end"

    def lines(self, daemon: Daemon, pattern: str) -> list[str]:
        """The lines of its log in which a pattern is."""
        return [line for line in daemon.log_text().splitlines() if re.search(pattern, line)]
