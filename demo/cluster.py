"""
A PostgreSQL server of our own, for the demo and for tests.

It is made by C{initdb} in a folder, runs as long as its L{Cluster} is started,
and is reached by TCP on loopback and by a UNIX socket. It never runs as root:
for root it runs as C{postgres}, or as C{nobody} where there is no such user.
Plain blocking Python, no Twisted. How server programs are found is in
L{demo.binaries}, what a server is asked on the wire to see that it is there
in L{demo.probe}, who it runs as and where in L{demo.ground}, what files it is
given in L{demo.files}, how it is run in L{demo.programs}.
"""

from __future__ import annotations

import fcntl
import os
import re
import secrets
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO
from urllib.parse import quote, urlencode

from demo.binaries import copy_binaries, find_binaries
from demo.certificate import self_signed
from demo.files import LAST_HBA, NOT_DURABLE, configuration_lines, write_lines, write_secret
from demo.ground import Account, account_for, make_temporary, reaches
from demo.probe import free_port, wait_until_ready
from demo.programs import RUN_SECONDS, ClusterError, Programs, end, environment

__all__ = ["Cluster", "ClusterError", "find_binaries"]

START_SECONDS = 60.0
PORT_TRIES = 5
# sun_path has 108 bytes, and the server's own names for it are this long.
SOCKET_PATH_LIMIT = 107 - len("/.s.PGSQL.65535.lock")


