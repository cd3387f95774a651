"""Tests for L{proxyd.wire.ssm.handshake}."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import TestCase

from proxyd.errors import LocalProtocolError, ProtocolError
from proxyd.wire.ssm import message as wire
from proxyd.wire.ssm.handshake import SMUX_SINCE, TERMINATE_SINCE, Handshake, State
from tests.wire.ssm.sources import vectors

_KEYS = st.sampled_from(
    ["RequestedClientActions", "ActionType", "ActionParameters", "AgentVersion", "SessionType"]
)


def _deeper(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.lists(inner) | st.dictionaries(_KEYS, inner)


def payload(name: str) -> bytes:
    """A vector's payload."""
    return bytes.fromhex(vectors()[name]["fields"]["PayloadHex"])


class HandshakeTests(TestCase):
    """From the agent's request to its completion."""

    def asked(self, *actions: Any, version: str = "3.3.987.0") -> tuple[Handshake, Any]:
        """What is answered to a request for these actions."""
        handshake = Handshake()
        request = {"AgentVersion": version, "RequestedClientActions": list(actions)}
        answer = handshake.receive(wire.HANDSHAKE_REQUEST, json.dumps(request).encode())
        assert answer is not None
        return handshake, json.loads(answer)

    def test_ssh(self) -> None:
        """A1 is answered by V3, but for the version; A3 completes it."""
        handshake = Handshake()
        answer = handshake.receive(wire.HANDSHAKE_REQUEST, payload("A1"))
        assert answer is not None
        self.assertEqual(answer.replace(b"1.2.764.0", b"1.2.650.0"), payload("V3"))
        self.assertIs(handshake.state, State.ANSWERED)
        self.assertEqual(handshake.properties, {"portNumber": "22"})
        self.assertTrue(handshake.is_newer_than(SMUX_SINCE))
        self.assertIsNone(handshake.receive(wire.HANDSHAKE_COMPLETE, payload("A3")))
        self.assertIs(handshake.state, State.COMPLETE)

    def test_encryption_is_declined(self) -> None:
        """A2 asks for a key: that action fails, with a reason, in its place."""
        handshake = Handshake()
        answer = handshake.receive(wire.HANDSHAKE_REQUEST, payload("A2"))
        assert answer is not None
        done = json.loads(answer)["ProcessedClientActions"]
        self.assertEqual(
            [(one["ActionType"], one["ActionStatus"]) for one in done],
            [("SessionType", 1), ("KMSEncryption", 2)],
        )
        self.assertIs(handshake.state, State.FAILED)
        self.assertIn("KMS", handshake.problem)

    def test_other_sessions(self) -> None:
        """A shell session, or an action nobody knows, is not supported."""
        shell = {
            "ActionType": "SessionType",
            "ActionParameters": {"SessionType": "Standard_Stream"},
        }
        for action in (shell, {"ActionType": "Dance"}, {"ActionType": "SessionType"}):
            handshake, answer = self.asked(action)
            self.assertEqual(answer["ProcessedClientActions"][0]["ActionStatus"], 3)
            self.assertIs(handshake.state, State.FAILED)

    def test_versions(self) -> None:
        """Versions are compared by numbers; other forms are newer than nothing."""
        for version, newer in (("2.3.722.0", False), ("2.3.722.1", True), ("3.0", False)):
            handshake, _ = self.asked(version=version)
            self.assertEqual(handshake.is_newer_than(TERMINATE_SINCE), newer, version)

    def test_order(self) -> None:
        """Twice, too early, or not a hand-shake at all."""
        with self.assertRaises(ProtocolError):
            Handshake().receive(wire.HANDSHAKE_COMPLETE, b"{}")
        handshake, _ = self.asked()
        with self.assertRaises(ProtocolError):
            handshake.receive(wire.HANDSHAKE_REQUEST, payload("A1"))
        with self.assertRaises(LocalProtocolError):
            handshake.receive(wire.DATA, b"x")

    @given(st.recursive(st.none() | st.integers() | st.text(), _deeper))
    def test_noise(self, said: object) -> None:
        """Whatever JSON the agent sends, nothing but ProtocolError comes of it."""
        try:
            Handshake().receive(wire.HANDSHAKE_REQUEST, json.dumps(said).encode())
        except ProtocolError:
            pass
