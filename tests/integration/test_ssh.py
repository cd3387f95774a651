"""
A whole proxyd whose PostgreSQL is behind SSH servers: jump hosts, failover, host keys, agents.

What clients of SOCKS5 see of the same ways is in C{test_socks.py}.
"""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

from tests.ssh.test_agent import RealAgent
from tests.support.blackbox import BlackBoxTestCase, configuration, open_service
from tests.support.daemon import Daemon, run_daemon
from tests.support.database import CLIENT, DATABASE
from tests.support.deadlines import wait_until
from tests.support.programs import run
from tests.support.sshd import Sshd, account, make_key, shared_keys
from tests.support.wireclient import Hangup, ServerError, WireClient


class SshTestCase(BlackBoxTestCase):
    """SSH servers, and a proxyd whose database is behind them."""

    deadline = 120.0

    def sshd(self, *options: str, **words: object) -> Sshd:
        """A running SSH server."""
        server = Sshd(*options, **words)  # type: ignore[arg-type]
        self.addCleanup(server.remove)
        self.addCleanup(server.stop)
        server.start()
        return server

    def ssh(self, **words: object) -> dict[str, object]:
        """The C{ssh} section."""
        return {"user": account(), "key": str(shared_keys() / "client"), **words}

    def hosts(self, *servers: Sshd) -> list[str]:
        """The C{hosts} of an upstream."""
        return [f"{one.host}:{one.port}" for one in servers]

    def text(self, upstreams: dict[str, object], via: str = "box", **words: object) -> str:
        """A configuration with these upstreams."""
        connection = open_service(self.database, auth="trust", via=via)
        return configuration({DATABASE: connection}, upstreams=upstreams, **words)

    def session(self, daemon: Daemon) -> WireClient:
        """A client that has logged in, and has a server."""
        client = self.keep(daemon.session(CLIENT, DATABASE))
        self.assertEqual(client.value("SELECT 1"), "1")
        return client


class WayTests(SshTestCase):
    """The database is reached."""

    def test_jump_host(self) -> None:
        """Over one server to the next, to the database; bulk both ways."""
        outer, inner = self.sshd(), self.sshd()
        upstreams = {
            "jump": {"ssh": self.ssh(), "hosts": self.hosts(outer)},
            "box": {"ssh": self.ssh(), "hosts": self.hosts(inner), "via": "jump"},
        }
        daemon = self.start_daemon(self.text(upstreams))
        client = self.session(daemon)
        word = client.value("SELECT repeat('0123456789', 300000)")
        self.assertEqual(len(word or ""), 3_000_000)
        self.assertEqual(client.value(f"SELECT length('{word}')"), "3000000")
        self.assertIn(f"Connection from {outer.host}", inner.log_text())

    def test_first_is_killed(self) -> None:
        """The server that a session goes through dies: 08006 or a reset; then the next is used."""
        first, second = self.sshd(), self.sshd()
        box = {"ssh": self.ssh(), "hosts": self.hosts(first, second)}
        connection = open_service(self.database, auth="trust", via="box", min_idle_connections=0)
        daemon = self.start_daemon(configuration({DATABASE: connection}, upstreams={"box": box}))
        for one in self.hosts(first, second):
            daemon.wait_logged(f"upstream box: {one} is connected")
        client = self.session(daemon)
        first.stop()
        try:
            client.query("SELECT 1")
        except ServerError as problem:
            self.assertEqual(problem.sqlstate, "08006")
        except Hangup:
            pass
        else:
            self.fail("the session goes on")
        self.session(daemon)
        daemon.wait_logged("upstream box: new connections go through")

    def test_psql(self) -> None:
        """psql itself: queries, COPY both ways, Ctrl-C, and what it is told without the way."""
        server = self.sshd()
        box = {"ssh": self.ssh(), "hosts": self.hosts(server)}
        daemon = self.start_daemon(self.text({"box": box}))
        url = f"postgresql://{CLIENT}@127.0.0.1:{daemon.port}/{DATABASE}?sslmode=disable"
        psql = [
            self.database.program("psql"),
            "-X",
            "-w",
            "-q",
            "-At",
            "-v",
            "ON_ERROR_STOP=1",
            url,
        ]
        alone = {"PATH": os.environ["PATH"], "HOME": str(daemon.folder)}
        source, target = daemon.folder / "source", daemon.folder / "target"
        source.write_text("".join(f"{n}\tnote {n}\n" for n in range(20_000)))
        script = (
            "BEGIN;\nSELECT count(*) FROM items;\nCREATE TEMP TABLE copied (LIKE sink);\n"
            f"\\copy copied from '{source}'\n"
            f"\\copy (SELECT * FROM copied ORDER BY id) to '{target}'\nCOMMIT;\n"
        )
        self.assertEqual(run([*psql, "-f", "-"], alone, given=script).out, "500\n")
        self.assertEqual(target.read_text(), source.read_text())
        sleep = "SELECT pg_sleep(600), 'of psql'"
        with subprocess.Popen(
            [*psql, "-c", sleep], env=alone, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE
        ) as sleeping:
            self.addCleanup(sleeping.kill)
            query = sleep.replace("'", "''")
            self.database.wait_activity(f"query = '{query}' AND state = 'active'")
            sleeping.send_signal(signal.SIGINT)
            _, said = sleeping.communicate(timeout=60)
        self.assertIn(b"canceling statement due to user request", said)
        server.stop()
        refused = run([*psql, "-c", "SELECT 1"], alone, good=False)
        self.assertEqual(refused.code, 2)
        self.assertIn("DETAIL:  The way there is broken.", refused.err)
        daemon.wait_logged(rf"no connection: upstream box: {self.hosts(server)[0]}")

    def test_agent(self) -> None:
        """Keys come from the agent that SSH_AUTH_SOCK names."""
        key = make_key(Path(self.mktemp()), "-t", "rsa", "-b", "2048")
        agent = RealAgent(key)
        self.addCleanup(agent.stop)
        server = self.sshd(keys=[key.with_name(f"{key.name}.pub")])
        box = {"ssh": {"user": account()}, "hosts": self.hosts(server)}
        daemon = Daemon(self.text({"box": box}), variables={"SSH_AUTH_SOCK": agent.path})
        self.addCleanup(daemon.remove)
        self.addCleanup(daemon.stop)
        daemon.start()
        self.session(self.watch(daemon))


