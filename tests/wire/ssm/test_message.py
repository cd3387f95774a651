"""Tests for L{proxyd.wire.ssm.message}: every frame as the real peers make it."""

from __future__ import annotations

import json
import uuid

from hypothesis import example, given
from hypothesis import strategies as st
from twisted.trial.unittest import TestCase

from proxyd.errors import ProtocolError
from proxyd.wire.ssm import message as wire
from tests.wire.ssm.sources import sessions, vectors

CREATED = 1700000000123
ID = uuid.UUID("00112233-4455-6677-8899-aabbccddeeff").bytes


class VectorTests(TestCase):
    """Byte for byte what AWS's own code writes."""

    def test_frames(self) -> None:
        """Each frame is read as what it is, and written as the same bytes."""
        checked = 0
        for name, vector in vectors().items():
            if vector["kind"] != "frame":
                continue
            checked += 1
            data, fields = bytes.fromhex(vector["hex"]), vector["fields"]
            found = wire.parse(data)
            expected = wire.Message(
                fields["MessageType"],
                fields["SequenceNumber"],
                fields["Flags"],
                uuid.UUID(fields["MessageId"]).bytes,
                fields["CreatedDate"],
                fields["PayloadType"] or 0,
                bytes.fromhex(fields["PayloadHex"]),
            )
            self.assertEqual(found, expected, name)
            if fields["HeaderLength"] == 116:
                self.assertEqual(_written(found), data, name)
        self.assertEqual(checked, 13)

    def test_acknowledgement(self) -> None:
        """V2: the keys in their order, compact."""
        of = wire.Message(wire.OUTPUT, 7, 0, ID, CREATED, 1, b"x")
        written = wire.acknowledgement(of, ID, CREATED)
        self.assertEqual(written.hex(), vectors()["V2"]["hex"])
        self.assertEqual(wire.acknowledged(wire.parse(written)), 7)

    def test_open(self) -> None:
        """V9: the text that opens a channel."""
        client = uuid.UUID("ffeeddcc-bbaa-9988-7766-554433221100").bytes
        self.assertEqual(
            wire.open_channel("TOKEN", ID, client, "1.2.650.0"), vectors()["V9"]["data"]
        )

    def test_empty_payload(self) -> None:
        """V6: a frame without a payload is not made."""
        with self.assertRaises(ValueError):
            wire.build(wire.INPUT, 0, 0, ID, CREATED, 1, b"")

    def test_closed_by_the_service(self) -> None:
        """V10: its short header, padded with NUL, is read to its text."""
        found = wire.parse(bytes.fromhex(vectors()["V10"]["hex"]))
        self.assertEqual((found.kind, wire.why_closed(found)), (wire.CHANNEL_CLOSED, "bye"))

    def test_recorded(self) -> None:
        """Every frame of two recorded sessions is read, and written as it was."""
        for name, frames in sessions().items():
            for who, data in frames:
                found = wire.parse(data)
                self.assertTrue(found.digest_good, (name, who))
                self.assertEqual(_written(found), data, (name, who))


class ParseTests(TestCase):
    """What is no frame."""

    def frame(self, **changed: int) -> bytearray:
        """V1, to be damaged."""
        return bytearray.fromhex(vectors()["V1"]["hex"])

    def test_wrong_digest(self) -> None:
        """It is told, and the payload taken: real digests were seen to be wrong."""
        data = self.frame()
        data[80] ^= 1
        found = wire.parse(bytes(data))
        self.assertFalse(found.digest_good)
        self.assertEqual(found.payload, b"SSH-2.0-proxyd\r\n")

    def test_payload_length_is_not_believed(self) -> None:
        """All that follows is the payload, whatever the length says."""
        data = self.frame()
        data[116:120] = b"\xff\xff\xff\xff"
        self.assertEqual(wire.parse(bytes(data)).payload, b"SSH-2.0-proxyd\r\n")

    def test_refused(self) -> None:
        """Giant, short, undated and nameless frames are refused."""
        for at, value, what in (
            (0, b"\xff\xff\xff\xff", "header"),
            (0, b"\0\0\0\0", "header"),
            (4, bytes(32), "type"),
            (4, b" " * 32, "type"),
            (40, bytes(8), "date"),
        ):
            data = self.frame()
            data[at : at + len(value)] = value
            with self.assertRaisesRegex(ProtocolError, what):
                wire.parse(bytes(data))
        for size in (0, 1, 115, 119):
            with self.assertRaises(ProtocolError):
                wire.parse(bytes(self.frame())[:size])
        with self.assertRaisesRegex(ProtocolError, "at most"):
            wire.parse(bytes(self.frame()) + bytes(wire.LARGEST))

    def test_publication_needs_no_date(self) -> None:
        """What the service says of publication is taken as it comes."""
        data = self.frame()
        data[4:36] = b"pause_publication".ljust(32, b"\0")
        data[40:48] = bytes(8)
        self.assertEqual(wire.parse(bytes(data)).kind, wire.PAUSE)

    def test_payloads_that_are_no_json(self) -> None:
        """An acknowledgement must say of what; a close need not say why."""
        for payload in (b"[]", b"{", b"[" * 100000, b'{"AcknowledgedMessageSequenceNumber":true}'):
            message = wire.Message(wire.ACKNOWLEDGE, 0, 3, ID, CREATED, 0, payload)
            with self.assertRaises(ProtocolError):
                wire.acknowledged(message)
        closed = wire.Message(wire.CHANNEL_CLOSED, 0, 0, ID, CREATED, 0, b"\xff")
        self.assertTrue(wire.why_closed(closed))
        quiet = json.dumps({"Output": ""}).encode()
        self.assertEqual(
            wire.why_closed(wire.Message(wire.CHANNEL_CLOSED, 0, 0, ID, CREATED, 0, quiet)), ""
        )

    @example(bytes(200))
    @given(st.binary(max_size=400))
    def test_noise(self, noise: bytes) -> None:
        """Noise never raises anything but ProtocolError."""
        try:
            found = wire.parse(noise)
        except ProtocolError:
            return
        self.assertTrue(found.kind)

    @given(st.data())
    def test_damage(self, data: st.DataObject) -> None:
        """Nor does a frame with some bytes changed."""
        frame = self.frame()
        for _ in range(data.draw(st.integers(1, 6))):
            frame[data.draw(st.integers(0, len(frame) - 1))] = data.draw(st.integers(0, 255))
        try:
            wire.parse(bytes(frame))
        except ProtocolError:
            pass


def _written(message: wire.Message) -> bytes:
    return wire.build(
        message.kind,
        message.sequence,
        message.flags,
        message.message_id,
        message.created,
        message.payload_type,
        message.payload,
    )
