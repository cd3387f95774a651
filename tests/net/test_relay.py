"""Tests for L{proxyd.net.relay}: two joined Ends, on real sockets."""

from __future__ import annotations

import hashlib
import os
import random
import socket

from twisted.internet.defer import gatherResults
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import Clock
from twisted.internet.threads import deferToThread

from proxyd.net.end import End
from proxyd.net.line import CHUNK
from proxyd.net.relay import join
from proxyd.wire.pg.flow import Flow
from tests.net.peers import (
    LinkCase,
    Recorder,
    exchange,
    fill,
    read_all,
    readable,
    reset,
    take,
    until,
)

HEADER = 5
MEGABYTE = 1 << 20
READY = b"Z\0\0\0\5I"
QUERY = b"Q\0\0\0\x0dselect 1\0"
FATAL = b"E\0\0\0\x15SFATAL\0C57P01\0\0\0\0"


def rows(size: int) -> bytes:
    """About so many bytes of DataRow messages of all sizes, and a ReadyForQuery."""
    dice, parts, left = random.Random(7), [], size
    while left > 0:
        length = dice.choice((0, 3, 40, 900, 20_000, 300_000))
        parts.append(b"D" + (length + 4).to_bytes(4, "big") + bytes((length % 251,)) * length)
        left -= length + 5
    return b"".join(parts) + READY


def new_flow() -> Flow:
    """A flow whose parameters and errors nobody wants."""
    return Flow(lambda body: None, lambda body: None)


