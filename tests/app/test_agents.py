"""Tests for L{proxyd.app.agents}: agents as a room of the daemon."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from twisted.internet.task import Clock

from proxyd.agents.ports import Port
from proxyd.app.agents import AgentsRoom
from proxyd.config.agents_model import Agents, AgentTls, ReversePort
from proxyd.config.model import Config, Listener
from proxyd.config.ways import Upstream
from proxyd.errors import StartError
from tests.app.built import DaemonTestCase

HERE = Listener("127.0.0.1:0", "tcp", "127.0.0.1", 0)
ANYWHERE = Listener("0.0.0.0:0", "tcp", "0.0.0.0", 0)
PORT = ReversePort(("pc1",), "192.168.1.100", 3389, 13389)


class AgentsRoomTests(DaemonTestCase):
    """Built and not started."""

    def room(self, **settings: Any) -> AgentsRoom:
        """The room of a daemon with agents."""
        agents = replace(Agents(listen=(HERE,)), **settings)
        daemon = self.built(Config(agents=agents))
        (room,) = [one for one in daemon.rooms if isinstance(one, AgentsRoom)]
        return room

    def test_absent(self) -> None:
        """Without the section there is no such room."""
        rooms = self.built(Config()).rooms
        self.assertFalse(any(isinstance(one, AgentsRoom) for one in rooms))

    def test_tls(self) -> None:
        """On loopback none is needed; elsewhere it is proxyd's own, with a pin to give away."""
        self.assertEqual(self.room()._pin(), "")
        self.assertEqual(self.room(listen=(ANYWHERE,), tls=AgentTls("disable"))._pin(), "")
        own = self.room(listen=(ANYWHERE,))._pin()
        self.assertRegex(own, "^sha256:[0-9a-f]{64}$")
        self.assertEqual(self.room(tls=AgentTls("require"))._pin(), own)
        with self.assertRaises(StartError):
            self.room(tls=AgentTls("require", "/none/c.pem", "/none/k.pem"))

    def test_told(self) -> None:
        """What it says of itself."""
        room = self.room(proxies=(PORT,))
        self.assertEqual(room.places(), ("agents at 127.0.0.1:0",))
        self.assertEqual((room.left(), room.descriptors(Config())), (0, (0, 0)))
        names = ["agents_connected", "agents_lost", "agent_strangers_turned_away"]
        self.assertEqual([one.name for one in room.figures()], names)
        self.assertEqual(len(room.resources()), 2)

    def test_statistics(self) -> None:
        """Once a minute a line for each port that has had users."""
        room = self.room()
        port = Port("a", PORT, room.agents, Clock(), lambda: 1)
        room.proxies._ports["a"] = port
        self.assertEqual(list(room.statistics()), [])
        port.total = 2
        port.errors["refused"] += 1
        ((text, fields),) = room.statistics()
        self.assertEqual(
            text.format(**fields),
            "port 127.0.0.1:13389 -> 192.168.1.100:3389: 0 users now, 2 so far, "
            "0 bytes in, 0 bytes out, 1 errors",
        )

    def test_figures(self) -> None:
        """What Prometheus reads of a port, while its users are there."""
        room = self.room()
        port = Port("a", PORT, room.agents, Clock(), lambda: 1)
        room.proxies._ports["a"] = port
        port.total = 2
        port.errors["refused"] += 1
        labels = {"port": "13389"}
        found = [(one.name, one.value, one.labels) for one in room.figures()][3:]
        self.assertEqual(
            found,
            [
                ("reverse_port_users", 0, labels),
                ("reverse_port_opened", 2, labels),
                ("reverse_port_bytes", 0, {**labels, "direction": "in"}),
                ("reverse_port_bytes", 0, {**labels, "direction": "out"}),
                ("reverse_port_errors", 1, {**labels, "kind": "refused"}),
            ],
        )

    def test_upstream(self) -> None:
        """An upstream of the configuration that leads through agents."""
        upstream = self.room().upstream(Upstream("office", agents=("pc1",), resolve="local"))
        self.assertEqual((upstream.name, upstream.resolves), ("office", "local"))

    def test_no_room_for_an_upstream(self) -> None:
        """One without the section is a line at the start."""
        config = Config(upstreams={"office": Upstream("office", agents=("pc1",))})
        daemon = self.built(config)
        with self.assertRaises(StartError) as caught:
            daemon.ways.prepare(config)
        self.assertIn("leads through agents, and none can come", str(caught.exception))
