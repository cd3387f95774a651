"""
The hand-shake at the beginning of a data channel: what is wanted of us, and our answer.

amazon-ssm-agent, agent/session/datachannel and contracts/model.go. The agent
waits 15 seconds for the answer; data before its C{HandshakeComplete} is thrown
away there, so nothing else may be sent until L{Handshake.state} is COMPLETE.
"""

from __future__ import annotations

import json
import re
from enum import Enum, unique

from proxyd.errors import LocalProtocolError, ProtocolError
from proxyd.wire.ssm import message as wire

CLIENT_VERSION = "1.2.764.0"
"""
What we say we are. Below 1.2.332 the agent ends an idle session after a
minute; the AWS command line warns of anything older than this one.
"""

PORT = "Port"
_SUCCESS, _FAILED, _UNSUPPORTED = 1, 2, 3
_NUMBERS = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9}){3}", re.ASCII)

TERMINATE_SINCE = (2, 3, 722, 0)
SMUX_SINCE = (3, 0, 196, 0)
QUIET_SINCE = (3, 1, 1511, 0)
"""After these versions an agent knows TerminateSession, smux, and smux without keepalive."""


@unique
class State(Enum):
    """How far the hand-shake is."""

    WAITING = "waiting for the agent's request"
    ANSWERED = "answered"
    COMPLETE = "complete"
    FAILED = "failed"


class Handshake:
    """
    Our end of the hand-shake of a Port session.

    @ivar state: data may be sent when it is COMPLETE
    @ivar agent_version: four numbers; None: not said, or in no such form
    @ivar properties: what the session is, as the agent understood it
    @ivar problem: why it FAILED; the agent is told it too
    @ivar message: the owner's message for whoever connects; empty: none
    """

    def __init__(self) -> None:
        self.state = State.WAITING
        self.agent_version: tuple[int, ...] | None = None
        self.properties: dict[str, object] = {}
        self.problem = ""
        self.message = ""

    def receive(self, payload_type: int, payload: bytes) -> bytes | None:
        """
        Take a payload that is part of the hand-shake.

        @return: the payload of the C{HandshakeResponse} to send, if one is due
        @raise ProtocolError: it makes no sense, or comes at the wrong time
        """
        if payload_type == wire.HANDSHAKE_REQUEST and self.state is State.WAITING:
            return self._answer(_read(payload))
        if payload_type == wire.HANDSHAKE_COMPLETE and self.state is State.ANSWERED:
            said = _read(payload).get("CustomerMessage")
            self.message = said[:1000] if isinstance(said, str) else ""
            self.state = State.COMPLETE
            return None
        if payload_type not in (wire.HANDSHAKE_REQUEST, wire.HANDSHAKE_COMPLETE):
            raise LocalProtocolError(f"payload type {payload_type} is no hand-shake")
        raise ProtocolError(
            f"payload type {payload_type} when the hand-shake was {self.state.value}"
        )

    def is_newer_than(self, version: tuple[int, ...]) -> bool:
        """Whether the agent is newer than this; one that does not say so is not."""
        return self.agent_version is not None and self.agent_version > version

    def _answer(self, request: dict[str, object]) -> bytes:
        version = request.get("AgentVersion")
        if isinstance(version, str) and _NUMBERS.fullmatch(version):
            self.agent_version = tuple(int(part) for part in version.split("."))
        actions = request.get("RequestedClientActions")
        if not isinstance(actions, list) or len(actions) > 100:
            raise ProtocolError("the agent's hand-shake asks for nothing")
        done = [self._act(action) for action in actions]
        self.state = State.FAILED if self.problem else State.ANSWERED
        answer = {
            "ClientVersion": CLIENT_VERSION,
            "ProcessedClientActions": done,
            "Errors": None,
        }
        return json.dumps(answer, separators=(",", ":")).encode()

    def _act(self, action: object) -> dict[str, object]:
        if not isinstance(action, dict):
            raise ProtocolError("an action of the hand-shake is no JSON object")
        kind, given = str(action.get("ActionType"))[:100], action.get("ActionParameters")
        status, error = _UNSUPPORTED, f"proxyd does not know the action {kind}"
        if kind == "SessionType":
            found = given.get("SessionType") if isinstance(given, dict) else None
            if found == PORT and isinstance(given, dict):
                properties = given.get("Properties")
                self.properties = properties if isinstance(properties, dict) else {}
                status, error = _SUCCESS, ""
            else:
                error = f"proxyd forwards ports; this session is {str(found)[:100]}"
        elif kind == "KMSEncryption":
            status = _FAILED
            error = (
                "this session wants its data encrypted with a KMS key, which sessions that "
                "forward a port never are: is its document one of AWS's?"
            )
        self.problem = self.problem or error
        return {"ActionType": kind, "ActionStatus": status, "ActionResult": None, "Error": error}


def _read(payload: bytes) -> dict[str, object]:
    try:
        found = json.loads(payload)
    except (ValueError, RecursionError):
        raise ProtocolError("the agent's hand-shake is no JSON") from None
    if not isinstance(found, dict):
        raise ProtocolError("the agent's hand-shake is no JSON object")
    return found
