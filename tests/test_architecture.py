"""
The house rules that a program can check: who may import whom, and what is kept out.

Everything is read as text and parsed; nothing of proxyd is imported.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from twisted.trial.unittest import TestCase

CHECKOUT = Path(__file__).resolve().parent.parent
PROXYD = CHECKOUT / "proxyd"
TESTS = CHECKOUT / "tests"

# The floor of each room: a package, or a module right below proxyd.
FLOORS = {
    "errors": 1,
    "figures": 1,
    "target": 1,
    "records": 1,
    "interfaces": 2,
    "session_source": 2,
    "rules": 1,
    "config": 2,
    "wire": 2,
    "net": 3,
    "store": 3,
    "postgres": 4,
    "socks": 4,
    "ssh": 4,
    "ssm": 4,
    "agents": 4,
    "dial": 4,
    "auth": 4,
    "services": 5,
    "web": 5,
    "app": 6,
    "tap": 7,
    "agent_tap": 7,
    "ctl": 7,
}
# The door through which the rooms of one floor meet; its own floor included.
DOOR = "interfaces"

LONGEST_FILE = 400

# Machines take bytes, time and randomness as arguments.
NOT_IN_WIRE = {
    "asyncio", "datetime", "io", "logging", "os", "random", "secrets", "select", "selectors",
    "signal", "socket", "ssl", "subprocess", "threading", "time",
}  # fmt: skip
# They stop the reactor, or bring another one.
NOT_IN_THE_DAEMON = {"asyncio", "requests", "subprocess", "multiprocessing", "sched"}
# What twistd and a shell begin with.
WITH_REACTOR = {"tap", "agent_tap", "ctl"}
# A command line tool has no reactor to stop.
WITHOUT_REACTOR = {"ctl"}


@dataclass(frozen=True, slots=True)
class Import:
    """
    One name that a file imports, in full.

    @param at_import: whether it happens when the file itself is imported
    """

    file: Path
    line: int
    name: str
    at_import: bool

    def __str__(self) -> str:
        return f"{self.file.relative_to(CHECKOUT)}:{self.line}: {self.name}"


def files_below(folder: Path) -> list[Path]:
    """All Python files below a folder."""
    return sorted(folder.rglob("*.py"))


def parse(file: Path) -> ast.Module:
    """A file's syntax tree."""
    return ast.parse(file.read_text(encoding="utf-8"), str(file))


def imports_of(file: Path) -> Iterator[Import]:
    """
    Every import of a file, those inside functions too; C{from a import b} gives C{a.b}.
    """

    def walk(node: ast.AST, at_import: bool) -> Iterator[Import]:
        later = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or (
            isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")
        )
        at_import = at_import and not later
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                for alias in child.names:
                    yield Import(file, child.lineno, alias.name, at_import)
            elif isinstance(child, ast.ImportFrom):
                if child.level:
                    raise AssertionError(f"{file}:{child.lineno}: a relative import")
                for alias in child.names:
                    yield Import(file, child.lineno, f"{child.module}.{alias.name}", at_import)
            yield from walk(child, at_import)

    return walk(parse(file), True)