class JoinTests(LinkCase):
    """What one of two joined Ends receives, the other sends."""

    def joined(self, flow: Flow | None = None) -> None:
        """A client and a server, each with its far end."""
        self.client, self.client_far = self.end()
        self.server, self.server_far = self.end()
        self.flow = flow
        scans = None if flow is None else (flow.client, flow.server)
        join(self.client, self.server, self.subject, flow, scans)

    async def relay(self, up: bytes, down: bytes, bite: int) -> int:
        """Send both ways at the same time, and compare; the most that ever waited in one End."""
        most = 0

        def look() -> bool:
            nonlocal most
            most = max(most, self.client.pending, self.server.pending)
            return bool(done)

        done: list[object] = []
        moving = gatherResults(
            [
                deferToThread(exchange, self.client_far, up, len(down), bite),
                deferToThread(exchange, self.server_far, down, len(up), bite),
            ]
        )
        moving.addBoth(done.append)
        await until(look, "the relay")
        self.assertEqual(
            done[0],
            [(len(data), hashlib.sha256(data).hexdigest()) for data in (down, up)],
        )
        return most

    async def test_relay(self) -> None:
        """64 MB come through a slow reader unchanged, in the memory of one chunk."""
        self.joined()
        most = await self.relay(b"up", os.urandom(MEGABYTE) * 64, 16384)
        self.assertTrue(most, "the reader was not slow enough")
        self.assertLessEqual(most, CHUNK)
        self.assertEqual(self.client.sent, 64 * MEGABYTE)
        self.assertEqual(self.server.received, 64 * MEGABYTE)

    async def test_relay_scanned(self) -> None:
        """The same both ways with message borders watched; the flow has seen them all."""
        self.joined(new_flow())
        up = QUERY + (b"d\0\1\0\0" + bytes(65532)) * 200
        most = await self.relay(up, rows(16 * MEGABYTE), 8192)
        self.assertLessEqual(most, CHUNK + HEADER)
        assert self.flow is not None
        self.assertEqual(self.flow.doubt, "")
        self.assertTrue(self.flow.reusable)
        self.assertEqual(self.subject.events, [])

    async def test_full_both_ways(self) -> None:
        """With every buffer full in both directions, nothing is stuck once the peers read."""
        self.joined()
        sent = {"up": 0, "down": 0}

        def stuffed() -> bool:
            up = fill(self.client_far, b"u" * 65536)
            down = fill(self.server_far, b"d" * 65536)
            sent["up"] += up
            sent["down"] += down
            return bool(not up and not down and self.client.pending and self.server.pending)

        await until(stuffed, "all buffers to be full")
        self.assertLessEqual(max(self.client.pending, self.server.pending), CHUNK)
        more = os.urandom(MEGABYTE)
        down = b"d" * sent["down"] + more
        up = b"u" * sent["up"] + more
        got = await gatherResults(
            [
                deferToThread(exchange, self.client_far, more, len(down), 65536),
                deferToThread(exchange, self.server_far, more, len(up), 65536),
            ]
        )
        self.assertEqual(
            got, [(len(data), hashlib.sha256(data).hexdigest()) for data in (down, up)]
        )

    async def test_half_close(self) -> None:
        """The client's end is told once, after all its bytes came through; answers still flow."""
        self.joined()
        self.client_far.sendall(bytes(MEGABYTE))
        self.client_far.shutdown(socket.SHUT_WR)
        got, _ = await deferToThread(exchange, self.server_far, b"", MEGABYTE, 4096)
        self.assertEqual(got, MEGABYTE)
        await until(lambda: self.subject.events, "the end")
        got, _ = await gatherResults(
            [
                deferToThread(exchange, self.client_far, b"", 4 * MEGABYTE, 4096),
                deferToThread(exchange, self.server_far, bytes(4 * MEGABYTE), 0, 1),
            ]
        )
        self.assertEqual(got[0], 4 * MEGABYTE)
        self.assertEqual(self.subject.events, [(self.client, "finished")])
        self.client.drop()
        self.server.drop()

    async def test_lost(self) -> None:
        """When one of the two is lost it is told once; the other is there, paused, and talks."""
        self.joined()
        reset(self.client_far)
        await until(lambda: self.subject.events, "the loss")
        self.assertEqual(self.subject.events, [(self.client, "gone: Connection reset by peer")])
        self.assertEqual((self.client.closed, self.server.closed), (True, False))
        self.server_far.sendall(b"more")
        self.server.resume()
        await until(lambda: self.subject.data.get(self.server) == b"more", "the server's bytes")

    async def test_lost_while_paused(self) -> None:
        """A client that is reset while the server is too slow for it is noticed at once."""
        self.joined()
        await until(
            lambda: fill(self.client_far, bytes(65536)) == 0 and self.server.pending,
            "the client to be paused",
        )
        reset(self.client_far)
        await until(lambda: self.subject.events, "the loss")
        self.assertEqual(self.subject.told(self.client), ["gone: Connection reset by peer"])
        self.assertEqual(self.subject.told(self.server), [])

    async def test_servers_last_words(self) -> None:
        """What a server said just before it closed reaches a client that is sending."""
        for order in range(4):
            self.subject.events.clear()
            self.joined(new_flow())
            self.client_far.sendall(QUERY)
            await until(lambda: readable(self.server_far), "the query")
            # All in one turn: the server's close has unread bytes, so it is a reset.
            if order & 1:
                self.client_far.sendall(QUERY)
            self.server_far.sendall(FATAL)
            self.server_far.close()
            if not order & 1:
                self.client_far.sendall(QUERY)
            if order & 2:
                self.server.write(QUERY)
            else:
                await until(lambda: self.subject.told(self.server), "the loss")
                self.assertEqual(
                    await deferToThread(self.client_far.recv, len(FATAL)), FATAL, order
                )
            await until(lambda: self.subject.told(self.server), "the loss")
            self.assertEqual(len(self.subject.told(self.server)), 1)
            self.assertEqual(self.subject.told(self.client), [])
            self.client.close()
            self.client_far.close()

    async def test_part(self) -> None:
        """Parted, both talk again and are paused; a header held back can be taken."""
        self.joined(new_flow())
        self.client_far.sendall(QUERY + b"Q\0\0")
        self.assertEqual(await deferToThread(self.server_far.recv, 100), QUERY)
        await until(lambda: self.client.held, "the unfinished header")
        self.server_far.sendall(READY)
        self.assertEqual(await deferToThread(self.client_far.recv, 100), READY)
        second = Recorder()
        self.client.part(second)
        self.assertEqual(self.client.take_held(), b"Q\0\0")
        self.assertEqual((self.client.take_held(), self.client.held), (b"", 0))
        self.client_far.sendall(b"to second")
        self.server_far.sendall(b"to second too")
        other, other_far = self.end()
        other_far.sendall(b"turn")
        await until(lambda: other in self.subject.data, "a turn of the link")
        self.assertEqual(second.data, {})
        self.client.resume()
        self.server.resume()
        await until(lambda: len(second.data) == 2, "both to talk")
        self.assertEqual(second.data, {self.client: b"to second", self.server: b"to second too"})

    async def test_part_with_a_backlog(self) -> None:
        """What one had to send when they were parted is still sent."""
        self.joined()
        sent = 0

        def stuffed() -> bool:
            nonlocal sent
            more = fill(self.client_far, b"u" * 65536)
            sent += more
            return not more and bool(self.server.pending)

        await until(stuffed, "the client to be paused")
        self.client.part(self.subject)
        self.client.resume()
        got = 0

        def read() -> bool:
            nonlocal got
            got += len(take(self.server_far))
            return got + len(self.subject.data.get(self.client, b"")) == sent

        await until(read, "all bytes, by either way")
        self.assertTrue(self.subject.data[self.client])
        self.assertEqual(self.server.pending, 0)

    async def test_join_with_a_backlog(self) -> None:
        """An End with bytes waiting is joined: its new peer is not read before they are sent."""
        client, client_far = self.end()
        server, server_far = self.end()
        server.write(bytes(8 * MEGABYTE))
        join(client, server, self.subject, None, None)
        waited = server.pending
        client_far.sendall(b"behind")
        client_far.shutdown(socket.SHUT_WR)
        self.subject.on_finished = lambda end: server.close()
        data = await deferToThread(read_all, server_far)
        self.assertTrue(waited)
        self.assertEqual((len(data), data[-6:]), (8 * MEGABYTE + 6, b"behind"))

    async def test_write_while_joined(self) -> None:
        """What was written into a join goes before what the peer sends meanwhile."""
        self.joined()
        self.server.write(bytes(8 * MEGABYTE))
        waits = self.server.pending
        self.client_far.sendall(b"behind")
        self.server_far.sendall(b"turn")
        self.assertEqual(await deferToThread(self.client_far.recv, 4), b"turn")
        self.assertEqual((self.server.pending, self.client.received), (waits, 0))
        self.client_far.shutdown(socket.SHUT_WR)
        self.subject.on_finished = lambda end: self.server.close()
        data = await deferToThread(read_all, self.server_far)
        self.assertEqual((len(data), data[-6:]), (8 * MEGABYTE + 6, b"behind"))

    async def test_carry(self) -> None:
        """Bytes received before the join go first, and are watched and counted as all are."""
        flow = new_flow()
        self.joined(flow)
        self.client.carry(QUERY + QUERY[:3])
        self.client_far.sendall(QUERY[3:])
        got, _ = await deferToThread(exchange, self.server_far, b"", 2 * len(QUERY), 100)
        self.assertEqual(got, 2 * len(QUERY))
        self.server_far.sendall(READY)
        await until(lambda: flow.ready_count == 1, "an answer")
        self.assertFalse(flow.answered)
        self.server_far.sendall(READY)
        await until(lambda: flow.ready_count == 2, "the other answer")
        self.assertTrue(flow.reusable)
        self.assertEqual(self.server.sent, 2 * len(QUERY))

    async def test_alert(self) -> None:
        """The flow's alert is told once for each time, when what may be sent was sent."""
        flow = new_flow()
        self.joined(flow)
        seen: list[bytes] = []
        self.subject.on_alert = lambda end: seen.append(take(self.server_far))
        self.client_far.sendall(QUERY + b"X\0\0\0\4" + QUERY)
        await until(lambda: self.subject.events, "the alert")
        self.assertEqual(seen, [QUERY])
        self.assertEqual(self.subject.events, [(self.client, "alerted")])
        self.assertTrue(flow.client.stopped)
        self.assertFalse(flow.alert)

    async def test_pause_is_kept(self) -> None:
        """An End that its subject paused stays so, whatever its peer sends meanwhile."""
        self.joined()
        sent = 0

        def stuffed() -> bool:
            nonlocal sent
            more = fill(self.client_far, b"u" * 65536)
            sent += more
            return not more and bool(self.server.pending)

        await until(stuffed, "the client to be full")
        self.client.pause()
        received = self.client.received
        got, _ = await deferToThread(exchange, self.server_far, b"", received, 65536)
        await until(lambda: not self.server.pending, "the backlog to be sent")
        self.server_far.sendall(b"turn")
        self.assertEqual(await deferToThread(self.client_far.recv, 4), b"turn")
        self.assertEqual((got, self.client.received), (received, received))
        self.client.resume()
        got, _ = await deferToThread(exchange, self.server_far, b"", sent - received, 65536)
        self.assertEqual(got, sent - received)

    async def test_resume_is_not_forced(self) -> None:
        """An End whose peer is full is not read from, though its subject resumes it."""
        self.joined()
        await until(
            lambda: fill(self.client_far, bytes(65536)) == 0 and self.server.pending,
            "the client to be full",
        )
        waits = self.server.pending
        for _ in range(3):
            self.client.resume()
            self.server_far.sendall(b"turn")
            self.assertEqual(await deferToThread(self.client_far.recv, 4), b"turn")
        self.assertEqual(self.server.pending, waits)

    async def test_exception(self) -> None:
        """An exception in a joined session ends the End it came by; the other one is told apart."""
        flow = new_flow()
        self.joined(flow)

        def fail(end: End) -> None:
            raise ZeroDivisionError

        self.subject.on_alert = fail
        self.client_far.sendall(b"X\0\0\0\4")
        await until(lambda: self.client.closed, "the end")
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEqual(
            self.subject.events, [(self.client, "alerted"), (self.client, "gone: internal error")]
        )
        self.assertFalse(self.server.closed)

    async def test_close_one(self) -> None:
        """To close one of the two parts them: last words to it, silence to the other."""
        self.joined()
        self.client.close(b"last words")
        self.server_far.sendall(b"late")
        self.assertEqual(await deferToThread(read_all, self.client_far), b"last words")
        self.assertFalse(self.server.closed)
        self.server.resume()
        await until(lambda: self.subject.data.get(self.server) == b"late", "the server to talk")


