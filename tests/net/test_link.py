"""Tests for L{proxyd.net.link}: real sockets, a real reactor."""

from __future__ import annotations

from twisted.internet.threads import deferToThread

from proxyd.net.end import End
from proxyd.net.line import IN
from tests.net.peers import LinkCase, Recorder, unix_pair, until


class ServingTests(LinkCase):
    """One link serves many sockets, and none at the cost of another."""

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

    async def test_served_at_once(self) -> None:
        """An End may be served before the epoll tells of it; an exception ends it then, too."""
        end, far = self.end()
        self.link.serve(end, lambda: end._handler(IN))
        self.assertEqual(self.subject.told(end), [])
        far.sendall(b"x")
        await until(lambda: self.subject.data.get(end) or end.stirring, "the byte")
        self.link.serve(end, lambda: end._handler(IN))
        self.assertEqual(self.subject.data[end], b"x")
        self.patch(self.subject, "received", None)
        far.sendall(b"y")
        await until(lambda: end.closed or end.stirring, "the other byte")
        if not end.closed:
            self.link.serve(end, lambda: end._handler(IN))
        self.assertTrue(end.closed)
        self.assertEqual(len(self.flushLoggedErrors(TypeError)), 1)
        self.assertEqual(self.subject.told(end), ["gone: internal error"])

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
