"""Tests for L{proxyd.web.places}."""

from __future__ import annotations

import os

from twisted.trial.unittest import SynchronousTestCase

from proxyd.config.api_model import Api
from proxyd.config.model import Config, State
from proxyd.web.places import socket_candidates, socket_path


class PlacesTests(SynchronousTestCase):
    """Where the UNIX socket is."""

    def test_order(self) -> None:
        """The configuration's, the runtime directory's, the state directory's."""
        runtime = {"RUNTIME_DIRECTORY": "/run/a:/run/b", "STATE_DIRECTORY": "/var/a"}
        state = Config(state=State("sqlite:///srv/x/state.sqlite"))
        self.assertEqual(socket_path(Config(api=Api(socket="/tmp/s")), runtime), "/tmp/s")
        self.assertEqual(socket_path(Config(), runtime), "/run/a/api.sock")
        self.assertEqual(socket_path(state, {}), "/srv/x/api.sock")
        self.assertEqual(socket_path(Config(), {}), os.path.abspath(".proxyd/api.sock"))

    def test_looked_for(self) -> None:
        """Who looks for it has other variables than the daemon: the usual place is tried, too."""
        self.assertEqual(socket_candidates(Config(api=Api(socket="/tmp/s")), {}), ["/tmp/s"])
        found = socket_candidates(Config(state=State("sqlite:///srv/x/state.sqlite")), {})
        self.assertEqual(found, ["/srv/x/api.sock", "/run/proxyd/api.sock"])
