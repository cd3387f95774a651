"""Tests for L{proxyd.ssh.client}: against a real OpenSSH server, and against none."""

from __future__ import annotations

import signal
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.protocol import Factory, Protocol

from proxyd.config.times import LINGER, PulseTimes
from proxyd.errors import DialFailure
from proxyd.net.failover import WayLost
from proxyd.ssh import client as clients
from proxyd.ssh import packets
from proxyd.ssh.client import SshClient
from proxyd.ssh.known_hosts import fingerprint
from proxyd.target import Target
from tests.ssh.scene import PULSE, Echo, SshCase
from tests.support.streams import MEGABYTE, Party, Pump, until


class AgreeTests(SshCase):
    """What is agreed on with which server."""

    async def echoed(self, *options: str) -> str:
        """Send a megabyte to and fro under these options; what the server's log says."""
        server = self.sshd("LogLevel DEBUG", *options)
        channels = await self.connect(server)
        party = Party()
        target = await self.target()
        await channels.open(target, "192.0.2.9", Factory.forProtocol(lambda: party))  # type: ignore[arg-type]
        pump = Pump(party.stream, MEGABYTE)
        await until(lambda: party.received == MEGABYTE, "the echo")
        self.assertEqual(party.digest.digest(), pump.digest.digest())
        party.stream.loseConnection()
        await until(lambda: party.lost and not channels.count, "the end")
        return server.log_text()

    async def test_ciphers_and_macs(self) -> None:
        """Each cipher and MAC that we offer is understood by OpenSSH."""
        for number, cipher in enumerate(SshClient.supportedCiphers):
            mac = SshClient.supportedMACs[number % len(SshClient.supportedMACs)]
            log = await self.echoed(f"Ciphers {cipher.decode()}", f"MACs {mac.decode()}")
            self.assertIn(f"kex: client->server cipher: {cipher.decode()}", log)

    async def test_key_exchanges_and_host_keys(self) -> None:
        """Each key exchange and host key algorithm, too."""
        for exchange in clients.algorithms.KEY_EXCHANGES:
            server = self.sshd(f"KexAlgorithms {exchange.decode()}")
            await self.connect(server)
        for algorithm in clients.algorithms.HOST_KEYS:
            if b"384" in algorithm or b"521" in algorithm:
                continue  # the server has one key of each kind
            await self.connect(self.sshd(f"HostKeyAlgorithms {algorithm.decode()}"))

    async def test_fastest_first(self) -> None:
        """Left to itself it takes GCM, with the strict key exchange."""
        log = await self.echoed()
        self.assertIn("cipher: aes128-gcm@openssh.com MAC: <implicit>", log)
        self.assertIn("resetting read seqnr", log)

    async def test_nothing_in_common(self) -> None:
        """Both lists are named."""
        server = self.sshd("Ciphers chacha20-poly1305@openssh.com")
        why = await self.refused(self.connect(server))
        self.assertIn("no common cipher: it offers chacha20-poly1305@openssh.com; we speak", why)


class HostKeyTests(SshCase):
    """Whether the server is the one it should be."""

    async def test_known_by_any_type(self) -> None:
        """Whichever of its keys is known, that one is asked for."""
        server = self.sshd()
        for kind in ("ed25519", "ecdsa", "rsa"):
            line = f"[{server.host}]:{server.port} {server.host_key(kind)}"
            await self.connect(
                server, self.account(server, host_keys=self.host_keys(line, learn=False))
            )

    async def test_changed(self) -> None:
        """Another key than the known one: refused, before anything of ours is shown."""
        server, other = self.sshd(host_keys=["ed25519"]), self.sshd()
        line = f"[{server.host}]:{server.port} {other.host_key('ecdsa')}"
        keys = self.host_keys(line)
        why = await self.refused(self.connect(server, self.account(server, host_keys=keys)))
        self.assertIn(f"{keys.path}:1", why)
        self.assertIn("is not the one that is known", why)
        self.assertNotIn("publickey", server.log_text())

    async def test_first_sight(self) -> None:
        """At first sight it is kept, and from then on it is that one."""
        server = self.sshd()
        keys = self.host_keys()
        await self.connect(server, self.account(server, host_keys=keys))
        self.assertIn(server.host_key(), keys.path.read_text())
        self.assertIn("SHA256:", fingerprint(b"\0\0\0\x01x"))
        await self.connect(server, self.account(server, host_keys=keys))


