"""
The demo: a PostgreSQL with the sample shop, proxyd before it, and lines to paste.

Everything it keeps is in one folder, C{.demo/} or the one that the variable
C{PROXYD_DEMO_FOLDER} names, so that the next start finds the data again. Where
C{DB_HOST} or C{GPRXY_USER} says that there is a PostgreSQL already, that one is
used, and nothing is made in it.
"""

from __future__ import annotations

import fcntl
import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType
from urllib.parse import quote

from demo.agent import Reverse, open_reverse, start_agent, stop_agent
from demo.binaries import NoServer
from demo.cluster import Cluster, ClusterError
from demo.ground import account_for, reachable_folder
from demo.probe import port_or_free, wait_until_ready
from demo.shop import DATABASE, PERSON, lay_out, passwords_in
from proxyd.ctl.client import CallFailed, Client, Where

CHECKOUT = Path(__file__).resolve().parent.parent
EXAMPLE = CHECKOUT / "examples" / "demo.yaml"
HOST = "127.0.0.1"
# As examples/demo.yaml names them.
LISTEN_PORT = 6432
SERVER_PORT = 15432
API_PORT = 8080
SOCKS_PORT = 1080
AGENTS_PORT = 8443
# Where the reverse port is; no file names it.
REVERSE_PORT = 13389
READY_SECONDS = 60.0
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class DemoError(Exception):
    """The demo can't go on; the text is the line that says why."""


class Stopped(Exception):
    """A person (or the system) asked for the end before everything was up."""


@dataclass(frozen=True, slots=True)
class Plan:
    """
    What proxyd is started with, and what can then be said to it.

    @param configuration: the file it reads
    @param variables: what is added to its environment; secrets are here
    @param lines: shell lines that a person can paste
    @param api: the port of the API
    @param socks: that of SOCKS5
    @param reverse: the ports of the demo's agent
    @param through: the line for its reverse port
    @param psql: the command for the line with a token; None: there is none
    """

    configuration: Path
    variables: Mapping[str, str]
    lines: tuple[str, ...]
    api: int
    socks: int
    reverse: Reverse
    through: str
    psql: str | None = None


@dataclass(frozen=True, slots=True)
class Ports:
    """
    The ports on loopback, free when they were looked for.

    @param listen: of PostgreSQL's clients
    @param api: of the API
    @param socks: of SOCKS5
    @param agents: of agents
    @param reverse: of users of the demo's agent
    """

    listen: int
    api: int
    socks: int
    agents: int
    reverse: int


class Stop:
    """
    Ctrl-C and its kin, while the demo runs.

    Before there is a daemon a signal raises L{Stopped}; with one, each signal
    is handed on to it: the first drains it, the second stops it at once.
    """

    def __init__(self) -> None:
        self.daemon: subprocess.Popen[bytes] | None = None
        self.asked = False

    def listen(self) -> None:
        """Take the signals, even where a shell started us in the background and ignores them."""
        for number in SIGNALS:
            signal.signal(number, self._received)

    def _received(self, number: int, frame: FrameType | None) -> None:
        first, self.asked = not self.asked, True
        if self.daemon is not None:
            self.daemon.send_signal(signal.SIGTERM)
        elif first:
            raise Stopped


