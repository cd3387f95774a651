"""
What C{verify-full} believes, compared with libpq itself: for each certificate and name, the same.

Where proxyd is stricter, on purpose, it is said here.
"""

from __future__ import annotations

import select
import socket
import ssl
import threading
from tempfile import TemporaryDirectory

from psycopg import pq
from twisted.trial.unittest import SynchronousTestCase

from proxyd.errors import DialError
from proxyd.net.tls import client_context, server_context, verify_server
from tests.net.authority import Pair, made
from tests.net.test_tls import Session

SECONDS = 60.0
NAMES = ("db.example", "10.1.2.3", "::1", "a.pool.example", "a.b.pool.example", "DB.Example")

CERTIFICATES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("db.example", ()),
    ("10.1.2.3", ()),
    ("*.pool.example", ()),
    ("", ()),
    ("db.example", ("other.example",)),
    ("db.example", ("10.9.9.9",)),
    ("10.1.2.3", ("10.9.9.9",)),
    ("10.1.2.3", ("other.example",)),
    ("db.example", ("dba@db.example",)),
    ("other.example", ("db.example", "10.1.2.3", "::1")),
    ("other.example", ("*.pool.example",)),
    ("other.example", ("*.example",)),
)


def libpq_believes(pair: Pair, folder: str, root: str, name: str) -> bool:
    """Whether libpq goes on after the handshake with a server that has this certificate."""
    certificate, key = pair.write(folder, "leaf")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    asked: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(SECONDS)

        def serve() -> None:
            sock, _ = listening.accept()
            with sock:
                sock.settimeout(SECONDS)
                sock.recv(8, socket.MSG_WAITALL)
                sock.sendall(b"S")
                try:
                    with context.wrap_socket(sock, server_side=True) as secure:
                        asked.append(secure.recv(8))
                except OSError:
                    return

        serving = threading.Thread(target=serve)
        serving.start()
        port = listening.getsockname()[1]
        said = f"host={name} hostaddr=127.0.0.1 port={port} user=ann dbname=x connect_timeout=20"
        said += f" sslmode=verify-full sslrootcert={root} gssencmode=disable"
        connect(said)
        serving.join()
    return asked not in ([], [b""])


def connect(conninfo: str) -> None:
    """Let libpq try, in steps: it would hold up all threads otherwise."""
    connection = pq.PGconn.connect_start(conninfo.encode())
    while (status := connection.connect_poll()) not in (
        pq.PollingStatus.OK,
        pq.PollingStatus.FAILED,
    ):
        reading = status == pq.PollingStatus.READING
        fds = [connection.socket]
        select.select(fds if reading else [], [] if reading else fds, [], SECONDS)
    connection.finish()


class AsLibpqTests(SynchronousTestCase):
    """The same certificates are believed."""

    def test_as_libpq(self) -> None:
        """Whatever names a certificate has, and whichever is asked for."""
        ca = made("test CA", ca=True)
        with TemporaryDirectory() as folder:
            root, _ = ca.write(folder, "ca")
            for common_name, names in CERTIFICATES:
                pair = made(common_name, names=names, issuer=ca)
                certificate, key = pair.write(folder, "ours")
                for name in NAMES:
                    session = Session(
                        client_context("verify-full", root=root), server_context(certificate, key)
                    )
                    session.shake()
                    try:
                        verify_server(session.client, "verify-full", name)
                        ours = True
                    except DialError:
                        ours = False
                    theirs = libpq_believes(pair, folder, root, name)
                    if "*.example" in names:
                        # At least two labels behind the star: RFC 9525 leaves it to us.
                        self.assertFalse(ours)
                        continue
                    self.assertEqual(ours, theirs, (common_name, names, name))
