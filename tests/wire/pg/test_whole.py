"""A StartupMessage that came whole and alone."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from proxyd.errors import ProtocolError
from proxyd.wire.pg.errors import PgProtocolError
from proxyd.wire.pg.messages import cancel_request, ssl_request, startup_message
from proxyd.wire.pg.startup import ClientStartup, StartupRequested
from proxyd.wire.pg.whole import whole_startup

ANN = startup_message({"user": "ann", "database": "shop"})


def packet(body: bytes) -> bytes:
    """A first packet, with a true length."""
    return (len(body) + 4).to_bytes(4, "big") + body


class WholeStartupTests(SynchronousTestCase):
    """It says what the machine says, or leaves it to the machine."""

    def test_whole(self) -> None:
        """One packet and nothing else is read."""
        self.assertEqual([whole_startup(ANN)], ClientStartup().receive_data(ANN))

    def test_left_alone(self) -> None:
        """Anything else is for the machine: parts, more than one packet, other packets, nothing."""
        long = startup_message({"user": "ann", "application_name": "a" * 600})
        others = [ANN[:end] for end in range(len(ANN))]
        others += [ANN + b"Q", ssl_request(), cancel_request(7, b"1234"), long, b"\x16\3\1"]
        self.assertEqual([whole_startup(data) for data in others], [None] * len(others))

    def test_refused(self) -> None:
        """What the machine refuses is refused, with the same words."""
        nobody = startup_message({"database": "shop"})
        said = [
            str(self.assertRaises(PgProtocolError, read, nobody))
            for read in (whole_startup, ClientStartup().receive_data)
        ]
        self.assertEqual(said[0], said[1])

    @given(st.binary(max_size=60).map(lambda body: packet(b"\0\3\0\0" + body)) | st.binary())
    def test_noise(self, data: bytes) -> None:
        """It never says anything else than the machine does."""
        machine = ClientStartup()
        try:
            told = whole_startup(data)
        except ProtocolError:
            self.assertRaises(ProtocolError, machine.receive_data, data)
            return
        if told is not None:
            self.assertEqual(machine.receive_data(data), [told])
            self.assertIsInstance(told, StartupRequested)
            self.assertEqual(machine.trailing_data, b"")