class LifeTests(SshCase):
    """How a connection begins and ends."""

    async def test_no_ssh_server(self) -> None:
        """What is no SSH server is said to be none, or hangs up."""

        class Http(Protocol):
            def connectionMade(self) -> None:
                self.stream.write(b"HTTP/1.0 400 Bad Request\r\n" * 1000)

            @property
            def stream(self) -> Any:
                return self.transport

        class Old(Http):
            def connectionMade(self) -> None:
                self.stream.write(b"SSH-1.5-ancient\r\n")

        class Deaf(Http):
            def connectionMade(self) -> None:
                self.stream.loseConnection()

        for protocol, words in (
            (Http, "no SSH server"),
            (Old, "SSH-1.5-ancient"),
            (Deaf, "it hung up"),
        ):
            target = await self.target(protocol)
            server = self.sshd()
            server.port = target.port
            self.assertIn(words, await self.refused(self.connect(server)))

    async def test_given_up(self) -> None:
        """Cancelled while it waits, it is aborted and leaves nothing."""
        target = await self.target(Protocol)  # says nothing
        server = self.sshd()
        account = self.account(server)
        made: list[SshClient] = []

        def client() -> SshClient:
            made.append(SshClient(account, PULSE, reactor))  # type: ignore[arg-type]
            return made[-1]

        endpoint = TCP4ClientEndpoint(reactor, target.host, target.port)  # type: ignore[no-untyped-call]
        await endpoint.connect(Factory.forProtocol(client))
        made[0].ready.cancel()
        try:
            await made[0].ready
        except CancelledError:
            pass
        else:
            self.fail("not cancelled")
        await until(lambda: made[0]._lost, "the end of the connection")

    async def test_killed(self) -> None:
        """A server that dies is a loss for all streams and openings, told at once."""
        server = self.sshd()
        channels = await self.connect(server)
        party = Party()
        await channels.open(await self.target(), "", Factory.forProtocol(lambda: party))  # type: ignore[arg-type]
        server.signal(signal.SIGSTOP)
        opening = channels.open(Target("127.0.0.1", 1), "", Factory.forProtocol(Party))
        server.stop()
        await until(lambda: party.lost, "the loss")
        problem = await self.dial_fails(opening)
        self.assertIsInstance(problem, WayLost)
        self.assertIs(problem.failure, DialFailure.LOST)
        self.assertEqual((type(party.reason).__name__, channels.count), ("ConnectionLost", 0))
        late = await self.dial_fails(channels.open(Target("::1", 1), "", Factory()))
        self.assertIsInstance(late, WayLost)

    async def test_silent_death(self) -> None:
        """A server that stands still is given up after interval and patience."""
        server = self.sshd()
        channels = await self.connect(server, pulse=PulseTimes(interval=0.2, patience=0.3))
        clock_before = reactor.seconds()  # type: ignore[attr-defined]
        server.signal(signal.SIGSTOP)
        why = await channels.gone
        self.assertIn("no sign of life", why)
        self.assertGreater(reactor.seconds() - clock_before, 0.25)  # type: ignore[attr-defined]
        server.signal(signal.SIGCONT)

    async def test_quiet_is_no_death(self) -> None:
        """A server that has nothing to say answers when it is asked."""
        server = self.sshd()
        channels = await self.connect(server, pulse=PulseTimes(interval=0.01, patience=30.0))
        asked: list[float] = []
        ask = channels.ask_for_life

        def counted() -> None:
            asked.append(0.0)
            ask()

        channels.ask_for_life = counted  # type: ignore[method-assign]
        await until(lambda: len(asked) > 5, "some questions")
        self.assertEqual(channels.why_lost, "")
        self.assertLess(channels.round_trip, LINGER)


class RekeyTests(SshCase):
    """New keys in the midst of everything, asked for by either side."""

    async def test_by_the_server(self) -> None:
        """A server that renews its keys every 300 kB, under load both ways."""
        await self.exchanged(self.sshd("RekeyLimit 300K", "LogLevel DEBUG"), 0)

    async def test_by_us(self) -> None:
        """We renew them, again and again, under load both ways."""
        # What a window holds may be on its way when it is time: there must be many windows.
        await self.exchanged(self.sshd("LogLevel DEBUG"), 300 * 1024, 8 * MEGABYTE)

    async def test_by_both(self) -> None:
        """Both at once."""
        await self.exchanged(self.sshd("RekeyLimit 200K", "LogLevel DEBUG"), 200 * 1024)

    async def test_other_suites(self) -> None:
        """The same with a cipher whose packets have numbers in their MACs."""
        for mac in ("hmac-sha2-256", "hmac-sha2-256-etm@openssh.com"):
            options = ("RekeyLimit 300K", "Ciphers aes128-ctr", f"MACs {mac}", "LogLevel DEBUG")
            await self.exchanged(self.sshd(*options), 400 * 1024)

    async def exchanged(self, server: Any, ours: int, size: int = 2 * MEGABYTE) -> None:
        """Send some megabytes to and fro; all come, and the keys were renewed often."""
        if ours:
            self.patch(packets, "REKEY_BYTES", ours)
        channels = await self.connect(server)
        target = await self.target()
        parties = [Party(), Party()]
        for party in parties:
            await channels.open(target, "", Factory.forProtocol(lambda party=party: party))  # type: ignore[misc, arg-type]
        pumps = [Pump(party.stream, size) for party in parties]
        for party, pump in zip(parties, pumps, strict=True):
            await until(lambda party=party: party.received == size, "the echo")  # type: ignore[misc]
            self.assertEqual(party.digest.digest(), pump.digest.digest())
            party.stream.loseConnection()
        await until(lambda: not channels.count, "the end")
        self.assertGreater(server.log_text().count("SSH2_MSG_NEWKEYS received"), 4)


class HoldTests(SshCase):
    """While keys are exchanged nothing piles up."""

    async def test_writer_waits(self) -> None:
        """A writer is paused while the server does not answer to our new keys."""
        server = self.sshd()
        channels = await self.connect(server)
        party = Party()
        target = await self.target(Echo)
        await channels.open(target, "", Factory.forProtocol(lambda: party))  # type: ignore[arg-type]
        server.signal(signal.SIGSTOP)
        channels._client.exchange_again()
        pump = Pump(party.stream, 64 * MEGABYTE)
        paused: Deferred[None] = until(lambda: pump.paused, "the pause")
        await paused
        self.assertLess(pump.sent, MEGABYTE)
        self.assertLess(party.stream.pending, MEGABYTE)
        pump.stopped = True
        server.signal(signal.SIGCONT)
        await until(lambda: party.received == pump.sent, "the echo")
        party.stream.loseConnection()
        await until(lambda: not channels.count, "the end")
