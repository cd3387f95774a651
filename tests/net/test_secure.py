"""Tests for L{proxyd.net.secure}: TLS on a descriptor, with another TLS library at the far end."""

from __future__ import annotations

import hashlib
import os
import socket
import ssl

from OpenSSL import SSL
from twisted.internet.defer import gatherResults
from twisted.internet.threads import deferToThread

from proxyd.net.certificates import own_certificate
from proxyd.net.end import End
from proxyd.net.relay import join
from proxyd.net.tls import client_context
from tests.net.conformance import Conformance
from tests.net.peers import (
    PATIENCE,
    LinkCase,
    Recorder,
    exchange,
    read_all,
    tcp_pair,
    until,
)

MEGABYTE = 1 << 20
RECORD = 16384


def old_tls() -> ssl.SSLContext:
    """A client of TLS 1.2."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    return context


def say_close(far: ssl.SSLSocket) -> None:
    """Send close_notify, wait for no answer, and leave TCP open."""
    far.setblocking(False)
    try:
        far.unwrap()
    except ssl.SSLWantReadError:
        far.settimeout(PATIENCE)


class TlsConformance(Conformance):
    """An End that is the server of a TLS 1.3 session."""

    async def stand(self, subject: Recorder | None = None) -> tuple[End, socket.socket]:
        return await self.tls_end(subject)

    async def half_close(self, far: socket.socket) -> None:
        assert isinstance(far, ssl.SSLSocket)
        say_close(far)


class OldTlsConformance(TlsConformance):
    """The same with TLS 1.2."""

    async def stand(self, subject: Recorder | None = None) -> tuple[End, socket.socket]:
        return await self.tls_end(subject, old_tls())


class ServerTests(LinkCase):
    """We are the server of the TLS session."""

    async def test_talk(self) -> None:
        """What is said within TLS is received, and the session can be looked at."""
        end, far = await self.tls_end()
        assert end.secure is not None
        self.assertEqual(end.secure.connection.get_protocol_version_name(), "TLSv1.3")
        far.sendall(b"hello")
        end.write(b"good day")
        self.assertEqual(await deferToThread(far.recv, 100), b"good day")
        await until(lambda: self.subject.data.get(end) == b"hello", "the peer's bytes")
        self.assertEqual((end.received, end.sent), (5, 8))

    async def test_empty_write(self) -> None:
        """To write nothing is nothing."""
        end, far = await self.tls_end()
        end.write(b"")
        end.write(b"x")
        self.assertEqual(await deferToThread(far.recv, 100), b"x")
        self.assertEqual(self.subject.events, [])

    async def test_sizes(self) -> None:
        """Nothing stays in TLS's own buffer, whatever the sizes of records and messages."""
        end, far = await self.tls_end()
        for size in (1, RECORD - 1, RECORD, RECORD + 1, 4 * RECORD, 5 * RECORD, 300_000):
            before = end.received
            await deferToThread(far.sendall, bytes(size))
            await until(lambda b=before, s=size: end.received == b + s, f"{size} bytes")

    async def test_close_notify_without_fin(self) -> None:
        """
        A peer's close_notify is its end, though TCP stays open.

        Behind full records too: what TLS reads ahead of us must not be lost.
        """
        for size in (0, 10, RECORD, 2 * RECORD, 4 * RECORD, 16 * RECORD):
            end, far = await self.tls_end()
            end.pause()
            await deferToThread(far.sendall, bytes(size))
            say_close(far)
            end.resume()
            await until(lambda end=end: self.subject.told(end), f"the end behind {size} bytes")
            self.assertEqual(self.subject.told(end), ["finished"])
            self.assertEqual(end.received, size)

    async def test_close_notify_while_joined(self) -> None:
        """The same for a joined End, where a read takes more."""
        for size in (16 * RECORD, 15 * RECORD, 3 * RECORD):
            end, far = await self.tls_end()
            server, server_far = self.end()
            end.pause()
            await deferToThread(far.sendall, bytes(size))
            say_close(far)
            join(end, server, self.subject, None, None)
            got, _ = await deferToThread(exchange, server_far, b"", size, RECORD)
            await until(lambda end=end: self.subject.told(end), f"the end behind {size} bytes")
            self.assertEqual(got, size)
            self.assertEqual(self.subject.told(end), ["finished"])

    async def test_our_close(self) -> None:
        """We say close_notify, in a close as in a drop: nobody takes it for a cut."""
        for way in (lambda end: end.close(b"last"), lambda end: (end.write(b"last"), end.drop())):
            end, far = await self.tls_end()
            way(end)
            # suppress_ragged_eofs is off: an end without close_notify would raise.
            self.assertEqual(await deferToThread(read_all, far), b"last")
            far.close()

    async def test_cut(self) -> None:
        """A peer that ends TCP without close_notify has ended, not failed."""
        end, far = await self.tls_end()
        raw = socket.socket(fileno=os.dup(far.fileno()))
        self.fars.append(raw)
        raw.shutdown(socket.SHUT_WR)
        await until(lambda: self.subject.told(end), "the end")
        self.assertEqual(self.subject.told(end), ["finished"])

    async def test_broken_record(self) -> None:
        """Bytes that are no TLS, in the middle of a session, are a loss that is told once."""
        end, far = await self.tls_end()
        raw = socket.socket(fileno=os.dup(far.fileno()))
        self.fars.append(raw)
        raw.sendall(b"\x17\x03\x03\0\x30" + bytes(48))
        await until(lambda: self.subject.told(end), "the loss")
        (told,) = self.subject.told(end)
        self.assertTrue(told.startswith("gone: TLS: "), told)

    async def test_renegotiation(self) -> None:
        """A client of TLS 1.2 that wants to renegotiate is not let, and harms nobody."""
        ours, _ = self.contexts()
        end, far = self.end()
        good, good_far = await self.tls_end()
        secured: list[bool] = []
        end.tls(ours, None, lambda: secured.append(True))

        def renegotiate() -> tuple[int, bytes]:
            context = SSL.Context(SSL.TLS_CLIENT_METHOD)
            context.set_max_proto_version(SSL.TLS1_2_VERSION)
            far.settimeout(None)
            connection = SSL.Connection(context, far)
            connection.set_connect_state()
            connection.do_handshake()
            connection.renegotiate()
            try:
                connection.do_handshake()
                connection.send(b"hello")
                connection.do_handshake()
                done = b""
            except SSL.Error as error:
                done = str(error).encode()
            return connection.total_renegotiations(), done

        count, refusal = await deferToThread(renegotiate)
        self.assertTrue(secured)
        self.assertIn(b"no renegotiation", refusal, count)
        await deferToThread(good_far.sendall, b"fine")
        await until(lambda: self.subject.data.get(good) == b"fine", "the other session")


