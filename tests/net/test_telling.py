"""A line in the log for each session."""

from __future__ import annotations

from twisted.logger import LogEvent, Logger
from twisted.trial.unittest import SynchronousTestCase

from proxyd.net.telling import tell_info


class TellInfoTests(SynchronousTestCase):
    """What is said is what C{Logger.info} would have said."""

    def test_same_event(self) -> None:
        """The two make one event, but for the moment."""
        events: list[LogEvent] = []
        log = Logger(namespace="proxyd.test", observer=events.append)
        log.info("{who} left", who="ann", seconds=3)
        tell_info(log, "{who} left", who="ann", seconds=3)
        one, other = events
        self.assertLessEqual(one["log_time"], other["log_time"] + 60)
        self.assertEqual(_timeless(one), _timeless(other))


def _timeless(event: LogEvent) -> dict[str, object]:
    return {key: value for key, value in event.items() if key != "log_time"}
