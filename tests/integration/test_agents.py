"""
A whole proxyd and whole agents: real clients through reverse ports, TLS, agents and
servers that are killed, and agents as upstreams.
"""

from __future__ import annotations

import http.server
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence

from twisted.trial.unittest import SkipTest

from tests.integration.agents import SECONDS, AgentsTestCase, read, there_and_back
from tests.support.agent import answer_after_end, echo, reset
from tests.support.blackbox import open_service
from tests.support.daemon import REPOSITORY
from tests.support.database import CLIENT, DATABASE, OPEN_SERVICE
from tests.support.sshd import Sshd, account, own_port, shared_keys
from tests.support.wireclient import ServerError

MIB = 1024 * 1024
BACK = 5.0
"""Seconds within which all is back after a restart: promised in docs/operations.md."""
USUAL_START = 2.0
PAGE = b"a page behind the agent\n" * 5000


class Pages(http.server.BaseHTTPRequestHandler):
    """One page."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(PAGE)))
        self.end_headers()
        self.wfile.write(PAGE)

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing."""


def ran(*command: object, given: bytes = b"") -> bytes:
    """
    What a program wrote; it has to end well.

    @raise SkipTest: it is not on this machine
    """
    path = shutil.which(str(command[0]))
    if path is None:
        raise SkipTest(f"{command[0]} is not on this machine")
    words: Sequence[str] = [path, *map(str, command[1:])]
    done = subprocess.run(words, input=given, capture_output=True, timeout=60, check=False)
    if done.returncode:
        raise AssertionError(f"{command[0]} ended with {done.returncode}: {done.stderr!r}")
    return done.stdout


