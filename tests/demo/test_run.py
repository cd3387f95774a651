"""
The demo as a person has it: started, its lines pasted, stopped, started again.

It is run as C{python -m demo} in a process of its own, with a folder of the
test's instead of C{.demo/}.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
from pathlib import Path

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessDone
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from demo.binaries import find_on_machine
from demo.ground import account_for, make_temporary
from demo.run import DemoError, Ports, example_with_ports, plan_for_given

CHECKOUT = Path(__file__).resolve().parent.parent.parent
UP_SECONDS = 90.0
SECONDS = 60.0
LAST_LINE = "Ctrl-C stops everything"
PORTS = Ports(7777, 8888, 9999, 8443, 13389)

if not Path("/proc/self/stat").exists():
    MISSING: str | None = "needs /proc to see what is left running"
elif find_on_machine() is None:
    MISSING = "no PostgreSQL server on this machine"
elif shutil.which("psql") is None:
    MISSING = "psql is not on the path"
else:
    MISSING = None


class Command(ProcessProtocol):
    """
    A command that runs beside the test.

    @param arguments: the program and what it is told
    @param typed: what is typed into it, and then the end of it
    """

    def __init__(self, *arguments: str, typed: str = "", **variables: str) -> None:
        self.said = ""
        self.code: int | None = None
        self._awaited: list[tuple[str, Deferred[None]]] = []
        self._ended: Deferred[None] = Deferred()
        given = ("DB_HOST", "GPRXY_USER", "GPRXY_PASS")
        kept = {name: value for name, value in os.environ.items() if name not in given}
        self.process = reactor.spawnProcess(
            self, arguments[0], arguments, env=kept | variables, path=str(CHECKOUT)
        )
        self.process.write(typed.encode())
        self.process.closeStdin()

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        """Keep what the command says, and see whether it is what is waited for."""
        self.said += data.decode(errors="replace")
        for text, found in list(self._awaited):
            if text in self.said:
                self._awaited.remove((text, found))
                found.callback(None)

    def processEnded(self, reason: Failure) -> None:
        """The command has ended, and with it all waiting."""
        self.code = 0 if reason.check(ProcessDone) else reason.value.exitCode
        for _, found in self._awaited:
            found.errback(AssertionError(f"the command ended with {self.code}: {self.said}"))
        self._ended.callback(None)

    def says(self, text: str) -> Deferred[None]:
        """Fire when the command has said this; fail when it ends before."""
        found: Deferred[None] = Deferred()
        found.addTimeout(UP_SECONDS, reactor)
        if text in self.said:
            found.callback(None)
        else:
            self._awaited.append((text, found))
        return found

    def ended(self) -> Deferred[None]:
        """Fire when the command has ended."""
        return self._ended.addTimeout(SECONDS, reactor)

    @property
    def pid(self) -> int:
        """Its process id; only while it runs."""
        pid: int = self.process.pid
        return pid

    @property
    def lines(self) -> list[str]:
        """The lines to paste that it printed."""
        return [line.strip() for line in self.said.splitlines() if line.startswith("    ")]


def processes() -> dict[int, tuple[int, str]]:
    """Every process of the machine: its parent, and when it was started (in kernel ticks)."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                # The name, in parentheses, may have anything in it: proc(5).
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            found[int(entry.name)] = (int(fields[1]), fields[19])
    return found


def family(pid: int) -> set[tuple[int, str]]:
    """A process and all below it, each with its start: a pid alone is given again."""
    everyone = processes()
    members = {pid}
    while new := {p for p, (parent, _) in everyone.items() if parent in members} - members:
        members |= new
    return {(p, everyone[p][1]) for p in members}


def alive(members: set[tuple[int, str]]) -> set[int]:
    """Which of these processes still run."""
    everyone = processes()
    return {pid for pid, start in members if pid in everyone and everyone[pid][1] == start}


