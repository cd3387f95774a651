"""Tests for L{proxyd.net.first_look}: real sockets, a real reactor."""

from __future__ import annotations

import socket

from tests.net.peers import LinkCase, reset, until


class FirstLookTests(LinkCase):
    """What comes first is shown, and stays where it is."""

    async def test_glance(self) -> None:
        """What is looked at stays in the socket; what is taken of it does not come again."""
        end, far = self.end(paused=True)
        seen: list[bytes] = []
        end.glance(seen.append)
        far.sendall(b"first")
        await until(lambda: seen, "the bytes")
        self.assertEqual((seen, end.received), ([b"first"], 0))
        self.assertEqual(end.take(2), b"fi")
        self.assertEqual(end.received, 2)
        end.glance(seen.append)
        await until(lambda: len(seen) == 2, "the rest")
        self.assertEqual(seen[1], b"rst")
        self.assertNotIn(end, self.subject.data)
        end.resume()
        await until(lambda: self.subject.data.get(end) == b"rst", "the rest, for the subject")

    async def test_glance_at_the_end(self) -> None:
        """A peer that ends or breaks instead is told to the subject."""
        for leave in (socket.socket.close, reset):
            end, far = self.end(paused=True)
            end.glance(lambda data: self.fail("there is nothing to see"))
            leave(far)
            await until(lambda end=end: self.subject.told(end), "the end")
            end.drop()

    async def test_peek(self) -> None:
        """The same for what is here already: nothing is waited for, nobody is told of an end."""
        end, far = self.end(paused=True)
        self.assertEqual(end.peek(), b"")
        far.sendall(b"first")
        await until(lambda: end.stirring, "the bytes")
        self.assertEqual((end.peek(), end.peek(), end.received), (b"first", b"first", 0))
        self.assertEqual((end.take(5), end.peek()), (b"first", b""))
        for leave in (socket.socket.close, reset):
            end, far = self.end(paused=True)
            leave(far)
            await until(lambda end=end: end.stirring or end.closed, "the end")
            self.assertEqual(end.peek(), b"")
            end.drop()