def module_of(file: Path) -> str:
    """The dotted name of a file of proxyd."""
    parts = file.relative_to(CHECKOUT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room_of(module: str) -> str | None:
    """The room of a dotted name; None for what is not proxyd's, and for C{proxyd} itself."""
    parts = module.split(".")
    return parts[1] if parts[0] == "proxyd" and len(parts) > 1 else None


def may_import(here: str | None, there: str | None) -> bool:
    """Whether a room may use another: one below, itself, or the door of its own floor."""
    if here is None or there is None or here == there or there not in FLOORS:
        return True
    if there == DOOR:
        return FLOORS[here] >= FLOORS[DOOR]
    return FLOORS[there] < FLOORS[here]


def all_imports() -> list[Import]:
    """Every import of every file of proxyd."""
    return [found for file in files_below(PROXYD) for found in imports_of(file)]


class FloorTests(TestCase):
    """A file imports from lower floors and its own room."""

    def test_every_room_has_a_floor(self) -> None:
        """A new package or module is given its floor before anything imports it."""
        rooms = {room_of(module_of(file)) for file in files_below(PROXYD)}
        self.assertEqual(rooms - {None} - FLOORS.keys(), set())

    def test_never_up_never_across(self) -> None:
        """Nothing imports from a higher floor, or from another room of its own floor."""
        wrong = [
            str(found)
            for found in all_imports()
            if not may_import(room_of(module_of(found.file)), room_of(found.name))
        ]
        self.assertEqual(wrong, [])

    def test_package_itself_imports_nothing(self) -> None:
        """C{import proxyd} costs nothing of ours and no library: every room may do it."""
        tops = {one.name.split(".")[0] for one in imports_of(PROXYD / "__init__.py")}
        self.assertLessEqual(tops, {"urllib"})

    def test_no_circle(self) -> None:
        """No module comes back to itself by the imports made when it is imported."""
        known = {module_of(file) for file in files_below(PROXYD)}
        graph: dict[str, set[str]] = {name: set() for name in known}
        for found in all_imports():
            if found.at_import:
                target = found.name if found.name in known else found.name.rpartition(".")[0]
                if target in known:
                    graph[module_of(found.file)].add(target)
        # Who needs nobody that is left, or is needed by nobody, is in no circle.
        ends = {"any"}
        while ends:
            needed = set().union(*graph.values())
            ends = {one for one in graph if one not in needed or not graph[one] & graph.keys()}
            graph = {one: needs - ends for one, needs in graph.items() if one not in ends}
        self.assertEqual(sorted(graph), [])


class KeptOutTests(TestCase):
    """What a room may not have."""

    def test_wire_is_sans_io(self) -> None:
        """Machines need the standard library only, and no clock, socket, log or randomness."""
        wrong = []
        for found in all_imports():
            if room_of(module_of(found.file)) != "wire" or room_of(found.name):
                continue
            top = found.name.split(".")[0]
            if top not in sys.stdlib_module_names or top in NOT_IN_WIRE:
                wrong.append(str(found))
        self.assertEqual(wrong, [])

    def test_reactor_is_handed_in(self) -> None:
        """Only C{tap} names the process's reactor, and not before it is needed."""
        wrong = [
            str(found)
            for found in all_imports()
            if found.name.startswith("twisted.internet.reactor")
            and (
                found.at_import or room_of(module_of(found.file)) not in ("tap", "agent_tap", "ctl")
            )
        ]
        self.assertEqual(wrong, [])

    def test_nothing_blocks(self) -> None:
        """The daemon has one loop, and no import that stops it."""
        wrong = [
            str(found)
            for found in all_imports()
            if found.name.split(".")[0] in NOT_IN_THE_DAEMON
            and room_of(module_of(found.file)) not in WITHOUT_REACTOR
        ]
        self.assertEqual(wrong, [])

    def test_plugin_imports_nothing_of_ours(self) -> None:
        """twistd reads the plugin for every command: it costs what Twisted's own cost."""
        plugin = CHECKOUT / "twisted" / "plugins" / "proxyd_plugin.py"
        self.assertEqual([str(one) for one in imports_of(plugin) if room_of(one.name)], [])

    def test_twisted_is_no_package_of_ours(self) -> None:
        """No C{__init__.py} in the drop-in folders: it would hide Twisted itself."""
        self.assertEqual(list((CHECKOUT / "twisted").rglob("__init__.py")), [])

    def test_log_calls_carry_fields(self) -> None:
        """No log call is given a text that was put together before it: fields can be masked."""
        wrong = []
        for file in files_below(PROXYD):
            for node in ast.walk(parse(file)):
                if isinstance(node, ast.Call) and _is_log_call(node):
                    first = node.args[0] if node.args else None
                    if isinstance(first, ast.JoinedStr | ast.BinOp | ast.Call):
                        wrong.append(f"{file.relative_to(CHECKOUT)}:{node.lineno}")
        self.assertEqual(wrong, [])

    def test_no_bare_except(self) -> None:
        """Every C{except} says what it is for."""
        wrong = [
            f"{file.relative_to(CHECKOUT)}:{node.lineno}"
            for folder in (PROXYD, CHECKOUT / "demo", TESTS)
            for file in files_below(folder)
            for node in ast.walk(parse(file))
            if isinstance(node, ast.ExceptHandler) and node.type is None
        ]
        self.assertEqual(wrong, [])


class SizeTests(TestCase):
    """A file has one subject."""

    def test_file_length(self) -> None:
        """No file is so long that it must have two subjects."""
        long = {
            str(file.relative_to(CHECKOUT)): lines
            for folder in (PROXYD, CHECKOUT / "demo")
            for file in files_below(folder)
            if (lines := len(file.read_text(encoding="utf-8").splitlines())) > LONGEST_FILE
        }
        self.assertEqual(long, {})


class MirrorTests(TestCase):
    """The tests stand where the code stands."""

    maxDiff = None

    def test_every_module_has_its_tests(self) -> None:
        """Each C{proxyd/x.py} that does something has its C{tests/test_x.py}."""
        missing = []
        for file in files_below(PROXYD):
            place = file.relative_to(PROXYD)
            mirror = TESTS / place.with_name(f"test_{place.name}")
            if file.name != "__init__.py" and does_something(parse(file)) and not mirror.exists():
                missing.append(str(mirror.relative_to(CHECKOUT)))
        self.assertEqual(missing, [])

    def test_every_folder_is_found(self) -> None:
        """trial finds tests in packages only."""
        folders = {file.parent for file in TESTS.rglob("test_*.py")}
        self.assertEqual([str(f) for f in folders if not (f / "__init__.py").exists()], [])

    def test_tests_wait_for_events(self) -> None:
        """No test sleeps on the wall clock, and none patches our own code."""
        wrong = []
        for file in files_below(TESTS):
            for node in ast.walk(parse(file)):
                if isinstance(node, ast.Call) and ast.unparse(node.func) in ("time.sleep", "sleep"):
                    wrong.append(f"{file.relative_to(CHECKOUT)}:{node.lineno}")
            wrong += [str(one) for one in imports_of(file) if one.name.startswith("unittest.mock")]
        self.assertEqual(wrong, [])


def does_something(module: ast.Module) -> bool:
    """Whether a module has a function or method with a body, and not only values and promises."""
    for node in module.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            return True
        if isinstance(node, ast.ClassDef) and not _is_promise(node):
            for member in node.body:
                if isinstance(member, ast.FunctionDef | ast.AsyncFunctionDef):
                    return True
    return False


def _is_promise(node: ast.ClassDef) -> bool:
    """Whether a class only says what others do: an interface or a typing.Protocol."""
    bases = {ast.unparse(base).split("[")[0].rpartition(".")[2] for base in node.bases}
    interfaces = bool(bases) and all(base[:1] == "I" and base[1:2].isupper() for base in bases)
    return bool(interfaces or bases & {"Interface", "Protocol"}) and all(
        len(member.body) == 1
        for member in node.body
        if isinstance(member, ast.FunctionDef | ast.AsyncFunctionDef)
    )


def _is_log_call(node: ast.Call) -> bool:
    """Whether this is C{log.info(...)} and its like."""
    if not isinstance(node.func, ast.Attribute):
        return False
    levels = {"debug", "info", "warn", "error", "critical", "failure"}
    receiver = ast.unparse(node.func.value).rpartition(".")[2].lower()
    return node.func.attr in levels and receiver.strip("_") in ("log", "logger")


class ReaderTests(TestCase):
    """The reading of files that the other tests stand on."""

    def test_imports_in_functions_are_seen(self) -> None:
        """An import in a function, or for the type checker, is found and known to come later."""
        file = Path(self.mktemp())
        file.write_text(
            "import a\nif a:\n    from b import c\n\ndef d():\n    import e.f\n"
            "if TYPE_CHECKING:\n    import g\n"
        )
        found = [(one.name, one.at_import) for one in imports_of(file)]
        self.assertEqual(found, [("a", True), ("b.c", True), ("e.f", False), ("g", False)])

    def test_floors(self) -> None:
        """Down, home and to the door is allowed; up and across is not."""
        allowed = [("net", "wire"), ("net", "net"), ("config", "interfaces"), ("tap", "app")]
        refused = [("wire", "net"), ("postgres", "dial"), ("net", "app"), ("target", "interfaces")]
        self.assertEqual([pair for pair in allowed if not may_import(*pair)], [])
        self.assertEqual([pair for pair in refused if may_import(*pair)], [])

    def test_values_and_promises_do_nothing(self) -> None:
        """Data, enumerations and interfaces need no tests of their own; a method does."""
        values = "class A:\n    x: int = 1\n\nclass I(Interface):\n    def m():\n        'It.'\n"
        self.assertFalse(does_something(ast.parse(values)))
        self.assertTrue(does_something(ast.parse("class A:\n    def m(self):\n        pass\n")))
        self.assertTrue(does_something(ast.parse("async def f():\n    pass\n")))

    def test_log_calls_are_known(self) -> None:
        """Our loggers' calls are told from other calls of the same name."""
        calls = {"self._log.info('x')": True, "log.failure('x')": True, "self.info('x')": False}
        for text, expected in calls.items():
            call = ast.parse(text, mode="eval").body
            assert isinstance(call, ast.Call)
            self.assertEqual(_is_log_call(call), expected, text)