class HandshakeTests(LinkCase):
    """What can go wrong before TLS is up is told as a loss, once."""

    async def fails(self, end: End) -> str:
        """Wait for the loss; its reason."""
        await until(lambda: self.subject.told(end), "the loss")
        (told,) = self.subject.told(end)
        self.assertTrue(told.startswith("gone: TLS handshake: "), told)
        self.assertTrue(end.closed)
        assert end.secure is not None
        self.assertIsInstance(end.secure.failure, SSL.Error)
        return told[len("gone: TLS handshake: ") :]

    async def test_garbage(self) -> None:
        """A client that does not speak TLS."""
        for garbage in (
            b"GET / HTTP/1.1\r\n\r\n",
            b"\0\0\0\x08\x04\xd2\x16\x2f",
            b"\x16\x03\1\xff",
        ):
            ours, _ = self.contexts()
            end, far = self.end()
            end.tls(ours, None, lambda: self.fail("no handshake was made"))
            far.sendall(garbage)
            far.shutdown(socket.SHUT_WR)
            self.assertTrue(await self.fails(end))

    async def test_left(self) -> None:
        """A client that goes away in the middle, at once or after its first bytes."""
        for first in (b"", b"\x16\x03\1\2\0\1"):
            ours, _ = self.contexts()
            end, far = self.end()
            end.tls(ours, None, lambda: self.fail("no handshake was made"))
            far.sendall(first)
            far.close()
            self.assertEqual(await self.fails(end), "the peer ended the connection")

    async def test_distrusted(self) -> None:
        """A client that does not trust our certificate says so by an alert."""
        ours, _ = self.contexts()
        end, far = self.end()
        end.tls(ours, None, lambda: None)
        stranger = ssl.create_default_context()
        stranger.load_verify_locations(cadata=None, cafile=self.stranger())
        with self.assertRaises(ssl.SSLCertVerificationError):
            await deferToThread(stranger.wrap_socket, far, server_hostname="localhost")
        await until(lambda: self.subject.told(end), "the loss")
        (told,) = self.subject.told(end)
        self.assertIn("unknown ca", told)

    def stranger(self) -> str:
        """The CA of somebody else."""
        folder = self.mktemp()
        own_certificate(folder, names=(), clock=self.clock())
        return f"{folder}/ca.pem"

    async def test_aborted(self) -> None:
        """An End that is given up in the middle of a handshake is gone, and nobody is told."""
        for way in (End.abort, End.drop, End.close):
            ours, _ = self.contexts()
            end, far = self.end()
            end.tls(ours, None, lambda: self.fail("no handshake was made"))
            far.sendall(b"\x16\x03\1")
            way(end)
            far.close()
            await until(lambda: not self.link.ends, "the End to be gone")
        self.assertEqual(self.subject.events, [])

    async def test_byte_by_byte(self) -> None:
        """However TCP cuts the handshake, it is made, and not before its last byte."""
        ours, theirs = self.contexts()
        near, far = tcp_pair()
        self.fars.append(far)
        end = End(self.link, near, None, self.subject)
        self.ends.append(end)
        secured: list[bool] = []
        end.tls(ours, None, lambda: secured.append(True))

        def slowly() -> bytes:
            incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            session = theirs.wrap_bio(incoming, outgoing, server_hostname="localhost")
            while True:
                try:
                    session.do_handshake()
                    break
                except ssl.SSLWantReadError:
                    for byte in outgoing.read():
                        far.sendall(bytes((byte,)))
                    incoming.write(far.recv(10))
            session.write(b"hello")
            for byte in outgoing.read():
                far.sendall(bytes((byte,)))
            return b""

        await deferToThread(slowly)
        await until(lambda: self.subject.data.get(end) == b"hello", "the first word")
        self.assertTrue(secured)


