"""Tests for L{proxyd.net.splice}: an End on a way that has no descriptor to lend."""

from __future__ import annotations

import hashlib
import os
import random
import socket
from typing import Any

from twisted.internet import reactor
from twisted.internet.threads import deferToThread

from proxyd.net.end import End
from proxyd.net.held import Held, end_for
from proxyd.net.line import CHUNK
from proxyd.net.relay import join
from proxyd.wire.pg.flow import Flow
from tests.net import test_relay as joins
from tests.net.conformance import MEGABYTE, Conformance
from tests.net.peers import LinkCase, Recorder, exchange, fill, read_all, reset, tcp_pair, until


class Way:
    """A TCP transport of Twisted's that keeps its descriptor to itself, as a way's stream."""

    def __init__(self, transport: Any) -> None:
        self._transport = transport

    def __getattr__(self, name: str) -> Any:
        return (lambda: None) if name == "getHandle" else getattr(self._transport, name)


class _Opened(Held):
    """One whose transport hides what it is."""

    def makeConnection(self, transport: Any) -> None:
        self.connected = 1
        self.transport = Way(transport)  # type: ignore[assignment]
        self.connectionMade()


class SpliceCase(LinkCase):
    """Makes Ends that are spliced to a stream."""

    def spliced(self, subject: Recorder | None = None) -> tuple[End, socket.socket, Held]:
        """An End, the socket at the far end of its way, and the way's protocol."""
        near, far = tcp_pair()
        self.fars.append(far)
        held = _Opened()
        near.setblocking(False)

        class OnlyOne:
            """Gives the reactor that protocol."""

            def buildProtocol(self, address: object) -> Held:
                return held

            def doStart(self) -> None:
                pass

            def doStop(self) -> None:
                pass

        reactor.adoptStreamConnection(near.fileno(), socket.AF_INET, OnlyOne())  # type: ignore[attr-defined]
        near.close()
        end = end_for(self.link, reactor, held, subject or self.subject)
        self.ends.append(end)
        return end, far, held


class SpliceConformance(SpliceCase, Conformance):
    """An End that is spliced to a stream, by the list that every End keeps."""

    async def stand(self, subject: Recorder | None = None) -> tuple[End, socket.socket]:
        end, far, _ = self.spliced(subject)
        end.resume()
        return end, far

    async def test_pause(self) -> None:
        """Paused, the writer stops after what the pair and the way hold; resumed, all comes."""
        end, far, _ = self.spliced()
        sent, quiet = 0, 0
        while quiet < 20:
            await deferToThread(lambda: None)
            taken = fill(far, bytes(60_000))
            sent, quiet = sent + taken, 0 if taken else quiet + 1
        self.assertEqual(end.received, 0)
        self.assertLess(sent, 24 * MEGABYTE)
        end.resume()
        await until(lambda: end.received == sent, "all bytes")


