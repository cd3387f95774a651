"""Tests for L{proxyd.net.line}: how a socket is closed, with what waits sent first."""

from __future__ import annotations

import random
import socket

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import Clock
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SynchronousTestCase

from proxyd.net.end import End
from proxyd.net.relay import join
from tests.net.peers import LinkCase, exchange, fill, read_all, reset, until
from tests.postgres.memory import MemoryLink, Network, Wire

MEGABYTE = 1 << 20


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

    async def test_finish(self) -> None:
        """All that waits, then FIN; the peer may go on, for as long as it likes."""
        end, far = self.end()
        done: list[bool] = []
        end.write(bytes(8 * MEGABYTE))
        end.finish(lambda: done.append(True))
        self.assertEqual(done, [])
        data = await deferToThread(read_all, far)
        self.assertEqual(len(data), 8 * MEGABYTE)
        await until(lambda: done, "the word of it")
        far.sendall(b"and then")
        await until(lambda: self.subject.data.get(end) == b"and then", "the peer's bytes")
        self.assertEqual((end.closed, done), (False, [True]))

    async def test_finish_at_once(self) -> None:
        """With nothing to wait for, the FIN goes at once; a closed End says nothing."""
        end, far = self.end()
        done: list[bool] = []
        end.finish(lambda: done.append(True))
        self.assertEqual((done, await deferToThread(far.recv, 1)), ([True], b""))
        end.drop()
        end.finish(lambda: done.append(True))
        self.assertEqual(done, [True])

    async def test_break_off(self) -> None:
        """Lost on somebody's word: a reset for the peer, a loss for the subject, once."""
        end, far = self.end()
        end.break_off("the way is lost")
        end.break_off("the way is lost")
        self.assertEqual(self.subject.told(end), ["gone: the way is lost"])
        with self.assertRaises(ConnectionResetError):
            await deferToThread(far.recv, 1)

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


class ToldOnceTests(SynchronousTestCase):
    """A reset that the kernel tells once, to a send, while reading was still allowed."""

    def test_paused_afterwards(self) -> None:
        """The End is lost all the same, when its subject reads the last bytes and pauses it."""
        network = Network(random.Random(1))
        link = MemoryLink(network, Clock(), 5.0)
        self.addCleanup(link.stop)
        subject = Pausing()
        ends = []
        for capacity in (10, 1000):
            ours, theirs = Wire(network, 1000), Wire(network, capacity)
            ours.peer, theirs.peer = theirs, ours
            ends.append((End(link, ours, None, subject), ours, theirs))  # type: ignore[arg-type]
        (client, here, reader), (server, answers, _) = ends
        join(client, server, subject, subject, None)
        answers.here += bytes(100)
        link.doRead()
        self.assertEqual(client.pending, 90)
        here.here += b"the last words"
        reader.reset()
        subject.alert = True
        link.doRead()
        self.assertEqual(subject.lost, [client])
        self.assertTrue(client.closed)


class Pausing:
    """A subject, and its flow, that pauses an End as soon as it has said something."""

    def __init__(self) -> None:
        self.alert = False
        self.lost: list[End] = []

    def received(self, end: End, data: bytes) -> None:
        """Nothing talks here."""

    def finished(self, end: End) -> None:
        """It ends."""

    def alerted(self, end: End) -> None:
        """It said its last words."""
        end.pause()

    def gone(self, end: End, reason: str) -> None:
        """It is lost."""
        self.lost.append(end)
