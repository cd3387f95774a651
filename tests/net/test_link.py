"""Tests for L{proxyd.net.link}: real sockets, a real reactor."""

from __future__ import annotations

import hashlib
import os
import random
import select
import socket

from twisted.internet import reactor
from twisted.internet.defer import gatherResults
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import Clock
from twisted.internet.threads import deferToThread

from proxyd.net.link import CHUNK, End, join
from proxyd.wire.pg.flow import Flow
from tests.net.peers import (
    LinkCase,
    Recorder,
    exchange,
    fill,
    read_all,
    reset,
    take,
    unix_pair,
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


class Watched:
    """The flow of a join: only asks for attention."""

    alert = False


class TalkTests(LinkCase):
    """An End that talks gives its bytes to its subject."""

    async def test_both_ways(self) -> None:
        """What the peer sends is received, what is written reaches the peer; both are counted."""
        end, far = self.end()
        far.sendall(b"hello")
        end.write(b"good ")
        end.write(b"day")
        await until(lambda: self.subject.data.get(end) == b"hello", "the peer's bytes")
        self.assertEqual(await deferToThread(far.recv, 100), b"good day")
        self.assertEqual((end.received, end.sent, end.pending), (5, 8, 0))
        self.assertEqual((end.closed, end.stirring, self.link.ends), (False, False, 1))

    async def test_paused(self) -> None:
        """Paused, it reads nothing, and goes on where it was."""
        end, far = self.end(paused=True)
        other, other_far = self.end()
        far.sendall(b"one")
        await until(lambda: end.stirring, "the bytes to be there")
        other_far.sendall(b"turn")
        await until(lambda: other in self.subject.data, "the next turn of the link")
        self.assertNotIn(end, self.subject.data)
        end.resume()
        await until(lambda: self.subject.data.get(end) == b"one", "the bytes after all")
        end.pause()
        far.sendall(b"two")
        other_far.sendall(b"turn")
        await until(lambda: len(self.subject.data[other]) == 8, "another turn of the link")
        self.assertEqual(self.subject.data[end], b"one")
        end.resume()
        await until(lambda: self.subject.data[end] == b"onetwo", "the rest")

    async def test_half_close(self) -> None:
        """That the peer sends no more is told once; it can still be written to."""
        end, far = self.end()
        far.sendall(b"bye")
        far.shutdown(socket.SHUT_WR)
        await until(lambda: self.subject.events, "the end")
        self.assertEqual(self.subject.data[end], b"bye")
        end.pause()
        end.resume()
        end.write(b"still here")
        self.assertEqual(await deferToThread(far.recv, 100), b"still here")
        self.assertEqual(self.subject.told(end), ["finished"])
        self.assertTrue(end.stirring)
        end.drop()

    async def test_half_close_told_anew(self) -> None:
        """Whoever talks to it next learns of the end too."""
        end, far = self.end()
        far.shutdown(socket.SHUT_WR)
        await until(lambda: self.subject.events, "the end")
        second = Recorder()
        end.talk(second)
        end.resume()
        await until(lambda: second.events, "the end, again")
        self.assertEqual(second.told(end), ["finished"])
        self.assertEqual(self.subject.told(end), ["finished"])
        end.drop()

    async def test_reset(self) -> None:
        """A lost socket is told once, and nothing is left of the End."""
        end, far = self.end()
        reset(far)
        await until(lambda: self.subject.events, "the loss")
        end.write(b"too late")
        end.abort()
        end.drop()
        end.close(b"too late")
        self.assertEqual(len(self.subject.told(end)), 1)
        self.assertIn("gone: Connection reset by peer", self.subject.told(end))
        self.assertEqual(
            (end.closed, end.stirring, end.pending, self.link.ends), (True, True, 0, 0)
        )

    async def test_reset_while_paused(self) -> None:
        """A reset is noticed by an End that reads nothing, with bytes unread or not."""
        for unread in (b"", b"unread"):
            end, far = self.end(paused=True)
            far.sendall(unread)
            if unread:
                await until(lambda end=end: end.stirring, "the bytes to be there")
            reset(far)
            await until(lambda end=end: self.subject.told(end), "the loss")
            self.assertEqual(len(self.subject.told(end)), 1)
            self.assertNotIn(end, self.subject.data)

    async def test_reset_after_half_close(self) -> None:
        """A peer that ends in order and is then reset is lost too, though it is not read from."""
        end, far = self.end()
        far.shutdown(socket.SHUT_WR)
        await until(lambda: self.subject.events, "the end")
        reset(far)
        await until(lambda: len(self.subject.events) == 2, "the loss")
        self.assertEqual([event[:5] for event in self.subject.told(end)], ["finis", "gone:"])

    async def test_write_to_a_lost_peer(self) -> None:
        """To write to a peer that is gone is no exception: the loss is told."""
        end, far = self.end(paused=True)
        reset(far)
        end.write(b"x" * 100)
        await until(lambda: end.closed, "the loss")
        self.assertEqual(len(self.subject.told(end)), 1)

    async def test_backlog(self) -> None:
        """What the peer is too slow to read waits, in order."""
        end, far = self.end()
        sent = b"".join(bytes((number % 251,)) * 40_000 for number in range(200))
        for start in range(0, len(sent), 400_000):
            end.write(sent[start : start + 400_000])
        self.assertTrue(end.pending)
        got, digest = await deferToThread(exchange, far, b"", len(sent), 5000)
        self.assertEqual((got, digest), (len(sent), hashlib.sha256(sent).hexdigest()))
        self.assertEqual(end.sent, len(sent))

    async def test_stirring(self) -> None:
        """Bytes, an end and a reset all stir."""
        for stir in (lambda far: far.sendall(b"x"), lambda far: far.close(), reset):
            end, far = self.end(paused=True)
            self.assertFalse(end.stirring)
            stir(far)
            await until(lambda end=end: end.stirring, "it to stir")
            end.abort()

    async def test_exception(self) -> None:
        """An exception of one session's ends that session and no other."""
        good, good_far = self.end()
        for close in (lambda end: None, End.abort, End.drop, End.close):
            subject = Recorder()
            bad, bad_far = self.end(subject)

            def fail(end: End, data: bytes, close: object = close) -> None:
                close(end)  # type: ignore[operator]
                raise ZeroDivisionError

            subject.on_received = fail
            bad_far.sendall(b"x")
            good_far.sendall(b"y")
            await until(lambda bad=bad: bad.closed, "the bad session's end")
            self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
            told = ["gone: internal error"] if subject.events else []
            self.assertEqual(subject.told(bad), told)
        await until(lambda: self.subject.data[good] == b"yyyy", "the good session")
        self.assertEqual(self.subject.told(good), [])

    async def test_exception_in_gone(self) -> None:
        """Even who fails to be told of its end takes nobody along."""
        subject = Recorder()
        bad, far = self.end(subject)
        self.patch(subject, "received", None)
        self.patch(subject, "gone", None)
        far.sendall(b"x")
        await until(lambda: bad.closed, "the bad session's end")
        self.assertEqual(len(self.flushLoggedErrors(TypeError)), 2)
        good, good_far = self.end()
        good_far.sendall(b"y")
        await until(lambda: self.subject.data.get(good), "the good session")

    async def test_descriptor_used_again(self) -> None:
        """A number freed within one turn is not used again in it: no event goes astray."""
        one, one_far = self.end()
        two, two_far = self.end()
        numbers = {one._fd, two._fd}
        made: list[int] = []

        def kill_the_other(end: End, data: bytes) -> None:
            (two if end is one else one).drop()
            third, _ = self.end(pair=unix_pair)
            made.append(third._fd)

        self.subject.on_received = kill_the_other
        one_far.sendall(b"x")
        two_far.sendall(b"x")
        await until(lambda: made, "the turn")
        self.assertEqual(len(self.subject.data), 1)
        self.assertNotIn(made[0], numbers)

    async def test_borrowed(self) -> None:
        """A socket with an owner is ended by its owner, once, in the way that was asked for."""
        for way, wanted in ((End.drop, ["lose"]), (End.abort, ["abort"])):
            near, far = unix_pair()
            self.fars += [near, far]
            told: list[str] = []

            class Transport:
                def loseConnection(self, told: list[str] = told) -> None:
                    told.append("lose")

                def abortConnection(self, told: list[str] = told) -> None:
                    told.append("abort")

            end = End(self.link, near, Transport(), self.subject)
            way(end)
            end.abort()
            end.drop()
            self.assertEqual(told, wanted)
            self.assertGreaterEqual(near.fileno(), 0)

    async def test_stop(self) -> None:
        """To stop the link resets all its sockets, from within a callback too."""
        end, far = self.end()
        _, other_far = self.end()
        self.subject.on_received = lambda end, data: self.link.stop()
        far.sendall(b"x")
        await until(lambda: not self.link.ends, "the stop")
        with self.assertRaises(ConnectionResetError):
            await deferToThread(other_far.recv, 1)
        self.assertEqual(self.subject.events, [])
        self.assertEqual(self.link.fileno(), -1)


class CloseTests(LinkCase):
    """How an End is closed."""

    async def test_last_words(self) -> None:
        """Last words reach a peer that is still sending."""
        end, far = self.end(paused=True)
        fill(far, bytes(65536))
        end.close(b"last words")
        self.assertTrue(end.closed)
        got, _ = await deferToThread(exchange, far, bytes(MEGABYTE), 10, 100)
        self.assertEqual(got, 10)
        self.assertEqual(await deferToThread(far.recv, 1), b"")
        far.close()
        await until(lambda: not self.link.ends, "the End to be gone")
        self.assertEqual(self.subject.events, [])

    async def test_backlog_first(self) -> None:
        """What waits goes before the last words, as slowly as the peer reads."""
        end, far = self.end()
        end.write(bytes(8 * MEGABYTE))
        end.close(b"last words")
        self.assertEqual((end.closed, self.link.ends), (True, 1))
        data = await deferToThread(read_all, far)
        self.assertEqual((len(data), data[-10:]), (8 * MEGABYTE + 10, b"last words"))

    async def test_backlog_to_a_peer_that_sends_no_more(self) -> None:
        """The same when the peer has closed its own half before."""
        end, far = self.end()
        end.write(bytes(8 * MEGABYTE))
        far.shutdown(socket.SHUT_WR)
        await until(lambda: self.subject.events, "the end")
        end.close(b"last words")
        data = await deferToThread(read_all, far)
        self.assertEqual((len(data), data[-10:]), (8 * MEGABYTE + 10, b"last words"))
        await until(lambda: not self.link.ends, "the End to be gone")

    async def test_peer_lost_meanwhile(self) -> None:
        """A peer that is reset while last words are on their way is forgotten silently."""
        end, far = self.end()
        end.write(bytes(8 * MEGABYTE))
        end.close(b"last words")
        reset(far)
        await until(lambda: not self.link.ends, "the End to be gone")
        self.assertEqual(self.subject.events, [])

    async def test_twice(self) -> None:
        """Closing again says nothing more; an abort ends the waiting."""
        end, far = self.end()
        end.close(b"a")
        end.close(b"b")
        end.write(b"c")
        self.assertEqual(await deferToThread(read_all, far), b"a")
        end.abort()
        self.assertEqual(self.link.ends, 0)

    async def test_drop(self) -> None:
        """A drop is FIN at once."""
        end, far = self.end()
        end.drop()
        self.assertEqual(self.link.ends, 0)
        self.assertEqual(await deferToThread(far.recv, 1), b"")

    async def test_abort(self) -> None:
        """An abort is RST at once."""
        end, far = self.end()
        end.abort()
        self.assertEqual(self.link.ends, 0)
        with self.assertRaises(ConnectionResetError):
            await deferToThread(far.recv, 1)


class LingerTests(LinkCase):
    """Last words have a deadline."""

    linger = 5.0

    def clock(self) -> IReactorTime:
        """A clock that the test moves."""
        self.time = Clock()
        return self.time

    async def test_deadline(self) -> None:
        """A peer that never closes, or never reads, is reset when the time is over."""
        idle, _ = self.end()
        idle.close(b"last words")
        self.time.advance(1)
        full, _ = self.end()
        full.write(bytes(8 * MEGABYTE))
        full.close(b"last words")
        await until(lambda: idle._last, "the FIN")
        self.time.advance(3.9)
        self.assertEqual(self.link.ends, 2)
        self.time.advance(0.2)
        self.assertEqual(self.link.ends, 1)
        self.time.advance(1)
        self.assertEqual(self.link.ends, 0)
        self.assertEqual(self.time.getDelayedCalls(), [])

    async def test_no_deadline_left(self) -> None:
        """A peer that closes in time leaves nothing behind."""
        end, far = self.end()
        end.close(b"last words")
        far.close()
        await until(lambda: not self.link.ends, "the End to be gone")
        self.time.advance(10)
        self.assertEqual(self.time.getDelayedCalls(), [])


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
            await until(lambda: select.select([self.server_far], [], [], 0)[0], "the query")
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


class ReactorTests(LinkCase):
    """The link is one descriptor among the reactor's."""

    def test_named(self) -> None:
        """It tells the reactor's log its name, and outlives being let go."""
        self.assertEqual(self.link.logPrefix(), "link")
        self.link.connectionLost(None)
        self.assertIn(self.link, reactor.getReaders())  # type: ignore[attr-defined]
