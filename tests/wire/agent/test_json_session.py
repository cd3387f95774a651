"""Tests for L{proxyd.wire.agent.json_session}: an agent written from the contract alone."""

from __future__ import annotations

import base64
import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from proxyd.errors import LocalProtocolError, ProtocolError
from proxyd.wire.agent import events as told
from proxyd.wire.agent.frames import Code
from proxyd.wire.agent.json_session import CHUNK, JsonSession
from proxyd.wire.agent.stream import Limits

FIELDS = {
    "proxy_id": "p1",
    "user_id": "user-13389-1",
    "remote_host": "192.168.1.100",
    "remote_port": 3389,
}
IDS = {"proxy_id": "p1", "user_id": "user-13389-1"}


class JsonTests(SynchronousTestCase):
    """The messages, word for word."""

    def setUp(self) -> None:
        self.session = JsonSession()
        self.number = self.session.open(FIELDS, 0.0)

    def said(self) -> list[dict[str, Any]]:
        """The messages that are to be sent."""
        messages = []
        while text := self.session.next_message():
            messages.append(json.loads(text))
        return messages

    def hear(self, type: str, **fields: Any) -> list[told.Event]:
        """The agent says something; what comes of it."""
        self.session.receive_message(json.dumps({"type": type, **IDS, **fields}), 0.0)
        return self.session.take_events()

    def test_connect(self) -> None:
        """proxy_connect, as the contract has it; the stream counts as open at once."""
        self.assertEqual(self.said(), [{"type": "proxy_connect", **FIELDS, "protocol": "tcp"}])
        self.assertEqual(self.session.take_events(), [told.Opened(self.number)])

    def test_data(self) -> None:
        """proxy_data both ways."""
        self.assertTrue(self.session.send(self.number, b"\0hello"))
        data = {"type": "proxy_data", **IDS, "data": base64.b64encode(b"\0hello").decode()}
        self.assertEqual(self.said()[1:], [data])
        self.session.take_events()
        self.assertEqual(self.hear("proxy_data", data="aGk="), [told.Data(self.number, (b"hi",))])

    def test_window_while_waiting(self) -> None:
        """A window that is widened while the stream waits for its turn anyhow does no harm."""
        self.hear("proxy_window", window=0)
        self.session.send(self.number, b"hello")
        self.hear("proxy_window", window=100)
        self.assertEqual([one["type"] for one in self.said()], ["proxy_connect", "proxy_data"])

    def test_unread(self) -> None:
        """An agent that reads nothing is given up before much waits for it."""
        for number in range(20_000):
            self.session.reset(self.session.open({**FIELDS, "user_id": number}, 0.0), Code.GONE)
            if self.session.overrun:
                break
        self.assertTrue(self.session.overrun)
        self.said()
        self.assertFalse(self.session.overrun)

    def test_disconnect(self) -> None:
        """proxy_disconnect ends both directions, after what is queued."""
        self.session.send(self.number, b"x" * (2 * CHUNK))
        self.session.finish(self.number)
        kinds = [message["type"] for message in self.said()]
        self.assertEqual(kinds, ["proxy_connect", "proxy_data", "proxy_data", "proxy_disconnect"])
        self.assertEqual(self.session.streams_open, 0)

    def test_disconnected(self) -> None:
        """The agent's: an end in order, or with a reason that is a failure."""
        self.session.take_events()
        self.assertEqual(
            self.hear("proxy_disconnect"), [told.Finished(self.number), told.Closed(self.number)]
        )
        self.number = self.session.open(FIELDS, 0.0)
        self.session.take_events()
        self.assertEqual(
            self.hear("proxy_disconnect", reason="reset"),
            [told.WasReset(self.number, Code.RESET, "reset")],
        )
        self.assertEqual(self.hear("proxy_data", data="aGk="), [])

    def test_reasons(self) -> None:
        """A failure goes by its word, or by the name of its error number, as Node has it."""
        for word, code in (
            ("refused", Code.REFUSED),
            ("ECONNREFUSED", Code.REFUSED),
            ("EHOSTUNREACH", Code.UNREACHABLE),
            ("ETIMEDOUT", Code.TIMEOUT),
            ("ENOTFOUND", Code.NAME),
            ("ECONNRESET", Code.RESET),
        ):
            number = self.session.open({**FIELDS, "user_id": word}, 0.0)
            self.session.take_events()
            self.assertEqual(
                self.hear("proxy_disconnect", user_id=word, reason=word),
                [told.WasReset(number, code, word)],
            )

    def test_confirms(self) -> None:
        """An agent that says proxy_connected: a stream is open when it has said so."""
        self.session.take_events()
        self.hear("proxy_connected")
        self.assertTrue(self.session.confirms)
        other = self.session.open({**FIELDS, "user_id": "u2"}, 0.0)
        self.assertEqual(self.session.take_events(), [])
        self.assertEqual(self.hear("proxy_connected", user_id="u2"), [told.Opened(other)])
        third = self.session.open({**FIELDS, "user_id": "u3"}, 0.0)
        self.assertEqual(
            self.hear("proxy_disconnect", user_id="u3", reason="refused"),
            [told.OpenFailed(third, Code.REFUSED, "refused")],
        )

    def test_window(self) -> None:
        """An agent that says how much it may be sent is sent no more."""
        self.hear("proxy_window", window=5)
        self.assertFalse(self.session.send(self.number, b"x" * (CHUNK + 1)))
        sizes = [len(base64.b64decode(one["data"])) for one in self.said()[1:]]
        self.assertEqual(sizes, [5])
        self.assertIn(told.Writable(self.number), self.hear("proxy_window", window=10**6))
        sizes = [len(base64.b64decode(one["data"])) for one in self.said()]
        self.assertEqual(sum(sizes), CHUNK - 4)

    def test_turns(self) -> None:
        """Users take turns."""
        other = self.session.open({**FIELDS, "user_id": "u2"}, 0.0)
        self.session.send(self.number, b"a" * (4 * CHUNK))
        self.session.send(other, b"b")
        users = [one["user_id"] for one in self.said()[2:]]
        self.assertEqual(users[1], "u2")

    def test_strangers(self) -> None:
        """Unknown types, users and proxies of others are ignored."""
        self.session.take_events()
        self.assertEqual(self.hear("hello", anything=1), [])
        self.assertEqual(self.hear("proxy_data", user_id="nobody", data="aGk="), [])
        self.assertEqual(self.hear("proxy_data", proxy_id="p2", data="aGk="), [])

    def test_broken(self) -> None:
        """What is no such message."""
        for text in ("", "[]", "{", "7", "[" * 100_000):
            self.assertRaises(ProtocolError, self.session.receive_message, text, 0.0)
        for fields in ({"data": 7}, {"data": "!!!"}, {}):
            self.assertRaises(ProtocolError, self.hear, "proxy_data", **fields)
        for window in (-1, "5", None, 2**40):
            self.assertRaises(ProtocolError, self.hear, "proxy_window", window=window)

    def test_limit(self) -> None:
        """No more streams than are allowed."""
        session = JsonSession(Limits(streams=1))
        session.open(FIELDS, 0.0)
        self.assertTrue(session.full)
        self.assertRaises(LocalProtocolError, session.open, FIELDS, 0.0)

    @given(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(),
            lambda below: (
                st.lists(below)
                | st.dictionaries(
                    st.sampled_from(["type", "user_id", "proxy_id", "data", "window"]), below
                )
            ),
        )
    )
    def test_noise(self, value: object) -> None:
        """Noise never raises anything but ProtocolError."""
        try:
            self.session.receive_message(json.dumps(value), 0.0)
        except ProtocolError:
            pass
