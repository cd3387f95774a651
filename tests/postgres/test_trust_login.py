"""Tests for L{proxyd.postgres.trust_login}."""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from proxyd.config.times import PasswordTimes
from proxyd.postgres.admission import Admission
from proxyd.postgres.answers import Fatal
from proxyd.postgres.backend_login import Verifier
from proxyd.postgres.trust_login import Trust
from proxyd.target import Principal
from tests.postgres.strangers import FakeStranger, begun, password

ANN = Principal("ann", "127.0.0.1")
SOMEWHERE: Any = object()


class TrustTests(SynchronousTestCase):
    """Whoever is here is believed."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.way = Trust(Verifier(self.clock, PasswordTimes()))

    def refused(self, stranger: FakeStranger, place: Any) -> str:
        """The SQLSTATE, after a moment."""
        trying = begun(self.way.admit(stranger, place, ANN))
        self.assertNoResult(trying)
        self.clock.advance(1)
        error = self.failureResultOf(trying, Fatal).value
        self.assertEqual(len(stranger.asked), 1)
        return str(error.sqlstate)

    def test_local(self) -> None:
        """From loopback and UNIX sockets, without a question."""
        for host in ("127.0.0.1", "::1", "unix"):
            stranger = FakeStranger(host=host)
            admission = self.successResultOf(begun(self.way.admit(stranger, SOMEWHERE, ANN)))
            self.assertEqual((admission, stranger.asked), (Admission(ANN), []))

    def test_afar(self) -> None:
        """From anywhere else a password is asked for, and none is right."""
        stranger = FakeStranger(password("x"), host="192.0.2.7")
        self.assertEqual(self.refused(stranger, SOMEWHERE), "28P01")

    def test_nowhere(self) -> None:
        """To a name that stands for nothing nobody is let in."""
        self.assertEqual(self.refused(FakeStranger(password("x")), None), "28P01")
