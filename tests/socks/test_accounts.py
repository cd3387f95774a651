"""Tests for L{proxyd.socks.accounts}."""

from __future__ import annotations

import os

from twisted.trial.unittest import SynchronousTestCase

from proxyd.config.secrets import Secret
from proxyd.config.ways import Account
from proxyd.errors import StartError
from proxyd.rules.routes import NO_LIMITS, Limits
from proxyd.socks.accounts import Accounts


class AccountTests(SynchronousTestCase):
    """Who may log in."""

    def test_verify(self) -> None:
        """The right password of a user there is; anything else is nobody."""
        accounts = Accounts(
            [
                Account("ann", Secret("x", {}), Limits(3)),
                Account("bücher", Secret("env:P", {"P": "ü"})),
            ]
        )
        for user, password, found in (
            (b"ann", b"x", "ann"),
            ("bücher".encode(), "ü".encode(), "bücher"),
            (b"ann", b"y", None),
            (b"ann", b"", None),
            (b"bob", b"x", None),
            (b"", b"", None),
            (b"\xff", b"\xff", None),
        ):
            self.assertEqual(accounts.verify(user, password), found, user)
        self.assertEqual(accounts.limits("ann"), Limits(3))
        self.assertEqual(accounts.limits("nobody"), NO_LIMITS)
        self.assertTrue(accounts)
        self.assertFalse(Accounts([]))

    def test_empty(self) -> None:
        """A password that a variable forgot to hold lets nobody in, but ends the start."""
        for text in ("env:P", f"file:{os.devnull}"):
            error = self.assertRaises(
                StartError, Accounts, [Account("ann", Secret(text, {"P": ""}))]
            )
            self.assertEqual(str(error), f"socks5.auth: the password of ann is empty ({text})")

    def test_no_password_shows(self) -> None:
        """Nothing of a password is in a repr, or anywhere in memory that can be shown."""
        accounts = Accounts([Account("ann", Secret("hunter2", {}))])
        self.assertNotIn("hunter2", repr(vars(accounts)))

    def test_unreadable(self) -> None:
        """A variable that is not set is said at the start."""
        self.assertRaises(StartError, Accounts, [Account("ann", Secret("env:P", {}))])