class ClientTests(LinkCase):
    """We are the client of the TLS session, and between two of them."""

    async def server(self) -> tuple[End, ssl.SSLSocket, str]:
        """An End that is a client of a TLS server of another library; that server's CA."""
        folder = self.mktemp()
        certificate, key = own_certificate(folder, names=(), clock=self.clock())
        theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        theirs.load_cert_chain(certificate, key)
        end, far = self.end()
        secured: list[bool] = []
        root = f"{folder}/ca.pem"
        end.tls(client_context("verify-full", root=root), "localhost", lambda: secured.append(True))
        wrapped = await deferToThread(theirs.wrap_socket, far, True)
        self.fars.append(wrapped)
        await until(lambda: secured, "the handshake")
        return end, wrapped, root

    async def test_talk(self) -> None:
        """The handshake names the server, and both sides are heard."""
        end, far, _ = await self.server()
        end.write(b"hello")
        self.assertEqual(await deferToThread(far.recv, 100), b"hello")
        far.sendall(b"good day")
        await until(lambda: self.subject.data.get(end) == b"good day", "the answer")

    async def test_wrong_ca(self) -> None:
        """A server whose CA is not trusted is left before a byte is said."""
        _, _, other_root = await self.server()
        folder = self.mktemp()
        certificate, key = own_certificate(folder, names=(), clock=self.clock())
        theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        theirs.load_cert_chain(certificate, key)
        end, far = self.end()
        context = client_context("verify-full", root=other_root)
        end.tls(context, "localhost", lambda: self.fail("no handshake was made"))
        with self.assertRaises(OSError):
            await deferToThread(theirs.wrap_socket, far, True)
        await until(lambda: self.subject.told(end), "the loss")
        self.assertEqual(len(self.subject.told(end)), 1)
        self.assertIn("certificate verify failed", self.subject.told(end)[0])

    async def test_both_sides(self) -> None:
        """TLS at both sides of a relay: 8 MB each way through slow readers, unchanged."""
        client, client_far = await self.tls_end()
        server, server_far, _ = await self.server()
        join(client, server, self.subject, None, None)
        up, down = os.urandom(MEGABYTE) * 8, os.urandom(MEGABYTE) * 8
        got = await gatherResults(
            [
                deferToThread(exchange, client_far, up, len(down), 9000),
                deferToThread(exchange, server_far, down, len(up), 5000),
            ]
        )
        self.assertEqual(
            got, [(len(data), hashlib.sha256(data).hexdigest()) for data in (down, up)]
        )
        client.close(b"last words")
        server.close()
        self.assertEqual(await deferToThread(read_all, client_far), b"last words")

    async def test_one_side(self) -> None:
        """TLS at the client's side only, as on the way to a server of the same host."""
        client, client_far = await self.tls_end()
        server, server_far = self.end()
        join(client, server, self.subject, None, None)
        data = os.urandom(MEGABYTE) * 8
        got = await gatherResults(
            [
                deferToThread(exchange, client_far, data, len(data), 65536),
                deferToThread(exchange, server_far, data, len(data), 65536),
            ]
        )
        self.assertEqual(got, [(len(data), hashlib.sha256(data).hexdigest())] * 2)
