"""
Tests of L{proxyd.connection_string}, the one function that C{import proxyd} brings.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

import proxyd


class ConnectionStringTests(SynchronousTestCase):
    """What clients paste."""

    def test_registered(self) -> None:
        """A number is a registered database."""
        self.assertEqual(
            proxyd.connection_string("eyJhbGc.a.b", 123, "localhost", 6432),
            "postgresql://token:eyJhbGc.a.b@localhost:6432/db_123",
        )

    def test_connection(self) -> None:
        """A text is a connection's name, escaped where a URL needs it; IPv6 is in brackets."""
        self.assertEqual(
            proxyd.connection_string("t", "my shop/eu", "::1", 5432),
            "postgresql://token:t@[::1]:5432/my%20shop%2Feu",
        )