class ScenarioTests(AgentsTestCase):
    """
    A port is made by curl, and real clients go through it.

    @cvar late: what the API says of a refusal that came when the user counted as connected
    """

    late: tuple[dict[str, int], ...] = ()

    def setUp(self) -> None:
        super().setUp()
        self.begin()
        self.come()

    def come(self) -> None:
        """The agent, which is here then."""
        self.agent("pc1")

    def create(self, remote: int) -> int:
        """A port, made word for word as it was first written down, with the token."""
        local = own_port()
        wanted = {"client_id": "pc1", "remote_host": "127.0.0.1"}
        body = json.dumps({**wanted, "remote_port": remote, "local_port": local})
        made = json.loads(
            ran(
                *("curl", "-sS", "-X", "POST", "-H", f"Authorization: Bearer {self.admin_token}"),
                *(f"http://localhost:{self.api}/api/proxy/create", "-d", body),
            )
        )
        self.assertIs(made["connected"], True)
        self.assertEqual(made["local_port"], local)
        return local

    def test_http(self) -> None:
        """curl gets a page; the API counts it."""
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Pages)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)
        local = self.create(server.server_address[1])
        self.assertEqual(ran("curl", "-sS", f"http://127.0.0.1:{local}/"), PAGE)
        self.wait_left(local)
        told = self.proxy(local)
        self.assertEqual((told["users_total"], told["errors"]), (1, {}))
        self.assertGreater(told["bytes_out"], len(PAGE))
        self.daemon.wait_logged(rf"127\.0\.0\.1:{local} -> .* ended after .* bytes out")

    def test_ssh(self) -> None:
        """ssh logs in through it, and carries something itself."""
        ran("ssh", "-V")
        with Sshd() as sshd:
            local, behind = self.create(sshd.port), self.place(echo)
            said = ran(
                *("ssh", "-F", "none", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no"),
                *("-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR"),
                *("-i", shared_keys() / "client", "-p", local),
                *("-W", f"127.0.0.1:{behind}", f"{account()}@127.0.0.1"),
                given=b"hello there\n",
            )
        self.assertEqual(said, b"hello there\n")

    def test_psql(self) -> None:
        """psql asks the database, which comes through as it is."""
        local = self.create(self.database.port)
        url = f"postgresql://{OPEN_SERVICE}@127.0.0.1:{local}/{DATABASE}?sslmode=disable"
        self.assertEqual(ran("psql", "-XAtq", url, "-c", "SELECT 6 * 7"), b"42\n")

    def test_binary(self) -> None:
        """Bytes of all kinds, both ways at once, as a remote desktop's are."""
        local = self.create(self.place(echo))
        sent, came = there_and_back(self.user(local), 8 * MIB, 1)
        self.assertEqual(came, sent)

    def test_half_close(self) -> None:
        """Who has said all still gets the answer."""
        user = self.user(self.create(self.place(answer_after_end)))
        user.sendall(b"x" * 100_000)
        user.shutdown(1)
        self.assertEqual(read(user, 100), b"100000 bytes\n")

    def test_ends(self) -> None:
        """A refusal and a reset arrive as a reset."""
        refused, broken = {"connection refused": 1}, {"connection lost": 1}
        # A reset may come before the agent has seen that it is connected: then its dial failed.
        for remote, told in (
            (own_port(), (refused, *self.late)),
            (self.place(reset), ({}, broken)),
        ):
            local = self.create(remote)
            with self.assertRaises(ConnectionResetError):
                self.user(local).recv(1)
            self.wait_left(local)
            self.assertIn(self.proxy(local)["errors"], told)


class JsonScenarioTests(ScenarioTests):
    """The same by an agent that speaks JSON, and is not known yet to confirm its dials."""

    late = ({},)

    def come(self) -> None:
        """One that is written from the contract alone."""
        token, _ = self.new_agent("pc1")
        program = REPOSITORY / "tests" / "support" / "json_agent.py"
        url = f"ws://127.0.0.1:{self.door}/agent?client_id=pc1"
        agent = subprocess.Popen(
            [sys.executable, str(program), url],
            env={**os.environ, "TOKEN": token},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        self.addCleanup(agent.wait)
        self.addCleanup(agent.kill)
        self.wait_here("pc1")

    def test_binary(self) -> None:
        """Bytes of all kinds, both ways at once."""
        user = self.user(self.create(self.place(echo)))
        noise = random.Random(1).randbytes(8 * MIB)
        sender = threading.Thread(target=user.sendall, args=(noise,))
        sender.start()
        self.assertEqual(read(user, len(noise)), noise)
        sender.join()

    def test_half_close(self) -> None:
        """JSON has none: whoever ends is gone, and the target sees an end."""
        ended = threading.Event()

        def listen(there: socket.socket) -> None:
            while there.recv(65536):
                pass
            ended.set()

        user = self.user(self.create(self.place(listen)))
        user.sendall(b"x" * 100_000)
        user.shutdown(1)
        self.assertEqual(read(user, 100), b"")
        self.assertTrue(ended.wait(SECONDS))


class TlsTests(AgentsTestCase):
    """wss, by proxyd's own certificate."""

    def setUp(self) -> None:
        super().setUp()
        self.begin({"tls": {"mode": "require"}})
        self.token, self.pin = self.new_agent("pc1")
        (self.ca,) = self.daemon.folder.rglob("ca.pem")
        self.url = f"wss://127.0.0.1:{self.door}/agent"
        self.local = self.reverse(self.place(echo))

    def test_ca(self) -> None:
        """Believed by the CA beside the state."""
        self.agent("pc1", "--ca", str(self.ca), token=self.token, url=self.url)
        self.says_back(self.local)

    def test_pin(self) -> None:
        """Believed by the pin that the API gave."""
        self.agent("pc1", "--pin", self.pin, token=self.token, url=self.url)
        self.says_back(self.local)

    def test_stranger(self) -> None:
        """Neither by another pin, nor by the system's CAs: nothing is sent there."""
        for options in (("--pin", "sha256:" + "0" * 64), ()):
            agent = self.agent("pc1", *options, token=self.token, url=self.url, here=False)
            agent.wait_logged("certificate")
            agent.stop()
            self.assertNotIn("connected to", agent.log_text())
            self.assertNotIn(self.token, agent.log_text())
        self.assertIsNone(self.since("pc1"))


class LossTests(AgentsTestCase):
    """Agents and servers that are killed."""

    def test_agent_killed(self) -> None:
        """Users are reset at once; new ones wait, and are served when it is back."""
        self.begin()
        token, _ = self.new_agent("pc1")
        agent = self.agent("pc1", token=token)
        local = self.reverse(self.place(echo))
        user = self.user(local)
        user.sendall(b"1")
        self.assertEqual(user.recv(1), b"1")
        agent.kill()
        with self.assertRaises(ConnectionResetError):
            user.recv(1)
        waiting = self.user(local)
        waiting.sendall(b"2")
        agent.start()
        self.assertEqual(waiting.recv(1), b"2")

    def test_nobody_comes(self) -> None:
        """Where none comes within C{grace} the user is reset, and it is counted."""
        self.begin({"grace": "1s"})
        self.new_agent("pc1")
        local = self.reverse(self.place(echo))
        user = self.user(local)
        with self.assertRaises(ConnectionResetError):
            user.recv(1)
        self.assertEqual(sum(self.proxy(local)["errors"].values()), 1)

    def test_takeover(self) -> None:
        """A second process with the same token takes over at once; new users go there."""
        self.begin()
        token, _ = self.new_agent("pc1")
        first = self.agent("pc1", token=token)
        local = self.reverse(self.place(echo))
        user = self.user(local)
        user.sendall(b"1")
        self.assertEqual(user.recv(1), b"1")
        # So that it neither hears that it was replaced, nor comes again.
        os.kill(first.pid, signal.SIGSTOP)
        self.addCleanup(os.kill, first.pid, signal.SIGCONT)
        self.agent("pc1", token=token, here=False)
        with self.assertRaises(ConnectionResetError):
            user.recv(1)
        self.says_back(local)

    def test_server_killed(self) -> None:
        """
        After kill -9 all ports are there again, and the agents come back by themselves:
        within five seconds from when proxyd says that it is ready.
        """
        self.begin()
        remote = self.place(echo)
        names = [f"pc{number}" for number in range(1, 6)]
        for name in names:
            self.agent(name, here=False)
        ports = [self.reverse(remote, names[number % 5]) for number in range(20)]
        for name in names:
            self.wait_here(name)
        os.kill(self.daemon.pid, signal.SIGKILL)
        self.daemon.wait_ended()
        began = time.monotonic()
        self.daemon.start()
        ready = time.monotonic()
        for name in names:
            self.wait_here(name)
        here = time.monotonic()
        for port in ports:
            self.says_back(port)
        back = time.monotonic()
        sys.stderr.write(
            f"\nkilled: ready after {ready - began:.2f} s, 5 agents {here - ready:.2f} s later, "
            f"20 ports served {back - ready:.2f} s later\n"
        )
        # Where the start takes longer than usual, the machine is busy, and we have that much more.
        self.assertLess(back - ready, BACK + max(0.0, ready - began - USUAL_START))
        told = self.call("GET", "/api/proxy/list")["proxies"]
        self.assertEqual(sorted(one["local_port"] for one in told), sorted(ports))


class UpstreamTests(AgentsTestCase):
    """An agent is a way out."""

    def setUp(self) -> None:
        super().setUp()
        self.socks = own_port()
        behind = open_service(self.database, via="office", min_idle_connections=0)
        self.begin(
            {"grace": "20s"},
            connections={DATABASE: behind},
            upstreams={"office": {"agent": "pc1"}},
            routes=[{"match": ["localhost", "127.0.0.0/8"], "upstream": "office"}],
            socks5={"listen": [f"127.0.0.1:{self.socks}"]},
        )

    def test_postgres(self) -> None:
        """A pool's servers are behind it; a lost agent is told, and a new one serves."""
        token, _ = self.new_agent("pc1")
        agent = self.agent("pc1", token=token)
        client = self.keep(self.daemon.session(CLIENT, DATABASE))
        self.assertEqual(len(client.value("SELECT repeat('x', 3000000)") or ""), 3_000_000)
        agent.kill()
        with self.assertRaises((ServerError, ConnectionError, EOFError)):
            client.value("SELECT 1")
        agent.start()
        again = self.keep(self.daemon.session(CLIENT, DATABASE))
        self.assertEqual(again.value("SELECT 1"), "1")

    def test_socks(self) -> None:
        """curl reaches a page through it; a refusal is told as one."""
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Pages)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)
        self.agent("pc1", "--allow", "localhost:*")
        for host in ("127.0.0.1", "localhost"):
            url = f"http://{host}:{server.server_address[1]}/"
            proxy = f"127.0.0.1:{self.socks}"
            self.assertEqual(ran("curl", "-sS", "--socks5-hostname", proxy, url), PAGE)
        with self.assertRaises(AssertionError) as caught:
            ran("curl", "-sS", "--socks5", proxy, f"http://127.0.0.1:{own_port()}/")
        self.assertIn("(5)", str(caught.exception))
