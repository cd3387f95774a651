"""Tests for L{proxyd.socks.pac}."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from proxyd.rules.patterns import pattern
from proxyd.rules.routes import Rule, Rules
from proxyd.socks.pac import pac_text


class PacTests(SynchronousTestCase):
    """The routes, for a browser."""

    def test_whole(self) -> None:
        """One line for each route; the default goes without us only where that is direct."""
        rules = (
            Rule((pattern("10.0.0.0/8"), pattern("*.prod.internal")), "dev", number=1),
            Rule((pattern("fd00::/8"),), None, number=2),
        )
        text = pac_text(Rules(rules, "direct"), "127.0.0.1:1080")
        self.assertIn('var proxy = "SOCKS5 127.0.0.1:1080; SOCKS 127.0.0.1:1080";', text)
        self.assertIn(
            '  if (isInNet(host, "10.0.0.0", "255.0.0.0") || '
            'shExpMatch(host, "*.prod.internal")) return proxy;  // route 1\n',
            text,
        )
        self.assertIn('isInNetEx(host, "fd00::/8")', text)
        self.assertTrue(text.endswith('  return "DIRECT";\n}\n'))
        for default in ("dev", None):
            self.assertTrue(pac_text(Rules(rules, default), "x").endswith("  return proxy;\n}\n"))
        self.assertTrue(pac_text(Rules((), "direct"), "x").endswith("  return proxy;\n}\n"))
