"""The PROXY protocol, versions 1 and 2."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from proxyd.errors import ProtocolError
from proxyd.wire.proxy_protocol import (
    V2_LIMIT,
    HeaderState,
    ProxiedAddress,
    ProxyHeader,
)
from tests.wire.cuts import cut, one_by_one, places

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
ANN = ProxiedAddress(("192.0.2.7", 40001), ("198.51.100.1", 6432))

ports = st.integers(0, 65535)
addresses = st.tuples(st.ip_addresses(v=4), st.ip_addresses(v=4)) | st.tuples(
    st.ip_addresses(v=6), st.ip_addresses(v=6)
)


def v2(command: int, family: int, body: bytes) -> bytes:
    """A header of version 2."""
    return SIGNATURE + bytes((command, family)) + len(body).to_bytes(2, "big") + body


def read(chunks: list[bytes]) -> tuple[list[ProxiedAddress], ProxyHeader]:
    """Hand in chunks; all that was announced, and the machine."""
    header = ProxyHeader()
    given = [header.receive_data(chunk) for chunk in chunks]
    return [address for address in given if address is not None], header


def short(address: IPv4Address | IPv6Address) -> str:
    """An address as it is to be read."""
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return str(mapped or address)


class BothTests(SynchronousTestCase):
    """What holds for both versions."""

    @given(addresses, ports, ports, st.booleans(), st.binary(max_size=20), places)
    def test_cuts(
        self,
        pair: tuple[IPv4Address | IPv6Address, IPv4Address | IPv6Address],
        source_port: int,
        destination_port: int,
        text: bool,
        rest: bytes,
        where: list[int],
    ) -> None:
        """What was written is read, however TCP cuts it, and the rest is kept."""
        source, destination = pair
        if text:
            header = f"PROXY TCP{source.version} {source} {destination} ".encode()
            header += f"{source_port} {destination_port}\r\n".encode()
        else:
            body = source.packed + destination.packed
            body += source_port.to_bytes(2, "big") + destination_port.to_bytes(2, "big")
            header = v2(0x21, 0x11 if source.version == 4 else 0x21, body + b"\x03\0\4crc!")
        expected = ProxiedAddress(
            (short(source), source_port), (short(destination), destination_port)
        )
        data = header + rest
        for chunks in ([data], cut(data, where), one_by_one(data)):
            announced, machine = read(chunks)
            self.assertEqual(announced, [expected])
            self.assertEqual(machine.trailing_data, rest)
            self.assertIs(machine.state, HeaderState.DONE)

    @given(
        st.binary(max_size=120)
        | st.binary(max_size=60).map(lambda tail: SIGNATURE + b"\x21" + tail)
        | st.binary(max_size=120).map(lambda tail: b"PROXY " + tail + b"\r\n"),
        places,
    )
    def test_noise(self, data: bytes, where: list[int]) -> None:
        """Noise never raises anything but ProtocolError, however it is cut."""
        results = []
        for chunks in ([data], cut(data, where)):
            try:
                results.append(read(chunks)[0])
            except ProtocolError:
                results.append([])
        self.assertEqual(results[0], results[1])

    def test_strangers(self) -> None:
        """What is no header is refused at the first byte that differs."""
        for start in (b"\0", b"\x16", b"G", b"PROXX", b"PROXY\t", b"\r\n\r\n\0\r\nQUIT\r"):
            with self.subTest(start=start):
                _, machine = read(one_by_one(start[:-1]))
                self.assertRaises(ProtocolError, machine.receive_data, start[-1:])
                self.assertIs(machine.state, HeaderState.FAILED)
                self.assertIsNone(machine.receive_data(b"PROXY UNKNOWN\r\n"))
                self.assertEqual(machine.trailing_data, b"")

    def test_after(self) -> None:
        """Bytes after the header are kept for the next machine, whenever they come."""
        _, machine = read([b"PROXY UNKNOWN\r\nab", b"cd"])
        self.assertEqual(machine.trailing_data, b"abcd")

    def test_wrapped(self) -> None:
        """IPv4 within IPv6 is IPv4, so that a rule about the one holds for the other."""
        line = b"PROXY TCP6 ::ffff:10.1.2.3 ::1 1 2\r\n"
        packed = ip_address("::ffff:10.1.2.3").packed + ip_address("::1").packed
        for header in (line, v2(0x21, 0x21, packed + b"\0\1\0\2")):
            self.assertEqual(read([header])[0], [ProxiedAddress(("10.1.2.3", 1), ("::1", 2))])


class TextTests(SynchronousTestCase):
    """Version 1: one line."""

    def test_longest(self) -> None:
        """107 bytes are taken, one more is not, and is not waited for."""
        line = b"PROXY UNKNOWN " + b"x" * (107 - 16) + b"\r\n"
        self.assertEqual(len(line), 107)
        self.assertEqual(read([line])[0], [ProxiedAddress(None)])
        self.assertRaises(ProtocolError, read, [line[:-2] + b"x\r\n"])
        self.assertRaises(ProtocolError, read, [line[:-2] + b"xx"])

    def test_unknown(self) -> None:
        """Who does not know leaves the real address as it is."""
        for line in (b"PROXY UNKNOWN\r\n", b"PROXY UNKNOWN ff:: ff:: 1 2\r\n"):
            self.assertEqual(read([line])[0], [ProxiedAddress(None)])

    def test_malformed(self) -> None:
        """One blank between words, true addresses, ports without zeros before them."""
        for line in (
            b"PROXY \r\n",
            b"PROXY TCP4\r\n",
            b"PROXY UNKNOWNS\r\n",
            b"PROXY UDP4 1.2.3.4 1.2.3.4 1 2\r\n",
            b"PROXY TCP4 1.2.3.4 1.2.3.4 1\r\n",
            b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2 3\r\n",
            b"PROXY TCP4  1.2.3.4 1.2.3.4 1 2\r\n",
            b"PROXY TCP4 1.2.3.4 1.2.3.4 1 65536\r\n",
            b"PROXY TCP4 1.2.3.4 1.2.3.4 01 2\r\n",
            b"PROXY TCP4 1.2.3.4 1.2.3.4 -1 2\r\n",
            b"PROXY TCP4 1.2.3.4 1.2.3.4 +1 2\r\n",
            b"PROXY TCP4 01.2.3.4 1.2.3.4 1 2\r\n",
            b"PROXY TCP4 1.2.3 1.2.3.4 1 2\r\n",
            b"PROXY TCP4 ::1 ::1 1 2\r\n",
            b"PROXY TCP6 1.2.3.4 1.2.3.4 1 2\r\n",
            b"PROXY TCP6 fe80::1%eth0 ::1 1 2\r\n",
            b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2\n\r\n",
            b"PROXY TCP4 1.2.3.4 1.2.3.4 1 \xb2\r\n",
        ):
            with self.subTest(line=line):
                self.assertRaises(ProtocolError, read, [line])


class BinaryTests(SynchronousTestCase):
    """Version 2: a binary header."""

    tcp4 = b"\xc0\0\2\7\xc6\x33\x64\1\x9c\x41\x19\x20"

    def test_plain(self) -> None:
        """A TCP connection over IPv4, with and without extensions."""
        for extensions in (b"", b"\x03\0\4abcd", b"\x04\xff\xffno extension at all"):
            self.assertEqual(read([v2(0x21, 0x11, self.tcp4 + extensions)])[0], [ANN])

    def test_local(self) -> None:
        """A health check of the balancer's leaves the real address, whatever goes with it."""
        for header in (v2(0x20, 0, b""), v2(0x20, 0x11, self.tcp4), v2(0x20, 0x99, b"x")):
            self.assertEqual(read([header])[0], [ProxiedAddress(None)])

    def test_no_address(self) -> None:
        """Unspecified and UNIX connections leave the real address."""
        for header in (v2(0x21, 0, b"anything"), v2(0x21, 0x31, b"/socket".ljust(216, b"\0"))):
            announced, machine = read([header + b"rest"])
            self.assertEqual(announced, [ProxiedAddress(None)])
            self.assertEqual(machine.trailing_data, b"rest")

    def test_refused(self) -> None:
        """Other versions, commands, families, and bodies that are too short."""
        for header in (
            v2(0x11, 0x11, self.tcp4),
            v2(0x22, 0x11, self.tcp4),
            v2(0x21, 0x12, self.tcp4),
            v2(0x21, 0x41, self.tcp4),
            v2(0x21, 0x01, b""),
            v2(0x21, 0x11, self.tcp4[:-1]),
            v2(0x21, 0x21, bytes(35)),
            v2(0x21, 0x31, bytes(215)),
        ):
            with self.subTest(header=header):
                self.assertRaises(ProtocolError, read, [header])

    def test_longest(self) -> None:
        """The limit is taken; more is refused before it is waited for."""
        fits = v2(0x21, 0x11, self.tcp4.ljust(V2_LIMIT - 16, b"\0"))
        self.assertEqual(len(fits), V2_LIMIT)
        self.assertEqual(read([fits])[0], [ANN])
        over = v2(0x21, 0x11, self.tcp4.ljust(V2_LIMIT - 15, b"\0"))
        self.assertRaises(ProtocolError, read, [over[:16]])