class SplicedJoinTests(SpliceCase):
    """A client joined to a server that is spliced to a stream: what two joined Ends promise."""

    relay = joins.JoinTests.relay
    test_relay_scanned = joins.JoinTests.test_relay_scanned
    test_full_both_ways = joins.JoinTests.test_full_both_ways
    test_half_close = joins.JoinTests.test_half_close
    test_part = joins.JoinTests.test_part
    test_carry = joins.JoinTests.test_carry
    test_exception = joins.JoinTests.test_exception

    def joined(self, flow: Flow | None = None) -> None:
        self.client, self.client_far = self.end()
        self.server, self.server_far, _ = self.spliced()
        self.server.resume()
        self.flow = flow
        scans = None if flow is None else (flow.client, flow.server)
        join(self.client, self.server, self.subject, flow, scans)

    async def test_bulk(self) -> None:
        """32 MB come through unchanged, and never does more than a chunk wait for the reader."""
        self.joined()
        most = await self.relay(b"up", os.urandom(MEGABYTE) * 32, 16384)
        self.assertLessEqual(most, CHUNK)
        self.assertEqual((self.client.sent, self.server.received), (32 * MEGABYTE, 32 * MEGABYTE))

    async def test_slow_by_turns(self) -> None:
        """Readers who stop and go on, each for itself: all comes both ways, in its order."""
        self.joined()
        seed = os.environ.get("PROXYD_SEED") or str(random.randrange(1 << 32))
        dice = random.Random(seed)
        data = dice.randbytes(MEGABYTE + 1) * 5
        fars = (self.client_far, self.server_far)
        given, got = [0, 0], [hashlib.sha256(), hashlib.sha256()]
        left = [len(data), len(data)]
        for far in fars:
            far.setblocking(False)

        def go_on() -> bool:
            for side, far in enumerate(fars):
                if dice.random() < 0.3:
                    continue
                size = dice.choice((1, 1000, 70_000, 2 * MEGABYTE))
                try:
                    given[side] += far.send(data[given[side] : given[side] + size])
                except BlockingIOError:
                    pass
                try:
                    part = far.recv(dice.choice((1, 5000, MEGABYTE)))
                except BlockingIOError:
                    continue
                got[side].update(part)
                left[side] -= len(part)
            return not any(left)

        def look() -> bool:
            return any(go_on() for _ in range(dice.choice((1, 1, 30))))

        await until(look, f"all bytes (PROXYD_SEED={seed})")
        expected = hashlib.sha256(data).hexdigest()
        self.assertEqual([one.hexdigest() for one in got], [expected] * 2, f"PROXYD_SEED={seed}")

    async def test_not_by_the_pair(self) -> None:
        """Where nothing waits, no byte goes through the pair, either way."""
        self.joined()
        splice: Any = self.server._owner
        pair, splice._pair, splice._near = (splice._pair, splice._near), None, None
        for _ in range(3):
            self.client_far.sendall(b"question")
            self.assertEqual(await deferToThread(self.server_far.recv, 100), b"question")
            self.server_far.sendall(b"answer")
            self.assertEqual(await deferToThread(self.client_far.recv, 100), b"answer")
        splice._pair, splice._near = pair
        self.assertEqual((self.server.received, self.server.sent), (18, 24))

    async def test_alert(self) -> None:
        """The flow's alert is told once, when what may be sent was given to the way."""
        flow = joins.new_flow()
        self.joined(flow)
        self.client_far.sendall(joins.QUERY + b"X\0\0\0\4" + joins.QUERY)
        await until(lambda: self.subject.events, "the alert")
        self.assertEqual(self.subject.events, [(self.client, "alerted")])
        self.assertEqual(await deferToThread(self.server_far.recv, 100), joins.QUERY)
        self.assertTrue(flow.client.stopped)

    async def test_write_while_joined(self) -> None:
        """What was written into a join goes first, and a way is given a chunk of it at a time."""
        self.joined()
        self.server.write(bytes(8 * MEGABYTE))
        self.assertGreaterEqual(self.server.pending, 8 * MEGABYTE - CHUNK)
        self.client_far.sendall(b"behind")
        self.client_far.shutdown(socket.SHUT_WR)
        self.subject.on_finished = lambda end: self.server.close()
        data = await deferToThread(read_all, self.server_far)
        self.assertEqual((len(data), data[-6:]), (8 * MEGABYTE + 6, b"behind"))


class SpliceTests(SpliceCase):
    """What a way in between must not change."""

    async def test_end_each_way(self) -> None:
        """A FIN passes through by itself, in either direction; then all is closed."""
        end, far, _ = self.spliced()
        other, other_far = self.end()
        join(other, end, self.subject, None, None)
        done: list[str] = []
        self.subject.on_finished = lambda which: (end if which is other else other).finish(
            lambda: done.append("fin")
        )
        other_far.sendall(b"question")
        other_far.shutdown(socket.SHUT_WR)
        self.assertEqual(await deferToThread(read_all, far), b"question")
        far.sendall(b"answer")
        far.shutdown(socket.SHUT_WR)
        self.assertEqual(await deferToThread(read_all, other_far), b"answer")
        await until(lambda: len(done) == 2, "both ends")
        end.drop()
        other.drop()

    async def test_written_then_closed(self) -> None:
        """What an End has sent before it closes arrives, however slowly the far end reads."""
        end, far, _ = self.spliced()
        data = bytes(range(256)) * 4096 * 4
        end.write(data)
        finished: list[bool] = []
        end.finish(lambda: finished.append(True))
        got = deferToThread(exchange, far, b"", len(data) + 1, 5000)
        await until(lambda: finished, "all sent")
        end.drop()
        self.assertEqual((await got)[0], len(data))

    async def test_closed_while_the_way_is_full(self) -> None:
        """An End that closes waits for nobody: what it has sent is the way's by then."""
        end, far, held = self.spliced()
        quiet = 0
        while quiet < 20:
            before = end.sent
            end.write(bytes(60_000))
            await deferToThread(lambda: None)
            quiet = 0 if end.sent != before else quiet + 1
        sent = end.sent
        end.drop()
        transport: Any = held.transport
        await until(lambda: transport.disconnecting, "the way to be closed")
        self.assertEqual(len(await deferToThread(read_all, far)), sent)

    async def test_reset_of_the_way(self) -> None:
        """A way that is lost is a loss, and not an end; bytes or none before it."""
        for early in (b"", b"some"):
            end, far, _ = self.spliced()
            end.resume()
            if early:
                far.sendall(early)
                await until(lambda end=end: self.subject.data.get(end), "the bytes")
            reset(far)
            await until(lambda end=end: self.subject.told(end), "the loss")
            (told,) = self.subject.told(end)
            self.assertEqual(told[:4], "gone")

    async def test_abort_resets_the_way(self) -> None:
        """An End that is aborted resets the far end."""
        end, far, _ = self.spliced()
        far.sendall(b"x")
        end.abort()
        error = await deferToThread(_error_of_reading, far)
        self.assertIsInstance(error, ConnectionResetError)


def _error_of_reading(far: socket.socket) -> BaseException | None:
    try:
        read_all(far)
    except OSError as error:
        return error
    return None
