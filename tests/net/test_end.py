"""Tests for L{proxyd.net.end}: real sockets, a real reactor."""

from __future__ import annotations

import hashlib
import select
import socket

from twisted.internet.threads import deferToThread

from proxyd.net.end import End
from tests.net.conformance import Conformance
from tests.net.peers import LinkCase, Recorder, exchange, reset, tcp_pair, unix_pair, until


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
