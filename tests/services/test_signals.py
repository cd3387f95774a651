"""Tests for L{proxyd.services.signals}: each on a daemon of its own, run by twistd."""

from __future__ import annotations

import os
import signal

from twisted.trial.unittest import TestCase

from tests.services.running import End, Running, twistd

TAC = """
import signal, sys, threading
from twisted.application.service import Application, Service
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from proxyd.services.ordered import OrderedService
from proxyd.services.signals import Signals

def say(text):
    sys.__stdout__.write(text + "\\n")
    sys.__stdout__.flush()

class Work(Service):
    name = "work"

    def startService(self):
        self.running = 1
        reactor.callWhenRunning(reactor.callLater, 0, say, "RUNNING")

    def stopService(self):
        say("STOPPED")
        return stopped

stopped = None
draining = Deferred(lambda _: say("CANCELLED"))
reloads = []

def drain():
    say("DRAINING")
    return draining

def reload():
    reloads.append(Deferred())
    say("RELOAD %d" % len(reloads))
    return reloads[-1]

def reloaded(*_):
    number = len(reloads)
    reloads[-1].callback(None)
    say("RELOADED %d" % number)

signal.signal(signal.SIGUSR1, lambda *_: reactor.callFromThread(reloaded))
signal.signal(signal.SIGUSR2, lambda *_: reactor.callFromThread(draining.callback, None))

root = OrderedService()
Signals(reactor, drain, reload, patience=0.2).setServiceParent(root)
Work().setServiceParent(root)
application = Application("tiny")
root.setServiceParent(application)
"""

UP = 'reactor.callWhenRunning(reactor.callLater, 0, say, "RUNNING")'
DRAINED = "reactor.callLater(0, draining.callback, None)"


