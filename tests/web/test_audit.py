"""Tests for L{proxyd.web.audit}."""

from __future__ import annotations

from twisted.logger import LogEvent, formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from proxyd.web.audit import audit


class AuditTests(SynchronousTestCase):
    """One change, one line."""

    def test_line(self) -> None:
        """What somebody made up can't begin a line of its own."""
        events: list[LogEvent] = []
        globalLogPublisher.addObserver(events.append)
        self.addCleanup(globalLogPublisher.removeObserver, events.append)
        audit("192.0.2.1:5", "DELETE /api/x/{x}", {"x": "a\nb" + "c" * 200}, 404, "not_found")
        (line,) = map(formatEvent, events)
        self.assertNotIn("\n", line)
        self.assertTrue(line.startswith("audit: DELETE /api/x/{x} by 192.0.2.1:5: 404 not_found"))
        self.assertLess(len(line), 220)

    def test_secrets(self) -> None:
        """A token that was pasted where an id should be is not told."""
        events: list[LogEvent] = []
        globalLogPublisher.addObserver(events.append)
        self.addCleanup(globalLogPublisher.removeObserver, events.append)
        for secret in ("pxa_hidden-hidden-hidden", "eyJhbGciOiJI.hidden.hidden"):
            audit("192.0.2.1:5", "DELETE /api/agents/{client_id}", {"client_id": secret}, 404, "")
        for line in map(formatEvent, events):
            self.assertNotIn("hidden", line)
            self.assertIn("...", line)