def main() -> int:
    """
    Run the demo until it is stopped.

    @return: the exit code: 0 stopped as asked, 1 it can't run, else proxyd's own
    """
    stop = Stop()
    stop.listen()
    folder = Path(os.environ.get("PROXYD_DEMO_FOLDER") or CHECKOUT / ".demo").absolute()
    try:
        with ExitStack() as until_the_end:
            folder.mkdir(parents=True, exist_ok=True)
            _hold(folder, until_the_end)
            wanted = (LISTEN_PORT, API_PORT, SOCKS_PORT, AGENTS_PORT, REVERSE_PORT)
            ports = Ports(*(port_or_free(HOST, port) for port in wanted))
            if _server_is_given():
                plan = plan_for_given(folder, ports, _variables())
            else:
                plan = _plan_with_own_server(folder, ports, until_the_end)
            runtime = until_the_end.enter_context(TemporaryDirectory(prefix="proxyd-demo-"))
            return _serve(plan, ports.listen, folder, Path(runtime), stop, until_the_end)
    except Stopped:
        return 0
    except CallFailed as error:
        print(f"demo: {error.message}", file=sys.stderr)
        return 1
    except (DemoError, ClusterError, NoServer, OSError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1


def plan_for_given(folder: Path, ports: Ports, variables: Mapping[str, str]) -> Plan:
    """
    What to start with when there is a PostgreSQL already, named by variables.

    @param variables: C{DB_HOST} (with its port, or none), C{GPRXY_USER}, C{GPRXY_PASS}
    @raise DemoError: one that is needed is missing
    """
    user = variables.get("GPRXY_USER")
    if not user or "GPRXY_PASS" not in variables:
        raise DemoError("DB_HOST is set: set GPRXY_USER and GPRXY_PASS as well, or unset it")
    server = variables.get("DB_HOST") or f"{HOST}:5432"
    configuration = folder / "given.yaml"
    configuration.write_text(
        f'postgres:\n  listen: ["{HOST}:{ports.listen}"]\n'
        f"connections:\n  default:\n    dsn: postgresql://{quote(user, safe='')}@{server}/\n"
        "    password: env:GPRXY_PASS\n    auth: backend\n"
        f'api:\n  listen: ["{HOST}:{ports.api}"]\n'
        f'socks5:\n  listen: ["{HOST}:{ports.socks}"]\n  pac: true\n'
        f'agents:\n  listen: ["{HOST}:{ports.agents}"]\n'
        'routes:\n  - {match: [localhost, "127.0.0.0/8"], upstream: direct}\n'
    )
    url = f"postgresql://{quote(user, safe='')}@{HOST}:{ports.listen}/postgres"
    line = f'PGPASSWORD="$GPRXY_PASS" {_psql(None)} {shlex.quote(url)}'
    secret = {"GPRXY_PASS": variables["GPRXY_PASS"]}
    reverse = Reverse(ports.agents, ports.reverse, ports.api)
    through = f"curl http://{HOST}:{ports.reverse}/healthz"
    return Plan(configuration, secret, (line,), ports.api, ports.socks, reverse, through)


def example_with_ports(ports: Ports, server: int) -> str:
    """
    The text of C{examples/demo.yaml} with these ports in place of its own.

    @param server: that of PostgreSQL itself

    @raise DemoError: the example no longer names the ports it is known for
    """
    text = EXAMPLE.read_text()
    known = {
        LISTEN_PORT: ports.listen,
        SERVER_PORT: server,
        API_PORT: ports.api,
        SOCKS_PORT: ports.socks,
        AGENTS_PORT: ports.agents,
    }
    for old, new in known.items():
        named = f"{HOST}:{old}"
        if text.count(named) != 1:
            raise DemoError(f"{EXAMPLE} does not name {named} just once")
        text = text.replace(named, f"{HOST}:{new}")
    return text


def _plan_with_own_server(folder: Path, ports: Ports, until_the_end: ExitStack) -> Plan:
    """Start a PostgreSQL of our own, with the shop in it."""
    ground = reachable_folder(folder / "postgres", account_for(os.getuid()))
    if not (ground / "data").exists():
        print(f"demo: making a PostgreSQL in {ground}", flush=True)
    cluster = Cluster(ground, port=port_or_free(HOST, SERVER_PORT), durable=True)
    # Before the start: a signal may come in the middle of it.
    until_the_end.callback(cluster.stop)
    cluster.start()
    passwords = passwords_in(folder)
    lay_out(cluster, passwords)
    configuration = EXAMPLE
    text = example_with_ports(ports, cluster.port)
    if text != EXAMPLE.read_text():
        configuration = folder / EXAMPLE.name
        configuration.write_text(text)
    person = f"postgresql://{PERSON}:{passwords.person}@{HOST}"
    url = f"{person}:{ports.listen}/{DATABASE}"
    psql = _psql(cluster.binaries)
    reverse = Reverse(ports.agents, ports.reverse, cluster.port)
    through = f'{psql} "{person}:{ports.reverse}/{DATABASE}" -c "SELECT count(*) FROM customers"'
    lines = (
        f'{psql} "{url}"',
        f'{psql} "{url}" -c "SELECT * FROM sales ORDER BY turnover DESC"',
    )
    secret = {"PROXYD_DEMO_PASSWORD": passwords.service}
    return Plan(configuration, secret, lines, ports.api, ports.socks, reverse, through, psql)


def _serve(
    plan: Plan, listen: int, folder: Path, runtime: Path, stop: Stop, until_the_end: ExitStack
) -> int:
    """
    Start proxyd, print the lines when it is there, and wait for its end.

    @param runtime: a folder for its UNIX socket, whose path must be short
    """
    state = folder / "state"
    state.mkdir(mode=0o700, exist_ok=True)
    # The checkout's own proxyd, and its plugin for twistd, whatever is installed.
    path = os.pathsep.join(filter(None, (str(CHECKOUT), os.environ.get("PYTHONPATH"))))
    variables = {
        "STATE_DIRECTORY": str(state),
        "RUNTIME_DIRECTORY": str(runtime),
        "PYTHONPATH": path,
    }
    command = [str(Path(sys.executable).with_name("twistd")), "--nodaemon", "--pidfile="]
    command += ["proxyd", "--config", str(plan.configuration)]
    # In a session of its own a terminal's Ctrl-C reaches it once, through us, in its turn.
    daemon = subprocess.Popen(
        command,
        cwd=CHECKOUT,
        env={**os.environ, **variables, **plan.variables},
        stdin=subprocess.DEVNULL,
        start_new_session=True,
    )
    stop.daemon = daemon
    if stop.asked:
        daemon.send_signal(signal.SIGTERM)
    try:
        if wait_until_ready((HOST, listen), lambda: daemon.poll() is None, READY_SECONDS):
            _start_agent(plan, runtime, path, until_the_end)
            _invite(plan, state, runtime)
        elif daemon.poll() is None and not stop.asked:
            raise DemoError(f"proxyd did not answer on {HOST}:{listen} in {READY_SECONDS:.0f} s")
        code = daemon.wait()
    finally:
        if daemon.poll() is None:
            daemon.kill()
            daemon.wait()
    # After a signal the daemon ends by that signal: for whoever pressed Ctrl-C all is well.
    if stop.asked:
        return 0
    return code if code >= 0 else 128 - code


def _start_agent(plan: Plan, runtime: Path, path: str, until_the_end: ExitStack) -> None:
    client = Client(Where(socket=str(runtime / "api.sock")), {})
    token = open_reverse(client, HOST, plan.reverse)
    agent = start_agent(token, HOST, plan.reverse, {"PYTHONPATH": path})
    until_the_end.callback(stop_agent, agent)


def _invite(plan: Plan, state: Path, runtime: Path) -> None:
    # All are made first: what proxyd logs of it must not stand between them.
    lines = (*plan.lines, *_api_lines(plan, state, runtime))
    print("\ndemo: proxyd is up. In another terminal, paste:\n")
    for line in lines:
        print(f"    {line}")
    print("\ndemo: Ctrl-C stops everything; the data is kept.\n", flush=True)


def _api_lines(plan: Plan, state: Path, runtime: Path) -> list[str]:
    """The lines that the API is needed for, or that show it."""
    path = runtime / "api.sock"
    url = f"http://{HOST}:{plan.api}"
    token = shlex.quote(str(state / "admin.token"))
    proxyctl = shlex.quote(str(Path(sys.executable).with_name("proxyctl")))
    lines = [
        f'curl -H "Authorization: Bearer $(cat {token})" {url}/api/docker/proxy',
        f"{proxyctl} status --socket {path}",
        f"curl --socks5-hostname {HOST}:{plan.socks} http://localhost:{plan.api}/healthz",
        plan.through,
    ]
    if plan.psql is not None:
        body = {"database_id": DATABASE, "ttl": "12h", "label": "make run"}
        made = Client(Where(socket=str(path)), {}).post("/api/tokens", body)
        question = "SELECT current_user, count(*) FROM customers"
        lines.insert(0, f'{plan.psql} "{made["connection_string"]}" -c "{question}"')
    return lines


def _hold(folder: Path, until_the_end: ExitStack) -> None:
    """Keep a second demo out of the same folder."""
    lock = until_the_end.enter_context((folder / "lock").open("w"))
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise DemoError(f"another demo runs in {folder}") from None


def _variables() -> dict[str, str]:
    """The process's environment over the checkout's C{.env}, as proxyd itself takes them."""
    file = CHECKOUT / ".env"
    kept = {}
    for line in file.read_text().splitlines() if file.is_file() else ():
        name, equals, value = line.strip().removeprefix("export ").partition("=")
        if equals and not name.startswith("#"):
            kept[name.strip()] = value.strip().strip("\"'")
    return kept | dict(os.environ)


def _server_is_given() -> bool:
    variables = _variables()
    return bool(variables.get("DB_HOST") or variables.get("GPRXY_USER"))


def _psql(binaries: Path | None) -> str:
    """C{psql} as a shell finds it: by its name where it is on the path."""
    if shutil.which("psql") or binaries is None:
        return "psql"
    return shlex.quote(str(binaries / "psql"))