class SignalsTests(TestCase):
    """A daemon does at a signal what its operator means."""

    async def daemon(self, *changes: tuple[str, str]) -> Running:
        """A tiny daemon, up; changes replace parts of its program."""
        program = TAC
        for old, new in changes:
            self.assertIn(old, program)
            program = program.replace(old, new)
        self.folder = self.mktemp()
        os.makedirs(self.folder)
        with open(os.path.join(self.folder, "tiny.tac"), "w", encoding="utf-8") as file:
            file.write(program)
        running = twistd(self, "-oy", "tiny.tac", directory=self.folder)
        await running.said("RUNNING")
        return running

    def assert_died(self, end: End, number: signal.Signals) -> None:
        """It ended by that signal, and its pid file is gone."""
        self.assertEqual(end, End(None, number))
        self.assertEqual(os.listdir(self.folder), ["tiny.tac"])

    async def test_term(self) -> None:
        """SIGTERM: the drain, then the services' stop, then the end by that signal."""
        running = await self.daemon(('say("DRAINING")', f'say("DRAINING"); {DRAINED}'))
        running.send(signal.SIGTERM)
        self.assert_died(await running.ended(), signal.SIGTERM)
        self.assertLess(running.out.index("DRAINING"), running.out.index("STOPPED"))
        self.assertIn("Server Shut Down", running.out)

    async def test_int(self) -> None:
        """SIGINT does the same, and the end is by SIGINT."""
        running = await self.daemon(('say("DRAINING")', f'say("DRAINING"); {DRAINED}'))
        running.send(signal.SIGINT)
        self.assert_died(await running.ended(), signal.SIGINT)
        self.assertIn("STOPPED", running.out)

    async def test_before_the_reactor_runs(self) -> None:
        """A signal that comes while services still start is not lost, and kills nothing."""
        running = await self.daemon(
            ('say("DRAINING")', f'say("DRAINING"); {DRAINED}'),
            (UP, "say('RUNNING'); sys.stdin.read()"),
        )
        running.send(signal.SIGTERM)
        running.process.closeStdin()
        self.assert_died(await running.ended(), signal.SIGTERM)
        self.assertIn("STOPPED", running.out)

    async def test_drain_is_awaited(self) -> None:
        """While the drain runs nothing is stopped, and a reload is not begun."""
        running = await self.daemon()
        running.send(signal.SIGTERM)
        await running.said("DRAINING")
        running.send(signal.SIGHUP)
        await running.said("not reloading")
        self.assertNotIn("STOPPED", running.out)
        running.send(signal.SIGUSR2)
        self.assert_died(await running.ended(), signal.SIGTERM)
        self.assertNotIn("RELOAD 1", running.out)

    async def test_failing_drain(self) -> None:
        """A drain that fails is logged, and the daemon stops all the same."""
        running = await self.daemon(("return draining", "raise ValueError('no drain')"))
        running.send(signal.SIGTERM)
        self.assert_died(await running.ended(), signal.SIGTERM)
        self.assertIn("no drain", running.out)
        self.assertIn("STOPPED", running.out)

    async def test_second_signal(self) -> None:
        """A second signal cancels the drain and stops the services at once."""
        running = await self.daemon()
        running.send(signal.SIGTERM)
        await running.said("DRAINING")
        running.send(signal.SIGTERM)
        self.assert_died(await running.ended(), signal.SIGTERM)
        self.assertIn("CANCELLED", running.out)
        self.assertIn("STOPPED", running.out)

    async def test_second_signal_and_services_that_hang(self) -> None:
        """What does not stop after the second signal is left, and the pid file still goes."""
        running = await self.daemon(("stopped = None", "stopped = Deferred()"))
        running.send(signal.SIGINT)
        await running.said("DRAINING")
        running.send(signal.SIGTERM)
        self.assert_died(await running.ended(), signal.SIGTERM)
        self.assertIn("STOPPED", running.out)

    async def test_second_signal_while_stopping(self) -> None:
        """It works as well when the drain is over and a service's stop hangs."""
        running = await self.daemon(
            ("stopped = None", "stopped = Deferred()"),
            ('say("DRAINING")', f'say("DRAINING"); {DRAINED}'),
        )
        running.send(signal.SIGTERM)
        await running.said("STOPPED")
        running.send(signal.SIGTERM)
        self.assert_died(await running.ended(), signal.SIGTERM)

    async def test_second_signal_and_code_that_hangs(self) -> None:
        """Even code that never returns to the reactor is ended by a second signal."""
        running = await self.daemon(
            ('say("DRAINING")', 'say("DRAINING"); threading.Event().wait()')
        )
        running.send(signal.SIGTERM)
        await running.said("DRAINING")
        running.send(signal.SIGTERM)
        self.assertEqual(await running.ended(), End(None, signal.SIGTERM))

    async def test_reload(self) -> None:
        """SIGHUP reloads, also a second time."""
        running = await self.daemon(("return reloads[-1]", "return None"))
        running.send(signal.SIGHUP)
        await running.said("RELOAD 1")
        running.send(signal.SIGHUP)
        await running.said("RELOAD 2")

    async def test_reloads_are_joined(self) -> None:
        """All SIGHUPs that come while a reload runs become one more, after it."""
        running = await self.daemon()
        running.send(signal.SIGHUP)
        await running.said("RELOAD 1")
        for times in (1, 2):
            running.send(signal.SIGHUP)
            await running.said("reloading once more", times)
        self.assertNotIn("RELOAD 2", running.out)
        running.send(signal.SIGUSR1)
        await running.said("RELOAD 2")
        running.send(signal.SIGUSR1)
        await running.said("RELOADED 2")
        self.assertNotIn("RELOAD 3", running.out)

    async def test_failing_reload(self) -> None:
        """A reload that fails is logged, and the next one is tried."""
        running = await self.daemon(("return reloads[-1]", "raise ValueError('bad file')"))
        running.send(signal.SIGHUP)
        await running.said("bad file")
        running.send(signal.SIGHUP)
        await running.said("RELOAD 2")
