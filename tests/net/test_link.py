"""Tests for L{proxyd.net.link}: real sockets, a real reactor."""

from __future__ import annotations

import hashlib
import select
import socket

from twisted.internet import reactor
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import Clock
from twisted.internet.threads import deferToThread

from proxyd.net.end import End
from tests.net.conformance import Conformance
from tests.net.peers import (
    LinkCase,
    Recorder,
    exchange,
    fill,
    read_all,
    reset,
    tcp_pair,
    unix_pair,
    until,
)

MEGABYTE = 1 << 20


class TcpConformance(Conformance):
    """An End on TCP."""

    async def stand(self, subject: Recorder | None = None) -> tuple[End, socket.socket]:
        return self.end(subject)


class UnixConformance(Conformance):
    """An End on a UNIX socket."""

    async def stand(self, subject: Recorder | None = None) -> tuple[End, socket.socket]:
        return self.end(subject, unix_pair)


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

    async def test_quiet(self) -> None:
        """An End that is not read from costs no turns, whatever became of its peer."""
        for pair in (tcp_pair, unix_pair):
            end, far = self.end(pair=pair, paused=True)
            far.sendall(b"unread")
            far.shutdown(socket.SHUT_RDWR)
            await until(lambda end=end: end.stirring, "the end to be there")
            epoll = self.link.fileno()
            await until(lambda epoll=epoll: not select.select([epoll], [], [], 0)[0], "silence")
            self.assertEqual((self.subject.events, end.received), ([], 0))

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
        _, far = self.end()
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


class ReactorTests(LinkCase):
    """The link is one descriptor among the reactor's."""

    def test_named(self) -> None:
        """It tells the reactor's log its name, and outlives being let go."""
        self.assertEqual(self.link.logPrefix(), "link")
        self.link.connectionLost(None)
        self.assertIn(self.link, reactor.getReaders())  # type: ignore[attr-defined]
