"""What an End promises, whatever it stands on: run for TCP, for UNIX sockets and for TLS."""

from __future__ import annotations

import hashlib
import os
import socket
import ssl

from twisted.internet.threads import deferToThread

from proxyd.net.end import End
from proxyd.net.line import CHUNK
from proxyd.net.relay import join
from tests.net.peers import LinkCase, Recorder, exchange, fill, reset, until

MEGABYTE = 1 << 20


class Conformance(LinkCase):
    """The list; a subclass says what it is run on by L{stand}."""

    def run(self, result: object = None) -> object:
        """Run the subclasses only."""
        if type(self) is Conformance:
            return None
        return super().run(result)  # type: ignore[arg-type]

    async def stand(self, subject: Recorder | None = None) -> tuple[End, socket.socket]:
        """An End and its far end."""
        raise NotImplementedError

    async def half_close(self, far: socket.socket) -> None:
        """Say at the far end that no more will come."""
        far.shutdown(socket.SHUT_WR)

    async def test_order(self) -> None:
        """A slow reader gets all that was written, in order, once."""
        end, far = await self.stand()
        data = os.urandom(MEGABYTE) * 8
        for start in range(0, len(data), 300_000):
            end.write(data[start : start + 300_000])
        self.assertTrue(end.pending)
        got = await deferToThread(exchange, far, b"", len(data), 3000)
        self.assertEqual(got, (len(data), hashlib.sha256(data).hexdigest()))
        await until(lambda: not end.pending, "nothing to wait")

    async def test_pause(self) -> None:
        """Paused, it takes nothing off the socket, so that the writer stops; resumed, all comes."""
        end, far = await self.stand()
        end.pause()
        sent = 0
        while taken := fill(far, b"x" * 60_000):
            sent += taken
        other, other_far = self.end()
        other_far.sendall(b"turn")
        await until(lambda: other in self.subject.data, "a turn of the link")
        self.assertEqual((end.received, fill(far, b"x" * 60_000)), (0, 0))
        end.resume()
        await until(lambda: end.received >= sent, "all bytes")
        # TLS may have taken a part of the block that it said it could not take.
        self.assertLess(end.received, sent + 60_000)
        self.assertEqual(self.subject.data[end], b"x" * end.received)

    async def test_half_close(self) -> None:
        """The peer's end is told once, behind its last bytes."""
        end, far = await self.stand()
        await deferToThread(far.sendall, b"last words")
        await self.half_close(far)
        await until(lambda: self.subject.told(end), "the end")
        self.assertEqual(self.subject.data[end], b"last words")
        end.resume()
        other, other_far = self.end()
        other_far.sendall(b"turn")
        await until(lambda: other in self.subject.data, "a turn of the link")
        self.assertEqual(self.subject.told(end), ["finished"])

    async def test_closed_by_peer(self) -> None:
        """A peer that closes is an end, a loss, or first the one and then the other."""
        end, far = await self.stand()
        far.close()
        await until(lambda: self.subject.told(end), "the end")
        far_end, *more = self.subject.told(end)
        if more:
            self.assertEqual((far_end, more[0][:4], more[1:]), ("finished", "gone", []))

    async def test_close(self) -> None:
        """What waits and the last words reach the peer, then the end."""
        end, far = await self.stand()
        end.write(bytes(2 * MEGABYTE))
        end.close(b"last words")
        got = 2 * MEGABYTE + 10
        data = bytes(2 * MEGABYTE) + b"last words"
        self.assertEqual(
            await deferToThread(exchange, far, b"", got, 65536),
            (got, hashlib.sha256(data).hexdigest()),
        )
        self.assertEqual(await deferToThread(far.recv, 1), b"")
        far.close()
        await until(lambda: not self.link.ends, "the End to be gone")
        self.assertEqual(self.subject.events, [])

    async def test_abort(self) -> None:
        """An abort ends both sides at once, and tells its own subject nothing."""
        end, far = await self.stand()
        end.write(bytes(4 * MEGABYTE))
        end.abort()
        self.assertEqual((end.closed, end.pending, self.link.ends), (True, 0, 0))

        def to_the_end() -> None:
            while far.recv(65536):
                pass

        try:
            await deferToThread(to_the_end)
        except (ConnectionResetError, ssl.SSLError):
            pass
        self.assertEqual(self.subject.events, [])

    async def test_reset(self) -> None:
        """A reset by the peer is told once, paused or not."""
        for paused in (False, True):
            end, far = await self.stand()
            if paused:
                end.pause()
            reset(far)
            end.write(b"to nobody")
            await until(lambda end=end: self.subject.told(end), "the loss")
            self.assertEqual(len(self.subject.told(end)), 1)
            if not end.closed:
                # A UNIX socket has no reset: it is an end like any other.
                self.assertEqual(self.subject.told(end), ["finished"])

    async def test_joined(self) -> None:
        """Joined, both directions come through at once, unchanged, in bounded memory."""
        one, one_far = await self.stand()
        other, other_far = await self.stand()
        join(one, other, self.subject, None, None)
        up, down = os.urandom(MEGABYTE) * 6, os.urandom(MEGABYTE) * 7
        done: list[object] = []
        deferToThread(exchange, one_far, up, len(down), 7000).addBoth(done.append)
        deferToThread(exchange, other_far, down, len(up), 9000).addBoth(done.append)
        most = 0

        def look() -> bool:
            nonlocal most
            most = max(most, one.pending, other.pending)
            return len(done) == 2

        await until(look, "the relay")
        wanted = [(len(data), hashlib.sha256(data).hexdigest()) for data in (up, down)]
        self.assertEqual(sorted(done), sorted(wanted))
        self.assertLessEqual(most, CHUNK)
        self.assertEqual((one.received, one.sent), (len(up), len(down)))
