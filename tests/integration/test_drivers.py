"""
Every driver in every way: with and without TLS, with and without a password.

What each driver does is in C{driver_programs.py} and C{driver_libraries.py}.
"""

from __future__ import annotations

from tests.integration import driver_libraries as libraries
from tests.integration import driver_programs as programs


class AllDrivers(
    programs.ProgramTests,
    libraries.PsycopgTests,
    libraries.AsyncpgTests,
    libraries.Pg8000Tests,
):
    """All tests of all drivers; trial finds none here, because it is no way by itself."""


class PasswordTlsTests(AllDrivers):
    """A password, inside TLS."""

    auth = "backend"
    tls = True


class PasswordPlainTests(AllDrivers):
    """A password from loopback, without TLS."""

    auth = "backend"


class TrustTlsTests(AllDrivers):
    """No password, inside TLS."""

    tls = True


class TrustPlainTests(AllDrivers):
    """No password, no TLS."""


class LoginTests(programs.PsqlLoginTests):
    """How a failed login looks to a person."""


# It would run without a way of its own.
del AllDrivers
