"""
A whole proxyd by its API: from nothing to a query, and away again; a drain and a restart seen.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import quote

from twisted.trial.unittest import SkipTest

from proxyd.web.schema import wrong_with
from tests.support.blackbox import BlackBoxTestCase, configuration, open_service
from tests.support.daemon import Daemon, environment_for
from tests.support.database import DATABASE, OPEN_SERVICE, SERVICE
from tests.support.deadlines import wait_until
from tests.support.wireclient import ServerError, WireClient
from tests.web.made_values import Maker

TOKEN = "the-admin-token-of-this-test"
PSQL_SECONDS = 60.0
SOAK = os.environ.get("PROXYD_SOAK") == "1"
ROUNDS = 10
LONG_ROUNDS = 300


class ApiTests(BlackBoxTestCase):
    """What an operator does."""

    deadline = 600.0 if SOAK else 240.0

    def setUp(self) -> None:
        """Start a proxyd with an API."""
        super().setUp()
        text = configuration(
            {"open": open_service(self.database, min_idle_connections=0)},
            api={"listen": "127.0.0.1:0", "admin_token": "env:ADMIN"},
            drain_timeout="20s",
            routes=[{"match": "127.0.0.1", "upstream": "direct"}],  # or no database here
        )
        self.proxy = Daemon(text, variables={"ADMIN": TOKEN})
        self.addCleanup(self.proxy.remove)
        self.addCleanup(self.proxy.stop)
        self.proxy.start()
        self.watch(self.proxy)
        found = self.proxy.wait_logged(r"the API is at (http://127\.0\.0\.1:\d+)")
        self.url = found[1]

    def ask(
        self, method: str, path: str, body: object = None, token: str = TOKEN
    ) -> tuple[int, Any]:
        """A call: its status, and its JSON; None where it is none."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, method=method)
        if token:
            request.add_header("Authorization", f"Bearer {token}")
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                text = answer.headers.get_content_type() != "application/json"
                return answer.status, None if text else json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.load(error)

    def proxyctl(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run proxyctl where the daemon runs: it finds its configuration there, and the socket."""
        return subprocess.run(
            [sys.executable, "-m", "proxyd.ctl", *arguments],
            cwd=self.proxy.folder,
            env=environment_for(self.proxy.folder),
            capture_output=True,
            text=True,
            timeout=PSQL_SECONDS,
        )

    def psql(self, url: str, question: str) -> subprocess.CompletedProcess[str]:
        """Run psql."""
        return subprocess.run(
            ["psql", "-XAt", url, "-c", question],
            env={**os.environ, "PGCONNECT_TIMEOUT": "20"},
            capture_output=True,
            text=True,
            timeout=PSQL_SECONDS,
        )

    def test_from_nothing(self) -> None:
        """Register, issue, query; revoke: the session ends, and the token lets in nobody."""
        if shutil.which("psql") is None:
            raise SkipTest("psql is not on the path")
        dsn = self.database.dsn(SERVICE, DATABASE, sslmode="disable")
        secret = Path(self.proxy.folder) / "secret"
        secret.write_text(self.database.passwords[SERVICE] + "\n")
        added = self.proxyctl(
            "databases", "add", "shop", dsn, "--password", f"file:{secret}", "--json"
        )
        self.assertEqual((added.returncode, added.stderr), (0, ""))
        number = json.loads(added.stdout)["database_id"]
        issued = self.proxyctl("tokens", "issue", str(number), "--label", "ann")
        self.assertEqual((issued.returncode, issued.stderr), (0, ""))
        url = issued.stdout.splitlines()[0]
        asked = self.psql(url, "SELECT current_user, 6 * 7")
        self.assertEqual((asked.stdout, asked.stderr), (f"{SERVICE}|42\n", ""))

        token = url.split(":")[2].split("@")[0]
        session = self.keep(self.proxy.session("token", f"db_{number}", token))
        self.assertEqual(session.value("SELECT 1"), "1")
        (row,) = self.ask("GET", "/api/sessions")[1]["sessions"]
        (known,) = self.ask("GET", "/api/tokens")[1]["tokens"]
        self.assertEqual(row["token_id"], known["token_id"])
        revoked = self.proxyctl("tokens", "revoke", known["token_id"])
        self.assertEqual((revoked.returncode, revoked.stderr), (0, ""))
        self.assertEqual(session.read_to_end()[-1].fields()["C"], "57P01")
        refused = self.psql(url, "SELECT 1")
        self.assertEqual(refused.returncode, 2)
        self.assertIn("revoked", refused.stderr)
        self.assertNotIn(token, self.proxy.log_text())

    def test_killed(self) -> None:
        """A session is ended by its number, with 57P01, and no other."""
        one, other = (self.keep(self.proxy.session(OPEN_SERVICE, "open")) for _ in range(2))
        one.query("SELECT 1")
        numbers = [row["session_id"] for row in self.ask("GET", "/api/sessions")[1]["sessions"]]
        ran = self.proxyctl("sessions", "kill", str(min(numbers)))
        self.assertEqual((ran.returncode, ran.stderr), (0, ""))
        self.assertEqual(one.read_to_end()[-1].fields()["C"], "57P01")
        self.assertEqual(other.value("SELECT 2"), "2")

    def test_restart(self) -> None:
        """A transaction goes on over a restart; afterwards its server connection is a new one."""
        client = self.keep(self.proxy.session(OPEN_SERVICE, "open"))
        client.query("BEGIN")
        before = client.value("SELECT pg_backend_pid()")
        status, value = self.ask("POST", "/api/docker/proxy/restart")
        self.assertEqual((status, value["status"]), (200, "ready"))
        self.assertEqual(client.value("SELECT pg_backend_pid()"), before)
        client.query("COMMIT")
        client.leave()
        later = self.keep(self.proxy.session(OPEN_SERVICE, "open"))
        self.assertNotEqual(later.value("SELECT pg_backend_pid()"), before)
        # Again and again, with clients that come all the time: each is served.
        for _ in range(20):
            self.assertEqual(self.ask("POST", "/api/docker/proxy/restart")[0], 200)
            with self.proxy.session(OPEN_SERVICE, "open") as fresh:
                self.assertEqual(fresh.value("SELECT 1"), "1")

    def test_drain(self) -> None:
        """From the first moment of a stop /readyz says so, while what is in flight goes on."""
        client = self.keep(self.proxy.session(OPEN_SERVICE, "open"))
        client.query("BEGIN")
        self.assertEqual(self.ask("GET", "/readyz"), (200, {"status": "ready"}))
        self.proxy.signal(signal.SIGTERM)
        wait_until(lambda: self.ask("GET", "/readyz")[0] == 503, 60, "the drain to be seen")
        self.assertEqual(self.ask("GET", "/api/docker/proxy")[1]["status"], "draining")
        self.assertEqual(self.ask("POST", "/api/docker/proxy/restart")[0], 503)
        client.query("COMMIT")
        self.proxy.wait_ended()

    def test_reload(self) -> None:
        """A token that is changed in the configuration holds after a reload."""
        self.assertEqual(self.ask("GET", "/api/sessions")[0], 200)
        text = self.proxy.file.read_text()
        self.proxy.write(text.replace("env:ADMIN", "another-token-from-now-on"))
        self.proxy.reload()
        self.assertEqual(self.ask("GET", "/api/sessions")[0], 401)

    def test_metrics(self) -> None:
        """What clients did is counted, by connection."""
        with self.proxy.session(OPEN_SERVICE, "open") as client:
            client.query("SELECT 1")
            with urllib.request.urlopen(f"{self.url}/metrics", timeout=60) as answer:
                text = answer.read().decode()
        for line in (
            'proxyd_sessions{kind="postgres"} 1.0',
            'proxyd_pool_connections{connection="open",state="in_use"} 1.0',
            'proxyd_pool_opened_total{connection="open"} 1.0',
            "proxyd_ready 1.0",
        ):
            self.assertIn(f"\n{line}\n", text)

    def test_second_proxyd(self) -> None:
        """Another one that would take the same socket does not start; the first goes on."""
        from tests.support.daemon import run_daemon

        folder = self.proxy.folder / "second"
        folder.mkdir()
        path = self.proxy.folder / ".proxyd" / "api.sock"
        (folder / "p.yaml").write_text(json.dumps({"api": {"socket": str(path)}}))
        ended = run_daemon("-c", "p.yaml", folder=folder)
        self.assertEqual(ended.code, 1)
        self.assertEqual(len(ended.lines), 1, ended.err)
        self.assertIn("another proxyd listens there", ended.lines[0])
        self.assertEqual(self.proxyctl("status").returncode, 0)

    def test_every_call(self) -> None:
        """
        Each call that the daemon describes: refused without the token, and with it never 500.

        Its values are made by its own schemas; each answer is one that is described.
        """
        seed = int(os.environ.get("PROXYD_SEED", random.SystemRandom().getrandbits(32)))
        maker = Maker(random.Random(seed))
        status, document = self.ask("GET", "/openapi.json")
        self.assertEqual(status, 200)
        free = {"/healthz", "/readyz", "/metrics"}
        operations = [
            (method.upper(), path, operation)
            for path, methods in document["paths"].items()
            for method, operation in methods.items()
        ]
        self.assertGreaterEqual(len(operations), 12)
        for method, path, operation in operations:
            status, _ = self.ask(method, self.filled(maker, path, operation), {}, token="")
            self.assertEqual(status, 200 if path in free else 401, (method, path))
        for _ in range(LONG_ROUNDS if SOAK else ROUNDS):
            for method, path, operation in operations:
                if path == "/metrics":
                    continue
                url = self.filled(maker, path, operation)
                made = operation.get("requestBody", {}).get("content", {}).get("application/json")
                body = maker.good(made["schema"]) if made else None
                status, value = self.ask(method, url, body)
                where = f"PROXYD_SEED={seed}: {method} {url} {body!r}: {status} {value}"
                self.assertNotEqual(status, 500, where)
                self.assertIn(str(status), operation["responses"], where)
                schema = operation["responses"][str(status)]["content"]["application/json"]
                schema = document["components"]["schemas"]["Error"] if status >= 400 else schema
                schema = schema.get("schema", schema)
                self.assertEqual(list(wrong_with(value, schema)), [], where)

    def filled(self, maker: Maker, path: str, operation: Any) -> str:
        """A path with its names and its query filled in."""
        query = []
        for one in operation.get("parameters", []):
            text = quote(maker.as_text(maker.good(one["schema"])), safe="")
            if one["in"] == "path":
                path = path.replace("{" + one["name"] + "}", text)
            elif one["required"] or maker.random.random() < 0.5:
                query.append(f"{one['name']}={text}")
        return path + ("?" + "&".join(query) if query else "")

    def test_no_descriptor_leaks(self) -> None:
        """Many calls leave nothing behind."""
        self.ask("GET", "/healthz")
        before = self.proxy.descriptors()
        for _ in range(200):
            self.ask("GET", "/healthz")
        wait_until(lambda: self.proxy.descriptors() <= before + 2, 60, "connections to be closed")


class WrongTokenTests(BlackBoxTestCase):
    """What a client without a good token is told."""

    def test_unknown_database(self) -> None:
        """A proxyd without tokens' databases refuses a made-up one like any other password."""
        proxy = self.start_daemon(configuration({"open": open_service(self.database)}, api={}))

        def login() -> WireClient:
            return proxy.session("token", "db_5", "a.b.c")

        error = self.assertRaises(ServerError, login)
        self.assertIn(error.sqlstate, ("28P01", "3D000"))