class LimitTests(LinkCase):
    """A join that may go so fast and no faster."""

    def clock(self) -> IReactorTime:
        """A clock that only the test moves."""
        self.time = Clock()
        return IReactorTime(self.time)

    async def test_limit(self) -> None:
        """What is too fast waits for its time, in one direction only; nothing is lost."""
        client, client_far = self.end()
        server, server_far = self.end()
        client.limit(1000)
        join(client, server, self.subject, None, None)
        client_far.sendall(b"a" * 3000)
        await until(lambda: client.received == 3000, "the first bytes")
        client_far.sendall(b"b" * 10)
        server_far.sendall(b"c" * 5000)
        await until(lambda: server.received == 5000, "the other direction")
        self.time.advance(2.8)
        server_far.sendall(b"d")
        await until(lambda: server.received == 5001, "a turn of the link")
        self.assertEqual(client.received, 3000)
        self.time.advance(0.2)
        await until(lambda: client.received == 3010, "the rest")

    async def test_end(self) -> None:
        """An End that is closed while it waits leaves nothing behind."""
        client, client_far = self.end()
        server, _ = self.end()
        client.limit(10)
        join(client, server, self.subject, None, None)
        client_far.sendall(b"a" * 100)
        await until(lambda: client.received == 100, "the bytes")
        client.drop()
        self.assertEqual(self.time.getDelayedCalls(), [])