class Cluster:
    """
    A PostgreSQL server in a folder, started and stopped with a C{with} statement.

    After the start it can be reached at L{host} and L{port}, and in
    L{socket_folder}, as L{superuser} with L{password}; every login there is by
    SCRAM-SHA-256 unless a line of C{hba} says otherwise.

    @param folder: where its data is; kept when it is stopped. None: a
        temporary folder, removed when it is stopped. A folder that the
        server's user can't reach is refused at the start.
    @param binaries: the folder of the server's programs; None: found
    @param major: which major version is found, when C{binaries} is None
    @param password: the superuser's, used when the data is made; None: random.
        It is kept in the folder, in the file C{password}.
    @param port: on 127.0.0.1; None: a free one at each start
    @param durable: whether data survives a crash of the machine; without it
        the server is quicker (fsync is off)
    @param ssl: serve TLS, with a self-signed certificate at L{certificate};
        a server built without OpenSSL then fails to start
    @param settings: lines of postgresql.conf, by name
    @param hba: lines of pg_hba.conf that come before the SCRAM lines
    """

    host = "127.0.0.1"
    superuser = "postgres"

    def __init__(
        self,
        folder: Path | None = None,
        *,
        binaries: Path | None = None,
        major: int | None = None,
        password: str | None = None,
        port: int | None = None,
        durable: bool = False,
        ssl: bool = False,
        settings: Mapping[str, str] | None = None,
        hba: Sequence[str] = (),
    ) -> None:
        self.port = 0
        self.settings = dict(settings or {})
        self.hba = list(hba)
        self._given_folder = folder
        self._given_port = port
        self._given_password = password
        self._given_binaries = binaries
        self._major = major
        self._durable = durable
        self._ssl = ssl
        self._account: Account = account_for(os.getuid())
        self._folder: Path | None = None
        self._binaries: Path | None = None
        self._programs: Programs | None = None
        self._socket_folder: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._lock: IO[str] | None = None

    def __enter__(self) -> Cluster:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def folder(self) -> Path:
        """Where everything of this cluster is, once it was started."""
        if self._folder is None:
            raise ClusterError("the cluster was not started")
        return self._folder

    @property
    def data(self) -> Path:
        """The server's data folder, readable by the server's user only."""
        return self.folder / "data"

    @property
    def socket_folder(self) -> Path:
        """The folder of the UNIX socket, as C{host} in a connection string."""
        if self._socket_folder is None:
            raise ClusterError("the cluster was not started")
        return self._socket_folder

    @property
    def certificate(self) -> Path:
        """The certificate served with C{ssl}, for a client's C{sslrootcert}."""
        return self.folder / "server.crt"

    @property
    def binaries(self) -> Path:
        """The folder of the programs, C{psql} among them."""
        if self._binaries is None:
            self._binaries = self._given_binaries or find_binaries(self._wanted_major())
        return self._binaries

    @property
    def programs(self) -> Programs:
        """The programs as the server's user runs them, once the cluster was started."""
        if self._programs is None:
            raise ClusterError("the cluster was not started")
        return self._programs

    @property
    def password(self) -> str:
        """The superuser's password."""
        return (self.folder / "password").read_text()

    @property
    def pid(self) -> int | None:
        """The process id of the server (its postmaster); None while it does not run."""
        running = self._process is not None and self._process.poll() is None
        return self._process.pid if running and self._process is not None else None

    def start(self) -> None:
        """
        Make the data when it is not there, start the server, and wait until it takes logins.

        A server left running on this folder by a crash of ours is stopped first.

        @raise ClusterError: it doesn't come up, or another process has the folder
        @raise NoServer: no server was found
        """
        if self._process is not None:
            raise ClusterError("the cluster was started already")
        try:
            self._take_folder()
            if not self.data.exists():
                password = self._given_password or secrets.token_urlsafe(18)
                write_secret(self.folder / "password", password.encode())
                self.programs.make_data(self.data, self.superuser, password, durable=self._durable)
            self.programs.stop_leftover(self.data)
            self._start_on_some_port()
        except BaseException:
            self.stop()
            raise

    def stop(self, *, immediate: bool = False) -> None:
        """
        Stop the server and wait until it is gone; a temporary folder is removed.

        @param immediate: as in a crash: no checkpoint, clients see the
            connection break; the next start recovers
        """
        self._end(signal.SIGQUIT if immediate else signal.SIGINT)
        if self._socket_folder is not None and self._socket_folder.parent != self._folder:
            shutil.rmtree(self._socket_folder, ignore_errors=True)
        self._socket_folder = None
        if self._lock is not None:
            self._lock.close()
            self._lock = None
        if self._folder is not None and self._given_folder is None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    def restart(self, *, immediate: bool = False) -> None:
        """
        Stop the server and start it again on the same data and the same port.

        L{settings} and L{hba}, changed meanwhile, hold from then on.

        @param immediate: as in L{stop}
        @raise ClusterError: it doesn't come up again
        """
        self._end(signal.SIGQUIT if immediate else signal.SIGINT)
        self._start_on_port(self.port)

    def reload(self) -> None:
        """Have the server read L{settings} and L{hba} again, for logins and queries to come."""
        self._write_configuration()
        if self._process is None:
            raise ClusterError("the cluster was not started")
        self._process.send_signal(signal.SIGHUP)

    def dsn(
        self,
        dbname: str = "postgres",
        user: str | None = None,
        password: str | None = None,
        **parameters: str,
    ) -> str:
        """
        A connection string (URL) to the server itself.

        @param user: None: the superuser, with its password
        @param password: None: no password in the string (but the superuser's)
        @param parameters: more of libpq's words, such as C{sslmode}
        """
        if user is None:
            user, password = self.superuser, self.password if password is None else password
        login = quote(user, safe="")
        if password is not None:
            login += ":" + quote(password, safe="")
        words = "?" + urlencode(parameters, quote_via=quote) if parameters else ""
        return f"postgresql://{login}@{self.host}:{self.port}/{quote(dbname, safe='')}{words}"

    def psql(
        self,
        sql: str,
        dbname: str = "postgres",
        *,
        user: str | None = None,
        password: str | None = None,
        single_transaction: bool = False,
    ) -> str:
        """
        Run SQL by C{psql} on the server itself and give what it prints: a row
        a line, its columns split by C{|}.

        @raise ClusterError: a statement failed
        """
        command = [str(self.binaries / "psql"), "-X", "-q", "-A", "-t", "-w"]
        command += ["-v", "ON_ERROR_STOP=1", "-f", "-"]
        command += ["--single-transaction"] if single_transaction else []
        user = self.superuser if user is None else user
        password = self.password if password is None else password
        variables = environment(self.folder)
        variables |= {"PGPASSWORD": password, "PGUSER": user, "PGDATABASE": dbname}
        variables |= {"PGHOST": str(self.socket_folder), "PGPORT": str(self.port)}
        done = subprocess.run(
            command,
            input=sql,
            env=variables,
            capture_output=True,
            text=True,
            check=False,
            timeout=RUN_SECONDS,
        )
        if done.returncode:
            raise ClusterError(f"psql: {done.stderr.strip()}")
        return done.stdout.removesuffix("\n")

    def log_text(self) -> str:
        """What the server wrote to its log since the last start."""
        return (self.folder / "log").read_text(errors="replace")

    def _take_folder(self) -> None:
        """Make the folder and hold it: no other process of ours may use it meanwhile."""
        account = self._account
        folder = self._given_folder
        if folder is None:
            folder = self._folder or make_temporary("proxyd-postgres-", account)
        folder = folder.absolute()
        folder.mkdir(parents=True, exist_ok=True)
        if account.is_other:
            # Another user's server goes through it; what is secret in it is 0600 or 0700.
            folder.chmod(0o711)
        if not reaches(account, folder):
            raise ClusterError(
                f"user {account.name}, as whom the server runs, can't reach {folder}"
            )
        self._folder = folder
        self._lock = (folder / "lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ClusterError(f"another process uses the PostgreSQL in {folder}") from None
        binaries = self.binaries
        if not reaches(account, binaries):
            binaries = copy_binaries(binaries, folder / "programs")
        self._programs = Programs(binaries, account, folder)
        self._make_socket_folder()

    def _wanted_major(self) -> int | None:
        """Data is read by the major version that made it, and by no other."""
        made_by = None if self._folder is None else self._folder / "data" / "PG_VERSION"
        if self._major is None and made_by is not None and made_by.is_file():
            return int(made_by.read_text())
        return self._major

    def _make_socket_folder(self) -> None:
        """A folder for the socket whose path is short enough for one."""
        sockets = self.folder / "socket"
        if len(os.fsencode(sockets)) > SOCKET_PATH_LIMIT:
            sockets = make_temporary("proxyd-socket-", self._account)
        sockets.mkdir(exist_ok=True)
        self._account.own(sockets)
        sockets.chmod(0o755)
        self._socket_folder = sockets

    def _start_on_some_port(self) -> None:
        """Start on the port that was asked for, or on a free one that nobody takes meanwhile."""
        tries = 1 if self._given_port is not None else PORT_TRIES
        for left in reversed(range(tries)):
            try:
                self._start_on_port(self._given_port or free_port(self.host))
            except ClusterError:
                taken = re.search("could not bind|Address already in use", self.log_text())
                if not taken or not left:
                    raise
            else:
                return

    def _start_on_port(self, port: int) -> None:
        self.port = port
        self._write_configuration()
        process = self.programs.serve(self.data, self.folder / "cluster.conf", self.folder / "log")
        self._process = process
        socket_path = self.socket_folder / f".s.PGSQL.{port}"
        if not wait_until_ready(str(socket_path), lambda: process.poll() is None, START_SECONDS):
            self._end(signal.SIGQUIT)
            raise ClusterError(f"PostgreSQL did not start: {self._last_words()}")

    def _end(self, first: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is not None:
            end(process, first)

    def _write_configuration(self) -> None:
        settings = {
            "listen_addresses": self.host,
            "port": str(self.port),
            "unix_socket_directories": str(self.socket_folder),
            "hba_file": str(self.folder / "pg_hba.conf"),
            "password_encryption": "scram-sha-256",
        }
        if not self._durable:
            settings |= NOT_DURABLE
        if self._ssl:
            settings |= {
                "ssl": "on",
                "ssl_cert_file": str(self.certificate),
                "ssl_key_file": str(self._make_certificate()),
            }
        settings |= self.settings
        write_lines(self.folder / "cluster.conf", configuration_lines(self.data, settings))
        write_lines(self.folder / "pg_hba.conf", [*self.hba, *LAST_HBA])

    def _make_certificate(self) -> Path:
        """The key's file, made with its certificate when it is not there."""
        key = self.folder / "server.key"
        if not key.exists():
            certificate_pem, key_pem = self_signed(self.host)
            self.certificate.write_bytes(certificate_pem)
            self.certificate.chmod(0o644)
            write_secret(key, key_pem, self._account)
        return key

    def _last_words(self) -> str:
        """What the log says of a fault, without the times."""
        said = [line for line in self.log_text().splitlines() if line.strip()]
        return "; ".join(line.partition("] ")[2] or line for line in said[-3:]) or "it said nothing"
