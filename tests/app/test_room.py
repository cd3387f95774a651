"""Tests for L{proxyd.app.room}: the room that has nothing to do."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from proxyd.app.room import Room
from proxyd.config.model import Config


class RoomTests(SynchronousTestCase):
    """A room that overrides nothing holds nobody up."""

    def test_nothing(self) -> None:
        """It has no services, no places, nobody in it, and is drained at once."""
        room = Room()
        room.prepare(Config())()
        room.open()
        room.reopen()
        self.successResultOf(room.drain())
        self.assertEqual((room.inner, room.doors, room.places(), room.left()), ((), (), (), 0))
        self.assertEqual((room.fixed(Config()), list(room.statistics())), ({}, []))
        self.assertEqual(room.descriptors(Config()), (0, 0))
