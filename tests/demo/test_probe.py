"""Free ports, and whether a PostgreSQL answers."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable
from threading import Thread

from twisted.trial.unittest import TestCase

from demo.probe import answers, free_port, port_or_free, wait_until_ready


def message(kind: bytes, body: bytes) -> bytes:
    """A message of PostgreSQL's protocol 3."""
    return kind + struct.pack("!I", 4 + len(body)) + body


class PortTests(TestCase):
    """Choosing a port."""

    def test_free_port(self) -> None:
        """A free port can be listened on, and is then kept as the one wanted."""
        port = free_port()
        self.assertEqual(port_or_free("127.0.0.1", port), port)

    def test_taken_port(self) -> None:
        """A port on which somebody listens is replaced by a free one."""
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            found = port_or_free("127.0.0.1", port)
            self.assertNotEqual(found, port)
            self.assertEqual(port_or_free("127.0.0.1", found), found)


class AnswerTests(TestCase):
    """Who answers like a PostgreSQL that takes logins."""

    def ask(self, reply: Callable[[socket.socket], object]) -> bool:
        """Whether a server that replies like this is taken for ready."""
        with socket.create_server(("127.0.0.1", 0)) as server:

            def serve() -> None:
                client, _ = server.accept()
                with client:
                    client.recv(4096)
                    reply(client)

            thread = Thread(target=serve)
            thread.start()
            try:
                return answers(server.getsockname())
            finally:
                thread.join()

    def test_asked_for_a_password(self) -> None:
        """A request for a password is a yes."""
        scram = message(b"R", struct.pack("!I", 10) + b"SCRAM-SHA-256\0\0")
        self.assertTrue(self.ask(lambda client: client.sendall(scram)))

    def test_starting_up(self) -> None:
        """The refusal of a server that starts or stops (57P03) is a no; any other a yes."""
        for state, expected in ((b"57P03", False), (b"28000", True)):
            refusal = message(b"E", b"SFATAL\0C" + state + b"\0Mno\0\0")
            self.assertEqual(self.ask(lambda client, it=refusal: client.sendall(it)), expected)

    def test_no_postgresql(self) -> None:
        """Silence, another protocol, and a port where nobody listens are a no."""
        self.assertFalse(self.ask(lambda client: None))
        self.assertFalse(self.ask(lambda client: client.sendall(b"HTTP/1.1 400 Bad\r\n\r\n")))
        self.assertFalse(answers(("127.0.0.1", free_port())))

    def test_process_gone(self) -> None:
        """Nobody waits for a process that has ended."""
        self.assertFalse(wait_until_ready(("127.0.0.1", free_port()), lambda: False, 60.0))
