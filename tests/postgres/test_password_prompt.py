"""Tests for L{proxyd.postgres.password_prompt}."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from proxyd.postgres.admission import Admission, Term
from proxyd.postgres.answers import Fatal, wrong_password
from proxyd.postgres.directory import Place
from proxyd.postgres.password_prompt import ByPassword
from proxyd.records import Grant
from proxyd.target import Principal
from proxyd.wire.pg.errors import PgProtocolError
from proxyd.wire.pg.messages import authentication_cleartext
from tests.postgres.strangers import FakeStranger, begun, password

ANN = Principal("ann", "192.0.2.7")


class Check:
    """Takes passwords that begin with some letters, and lets one of them in."""

    def __init__(self, begin: str, right: str, admission: Admission) -> None:
        self._begin, self._right = begin.encode(), right.encode()
        self._admission = admission
        self.checked: list[bytes] = []

    def takes(self, password: bytes) -> bool:
        """By how it begins."""
        return password.startswith(self._begin)

    async def check(self, place: Place | None, principal: Principal, password: bytes) -> Admission:
        """One is right."""
        self.checked.append(password)
        if password != self._right:
            raise wrong_password(principal.user, "a wrong one")
        return self._admission


class ByPasswordTests(SynchronousTestCase):
    """One prompt, and one who is asked."""

    def setUp(self) -> None:
        self.term = Term(Grant("t1", "", "shop", 12.0))
        self.tokens = Check("ey", "ey.good", Admission(Principal("role", "x"), self.term))
        self.server = Check("", "hush", Admission(ANN))
        self.way = ByPassword(self.tokens, self.server)

    def admitted(self, stranger: FakeStranger) -> Admission:
        """What the way says."""
        return self.successResultOf(begun(self.way.admit(stranger, None, ANN)))

    def refused(self, stranger: FakeStranger) -> str:
        """The SQLSTATE."""
        error = self.failureResultOf(begun(self.way.admit(stranger, None, ANN))).value
        assert isinstance(error, (Fatal, PgProtocolError))
        return error.sqlstate

    def test_shape_decides(self) -> None:
        """A password goes to the one whose shape it has, who may say who the client is."""
        stranger = FakeStranger(password("ey.good"))
        self.assertEqual(self.admitted(stranger), Admission(Principal("role", "x"), self.term))
        self.assertEqual(stranger.asked, [(authentication_cleartext(), "password response")])
        self.assertEqual(self.admitted(FakeStranger(password("hush"))), Admission(ANN))
        self.assertEqual((self.tokens.checked, self.server.checked), ([b"ey.good"], [b"hush"]))

    def test_never_falls_through(self) -> None:
        """What one refuses, no other hears of."""
        self.assertEqual(self.refused(FakeStranger(password("ey.bad"))), "28P01")
        self.assertEqual(self.server.checked, [])

    def test_empty(self) -> None:
        """An empty password is a wrong one, and nobody is asked."""
        self.assertEqual(self.refused(FakeStranger(password(""))), "28P01")
        self.assertEqual((self.tokens.checked, self.server.checked), ([], []))

    def test_somebody_may_listen(self) -> None:
        """Where somebody could listen, no password is asked for."""
        stranger = FakeStranger(password("hush"), private=False)
        self.assertEqual(self.refused(stranger), "28000")
        self.assertEqual(stranger.asked, [])

    def test_bytes_behind(self) -> None:
        """A password that does not end where its message does is none."""
        self.assertEqual(self.refused(FakeStranger(b"hush\0x\0")), "08P01")
        self.assertEqual(self.refused(FakeStranger(b"hush")), "08P01")