class DemoTests(TestCase):
    """C{make run}, after its set-up."""

    skip = MISSING
    timeout = 240

    def setUp(self) -> None:
        self.folder = make_temporary("proxyd-test-", account_for(os.getuid()))
        self.addCleanup(shutil.rmtree, self.folder)

    def start(self) -> Command:
        """Start the demo; whatever happens it is ended with the test."""
        demo = Command(sys.executable, "-m", "demo", PROXYD_DEMO_FOLDER=str(self.folder))
        self.addCleanup(self.stop, demo, signal.SIGTERM)
        return demo

    async def stop(self, demo: Command, number: signal.Signals) -> None:
        """Send a signal and wait for the end."""
        if demo.code is None:
            os.kill(demo.pid, number)
            await demo.ended()

    async def paste(self, line: str, typed: str) -> str:
        """Run a line as a shell does, type into what it starts, and give what it says."""
        command = Command("/bin/sh", "-c", line, typed=typed)
        await command.ended()
        self.assertEqual(command.code, 0, command.said)
        return command.said

    async def end_and_see(self, demo: Command, number: signal.Signals) -> None:
        """Stop the demo as a person does: its exit code is 0 and nothing is left."""
        members = family(demo.pid)
        await self.stop(demo, number)
        self.assertEqual(demo.code, 0, demo.said)
        self.assertEqual(alive(members), set())

    async def test_a_person_tries_it(self) -> None:
        """Every printed line works; Ctrl-C leaves nothing; the second start has the data."""
        demo = self.start()
        await demo.says(LAST_LINE)
        self.assertGreaterEqual(len(family(demo.pid)), 4, "demo, proxyd, its agent, PostgreSQL")
        question = "SELECT 'customers', count(*) FROM customers;\n"
        answers = [await self.paste(line, question) for line in demo.lines]
        self.assertRegex(answers[0], r"customers +\| +8")
        self.assertIn("kettle", answers[1])
        self.assertIn("token:", demo.lines[2])
        self.assertRegex(answers[2], r"proxyd_svc +\| +8")
        self.assertIn('"status": "ready"', answers[3])
        self.assertRegex(answers[4], "^proxyd .* is ready")
        self.assertIn("--socks5-hostname", demo.lines[5])
        self.assertIn("ok", answers[5])
        self.assertRegex(answers[6], r"\n +8\n")
        self.assertEqual(len(answers), 7)
        insert = "INSERT INTO customers (name, city) VALUES ('Radia', 'Seattle');\n"
        self.assertIn("INSERT 0 1", await self.paste(demo.lines[0], insert))
        await self.end_and_see(demo, signal.SIGINT)

        again = self.start()
        await again.says(LAST_LINE)
        kept = await self.paste(again.lines[0], "SELECT city FROM customers WHERE name = 'Radia';")
        self.assertIn("Seattle", kept)
        self.assertRegex(await self.paste(again.lines[6], ""), r"\n +9\n")
        await self.end_and_see(again, signal.SIGTERM)

    async def test_stopped_on_the_way_up(self) -> None:
        """Ctrl-C while PostgreSQL is being made leaves nothing, and the next start is whole."""
        demo = self.start()
        await demo.says("making a PostgreSQL")
        await self.end_and_see(demo, signal.SIGINT)
        again = self.start()
        await again.says(LAST_LINE)
        self.assertIn("8", await self.paste(again.lines[0], "SELECT count(*) FROM customers;"))

    async def test_wrong_password(self) -> None:
        """A wrong password is refused with the server's own words."""
        demo = self.start()
        await demo.says(LAST_LINE)
        line = demo.lines[0].replace(":", ":x", 2).replace(":x//", "://", 1)
        command = Command("/bin/sh", "-c", line, typed="SELECT 1;")
        await command.ended()
        self.assertIn('password authentication failed for user "alice"', command.said)

    async def test_one_at_a_time(self) -> None:
        """A second demo on the same folder says so in one line, and harms nothing."""
        demo = self.start()
        await demo.says(LAST_LINE)
        second = self.start()
        await second.ended()
        self.assertEqual(second.code, 1)
        self.assertEqual(second.said, f"demo: another demo runs in {self.folder}\n")
        self.assertIn("1", await self.paste(demo.lines[0], "SELECT 1;"))

    def test_passwords_are_closed(self) -> None:
        """The kept passwords are their owner's only, and stay the same."""
        from demo.shop import passwords_in

        made = passwords_in(self.folder)
        modes = {path.stat().st_mode & 0o777 for path in self.folder.glob("*.password")}
        self.assertEqual((modes, passwords_in(self.folder)), ({0o600}, made))
        self.assertNotIn(made.person, repr(made))


class PlanTests(TestCase):
    """What proxyd is started with."""

    def test_ports(self) -> None:
        """Taken ports are replaced in the example, and nothing else."""
        changed = example_with_ports(Ports(1111, 3333, 4444, 5555, 6666), 2222)
        self.assertIn('"127.0.0.1:1111"', changed)
        self.assertIn('"127.0.0.1:3333"', changed)
        self.assertIn("@127.0.0.1:2222/shop", changed)
        back = (
            changed.replace(":1111", ":6432").replace(":2222", ":15432")
            .replace(":3333", ":8080").replace(":4444", ":1080").replace(":5555", ":8443")
        )  # fmt: skip
        self.assertEqual(back, (CHECKOUT / "examples" / "demo.yaml").read_text())

    def test_given_server(self) -> None:
        """A PostgreSQL named by variables is used, and its password is in no file or line."""
        folder = Path(self.mktemp())
        folder.mkdir()
        variables = {"DB_HOST": "db.internal:5433", "GPRXY_USER": "svc@x", "GPRXY_PASS": "hush"}
        plan = plan_for_given(folder, PORTS, variables)
        written = plan.configuration.read_text()
        self.assertIn("postgresql://svc%40x@db.internal:5433/", written)
        self.assertIn("127.0.0.1:7777", plan.lines[0])
        self.assertNotIn("hush", written + "".join(plan.lines))

    def test_given_server_without_a_user(self) -> None:
        """A server without a user to log in as is refused by the names of what is missing."""
        error = self.assertRaises(DemoError, plan_for_given, Path(), PORTS, {"DB_HOST": "db"})
        self.assertIn("GPRXY_USER", str(error))
