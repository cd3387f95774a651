"""
A whole proxyd whose upstreams are instances: curl and psql through Session Manager.

The services are in this process, so clients are programs, and the daemon is
started in a thread.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.threads import deferToThread
from twisted.internet.utils import getProcessOutputAndValue
from twisted.trial.unittest import SkipTest, TestCase
from twisted.web.resource import Resource
from twisted.web.server import Site
from twisted.web.static import Data

from tests.support.blackbox import configuration, open_service
from tests.support.daemon import Daemon, free_port
from tests.support.database import CLIENT, DATABASE, shared_database
from tests.support.sshd import Sshd, account, shared_keys
from tests.support.ssm_agent import Manners
from tests.support.ssm_peer import SsmPeer, Weather
from tests.support.streams import until

BODY = os.urandom(2_000_000)


class SsmDaemonTests(TestCase):
    """The seed's file in shape: one upstream with SSH inside, one that forwards."""

    timeout = 170

    async def asked(self, program: str, *words: str) -> bytes:
        """What a program prints."""
        path = shutil.which(program)
        if path is None:
            raise SkipTest(f"{program} is not on this machine")
        out, err, code = await getProcessOutputAndValue(path, words, os.environ)
        self.assertEqual(code, 0, err.decode(errors="replace"))
        return out

    async def stand(self, instances: dict[str, Manners], sshd: Sshd | None = None) -> Daemon:
        """
        A daemon over these instances.

        @ivar web: the port of a web server that is reached through them
        """
        self.peer = SsmPeer()
        self.addCleanup(self.peer.stop)
        self.peer.instances |= instances
        root = Resource()
        root.putChild(b"", Data(BODY, "application/octet-stream"))
        listening = reactor.listenTCP(0, Site(root), interface="127.0.0.1")  # type: ignore[attr-defined]
        self.addCleanup(listening.stopListening)
        self.web = listening.getHost().port
        folder = Path(self.mktemp()).resolve()
        folder.mkdir()
        (folder / "config").write_text("[default]\nregion = eu-central-1\n")
        (folder / "credentials").write_text(
            "[default]\naws_access_key_id = AKID\naws_secret_access_key = hush\n"
        )
        aws = {"profile": "default", "endpoint_url": self.peer.url}
        upstreams: dict[str, Any] = {"prod": {"aws": aws, "instances": list(instances)}}
        if sshd is not None:
            login = {"user": account(), "key": str(shared_keys() / "client")}
            upstreams["dev"] = {"ssh": login, "aws": aws, "instances": list(instances)}
            for manners in instances.values():
                manners.ports[22] = sshd.port
        self.socks = free_port()
        database = shared_database()
        connection = open_service(
            database, auth="trust", via="prod", max_open_connections=3, dsn=""
        )
        connection["dsn"] = open_service(database)["dsn"].replace(
            f"@{database.host}:{database.port}", "@db.prod.internal:5432"
        )
        for manners in instances.values():
            manners.names |= {"db.prod.internal": "127.0.0.1", "web.prod.internal": "127.0.0.1"}
            manners.ports[5432] = database.port
        text = configuration(
            {DATABASE: connection},
            socks5={"listen": [f"127.0.0.1:{self.socks}"]},
            upstreams=upstreams,
            routes=[
                {"match": "*.prod.internal", "upstream": "prod"},
                {"match": "127.0.0.0/8", "upstream": "dev" if sshd is not None else "prod"},
            ],
        )
        variables = {
            "AWS_CONFIG_FILE": str(folder / "config"),
            "AWS_SHARED_CREDENTIALS_FILE": str(folder / "credentials"),
            "AWS_EC2_METADATA_DISABLED": "true",
        }
        daemon = Daemon(text, variables=variables)
        self.addCleanup(daemon.remove)
        self.addCleanup(deferToThread, daemon.stop)
        await deferToThread(daemon.start)
        return daemon

    async def fetched(self, host: str) -> bytes:
        """A body, by curl through SOCKS5."""
        return await self.asked(
            "curl", "-sS", "--max-time", "100", "-H", "Connection: close", "--socks5-hostname",
            f"127.0.0.1:{self.socks}", f"http://{host}:{self.web}/",
        )  # fmt: skip

    def assert_body(self, body: bytes) -> None:
        """It is the whole one."""
        self.assertEqual(hashlib.sha256(body).digest(), hashlib.sha256(BODY).digest())

    async def test_both_upstreams(self) -> None:
        """curl by SSH inside a session, curl and psql by a session that forwards."""
        sshd = Sshd()
        self.addCleanup(sshd.remove)
        self.addCleanup(sshd.stop)
        sshd.start()
        daemon = await self.stand({"i-1": Manners()}, sshd)
        self.assert_body(await self.fetched("127.0.0.1"))
        self.assert_body(await self.fetched("web.prod.internal"))
        documents = {one.document for one in self.peer.sessions.values()}
        self.assertEqual(
            documents,
            {"AWS-StartSSHSession", "AWS-StartPortForwardingSessionToRemoteHost"},
        )
        await self.psql(daemon)

    async def psql(self, daemon: Daemon) -> None:
        """psql gets its answer."""
        dsn = f"postgresql://{CLIENT}@127.0.0.1:{daemon.port}/{DATABASE}?sslmode=disable"
        out = await self.asked("psql", dsn, "-AtXc", "SELECT count(*) FROM items")
        self.assertEqual(out.strip(), b"500")

    async def test_cut_killed_and_bad_weather(self) -> None:
        """Frames are lost and sockets cut in mid-transfer, and nobody notices; then a failover."""
        daemon = await self.stand({"i-1": Manners(), "i-2": Manners()})
        await self.psql(daemon)
        self.peer.weather = Weather(loss=0.01, repeat=0.05, reorder=0.05)
        fetching = self.asked_later("web.prod.internal")
        for _ in range(2):
            before = self.peer.api.asked.count("ResumeSession")
            sent = self.frames()
            await until(lambda sent=sent: self.frames() > sent + 300, "a part of the body")
            self.peer.cut()
            await until(
                lambda before=before: self.peer.api.asked.count("ResumeSession") > before,
                "a resume",
            )
        self.assert_body(await fetching)
        self.peer.weather = Weather()
        used = list(self.peer.sessions.values())[-1].manners
        name = next(name for name, one in self.peer.instances.items() if one is used)
        self.peer.kill(name)
        self.assert_body(await self.fetched("web.prod.internal"))
        self.assertIsNot(list(self.peer.sessions.values())[-1].manners, used)
        log = daemon.log_text()
        for secret in ("hush", "Credential="):
            self.assertNotIn(secret, log)

    def asked_later(self, host: str) -> Any:
        """A fetch that goes on meanwhile."""
        from twisted.internet.defer import Deferred

        return Deferred.fromCoroutine(self.fetched(host))

    def frames(self) -> int:
        """How many frames the agents have sent."""
        return sum(one.channel.next_number for one in self.peer.sessions.values())

    async def test_told(self) -> None:
        """An upstream that must be up and is not ends the start with its line."""
        peer = SsmPeer()
        self.addCleanup(peer.stop)
        folder = Path(self.mktemp()).resolve()
        folder.mkdir()
        aws = {"profile": "nobody", "endpoint_url": peer.url}
        text = json.dumps(
            {
                "listen": "127.0.0.1:0",
                "upstreams": {"dev": {"aws": aws, "instances": ["i-1"]}},
                "default": "dev",
            }
        )
        daemon = Daemon(text)
        self.addCleanup(daemon.remove)
        self.addCleanup(deferToThread, daemon.stop)
        try:
            await deferToThread(daemon.start)
            await deferToThread(daemon.wait_ended)
        except AssertionError:
            pass
        self.assertIn("The config profile (nobody) could not be found", daemon.log_text())