class RefusalTests(SshTestCase):
    """The database is not reached, and everybody is told."""

    def test_changed_host_key(self) -> None:
        """Refused: the client hears 08001, the log names both keys and the line."""
        server = self.sshd(host_keys=["ed25519"])
        known = Path(self.mktemp()).absolute()
        known.write_text(f"[{server.host}]:{server.port} {server.host_key('ecdsa')}\n")
        box = {"ssh": self.ssh(known_hosts=str(known)), "hosts": self.hosts(server)}
        daemon = self.start_daemon(self.text({"box": box}))
        daemon.wait_logged(f"{known}:1 has ecdsa-sha2-nistp256 SHA256:")
        with self.assertRaises(ServerError) as caught:
            self.session(daemon)
        self.assertEqual(caught.exception.sqlstate, "08001")

    def test_required(self) -> None:
        """C{start: required} without any server: one line, and the end."""
        server = self.sshd()
        server.stop()
        box = {"ssh": self.ssh(), "hosts": self.hosts(server), "start": "required"}
        folder = Path(self.mktemp())
        folder.mkdir()
        (folder / "proxyd.yaml").write_text(self.text({"box": box}).replace("@PORT@", "0"))
        ended = run_daemon("-c", "proxyd.yaml", folder=folder)
        self.assertEqual(ended.code, 1)
        self.assertIn(f"upstream box: no way there: {server.host}:{server.port}", ended.err)
        self.assertIn("connection refused", ended.err)

    def test_lazy(self) -> None:
        """Otherwise it starts, and the way comes up by itself."""
        server = self.sshd()
        server.stop()
        box = {"ssh": self.ssh(), "hosts": self.hosts(server)}
        daemon = self.start_daemon(self.text({"box": box}))
        with self.assertRaises(ServerError):
            self.session(daemon)
        server.start()

        def reached() -> bool:
            try:
                self.session(daemon)
            except ServerError:
                return False
            return True

        wait_until(reached, 40.0, "the way to come up")
