"""Tests for L{proxyd.postgres.conversation}."""

from __future__ import annotations

from twisted.internet.defer import CancelledError

from proxyd.net.end import End
from proxyd.postgres.conversation import Conversation, Lost
from tests.postgres.client import until
from tests.postgres.scene import SceneTestCase, client_tls, pair


class Told:
    """Hears, and remembers."""

    def __init__(self) -> None:
        self.all: list[str] = []

    def heard(self, data: bytes) -> None:
        self.all.append(data.decode())

    def unheard(self, reason: str) -> None:
        self.all.append(reason)


class ConversationTests(SceneTestCase):
    """A handshake reads chunk after chunk."""

    def begin(self) -> Conversation:
        """A conversation over a socket pair, of which the test has the other end."""
        near, self.far = pair()
        self.addCleanup(self.far.close)
        conversation = Conversation()
        conversation.end = End(self.link, near, None, conversation, paused=True)
        return conversation

    async def test_chunks(self) -> None:
        """What comes is had, piece by piece."""
        talk = self.begin()
        self.far.send(b"one")
        self.assertEqual(await talk.chunk(), b"one")
        waiting = talk.chunk()
        self.far.send(b"two")
        self.assertEqual(await waiting, b"two")
        talk.end.abort()

    async def test_put_back(self) -> None:
        """What was put back comes first, at once."""
        talk = self.begin()
        talk.put_back(b"two")
        talk.put_back(b"one ")
        self.assertEqual(talk.early, b"one two")
        self.assertEqual(await talk.chunk(), b"one two")
        self.assertEqual(talk.take_early(), b"")
        talk.end.abort()

    async def test_glance(self) -> None:
        """What is looked at is not taken, and what is taken does not come again."""
        talk = self.begin()
        waiting = talk.glance()
        self.far.send(b"one two")
        self.assertEqual(await waiting, b"one two")
        self.assertEqual(talk.take(4), b"one ")
        self.assertEqual(await talk.glance(), b"two")
        self.assertEqual(await talk.chunk(), b"two")
        talk.end.abort()

    async def test_glance_at_the_end(self) -> None:
        """At the peer's end there is nothing to look at; a wait may be cancelled."""
        talk = self.begin()
        waiting = talk.glance()
        waiting.cancel()
        try:
            await waiting
        except CancelledError:
            pass
        self.far.close()
        for _ in range(2):
            try:
                await talk.glance()
            except Lost as lost:
                self.assertIn("closed", str(lost))
            else:
                self.fail("there was something")
        talk.end.abort()

    async def test_nothing_is_read_unasked(self) -> None:
        """While nobody waits the peer fills its own buffer, not our memory."""
        talk = self.begin()
        await self.some_turns()
        self.far.setblocking(False)
        sent = 0
        try:
            while True:
                sent += self.far.send(bytes(65536))
        except BlockingIOError:
            pass
        await self.some_turns()
        self.assertEqual(talk.end.received, 0)
        self.assertEqual(talk.early, b"")
        self.assertGreater(sent, 0)
        talk.end.abort()

    async def some_turns(self) -> None:
        """Let another pair of sockets be served, so that this one could have been."""
        near, far = pair()
        other = Conversation()
        other.end = End(self.link, near, None, other, paused=True)
        far.send(b"x")
        await other.chunk()
        other.end.abort()
        far.close()

    async def test_end(self) -> None:
        """After the peer's end every wait fails, but what came before is had."""
        talk = self.begin()
        self.far.send(b"last")
        self.assertEqual(await talk.chunk(), b"last")
        self.far.close()
        for _ in range(2):
            try:
                await talk.chunk()
            except Lost as lost:
                self.assertIn("closed", str(lost))
            else:
                self.fail("there was nothing more")
        self.assertTrue(talk.lost)
        talk.end.abort()

    async def test_stirred(self) -> None:
        """While nobody waits whoever asked for it is told of bytes and of the end."""
        talk = self.begin()
        told: list[str] = []
        talk.stirred = lambda: told.append(talk.lost or talk.early.decode())
        talk.end.resume()
        self.far.send(b"word")
        await until(lambda: told, "the word")
        talk.end.resume()
        self.far.close()
        await until(lambda: len(told) == 2, "the end")
        self.assertEqual(told, ["word", "closed the connection"])
        talk.end.abort()

    async def test_cancelled(self) -> None:
        """Whoever waits no longer takes nothing: the next one has it all."""
        talk = self.begin()
        waiting = talk.chunk()
        waiting.cancel()
        try:
            await waiting
        except CancelledError:
            pass
        self.far.send(b"word")
        self.assertEqual(await talk.chunk(), b"word")
        talk.end.abort()

    async def test_hearer(self) -> None:
        """A hearer gets what comes next, once; what is here already at once; and the end."""
        talk, told = self.begin(), Told()
        talk.hear(told)
        self.far.send(b"one")
        await until(lambda: told.all, "the word")
        talk.put_back(b"two")
        talk.hear(told)
        talk.hear(told)
        self.far.close()
        await until(lambda: len(told.all) == 3, "the end")
        talk.hear(told)
        end = "closed the connection"
        self.assertEqual(told.all, ["one", "two", end, end])
        talk.end.abort()

    async def test_ignored(self) -> None:
        """Who hears no longer is told nothing, and nothing is read for it."""
        talk, told = self.begin(), Told()
        talk.hear(told)
        talk.ignore()
        self.far.send(b"one")
        await self.some_turns()
        self.assertEqual((told.all, talk.early), ([], b""))
        self.assertEqual(await talk.chunk(), b"one")
        talk.end.abort()

    async def test_given_up(self) -> None:
        """At a deadline whoever waits is told so, and everybody after."""
        talk = self.begin()
        waiting = talk.chunk()
        talk.give_up()
        try:
            await waiting
        except Lost as lost:
            self.assertIn("in time", str(lost))
        else:
            self.fail("it was given up")
        talk.end.abort()

    async def test_tls_fails(self) -> None:
        """A peer that does not speak TLS loses the conversation."""
        talk = self.begin()
        self.far.send(b"this is no TLS record at all")
        try:
            await talk.secure(client_tls(), None)
        except Lost as lost:
            self.assertIn("TLS", str(lost))
        else:
            self.fail("that was no handshake")
        self.assertTrue(talk.end.closed)

    async def test_tls_peer_leaves(self) -> None:
        """A peer that goes in the handshake loses it too."""
        talk = self.begin()
        self.far.close()
        try:
            await talk.secure(client_tls(), None)
        except Lost:
            pass
        else:
            self.fail("nobody was there")
