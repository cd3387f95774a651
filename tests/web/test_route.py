"""Tests for L{proxyd.web.route}."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from proxyd.web.answer import Answer
from proxyd.web.route import Route


class RouteTests(SynchronousTestCase):
    """What follows from a route's own words."""

    def test_names(self) -> None:
        """Its key for people, and its path for the router."""
        route = Route("DELETE", "/api/a/{a_id}/{b}", lambda call: Answer(), "", {})
        self.assertEqual(route.key, "DELETE /api/a/{a_id}/{b}")
        self.assertEqual(route.rule, "/api/a/<a_id>/<b>")
        self.assertTrue(route.changes)
        self.assertFalse(Route("GET", "/", lambda call: Answer(), "", {}).changes)

    def test_text_at_the_end(self) -> None:
        """A text that ends a path may hold slashes; a number, and one within, may not."""
        for path, kind, rule in (
            ("/api/a/{b}", "string", "/api/a/<any_text:b>"),
            ("/api/a/{b}", "integer", "/api/a/<b>"),
            ("/api/a/{b}/c", "string", "/api/a/<b>/c"),
            ("/api/{a}/{b}", "string", "/api/<a>/<any_text:b>"),
        ):
            names = {"b": {"type": kind}}
            route = Route("GET", path, lambda call: Answer(), "", {}, names=names)
            self.assertEqual(route.rule, rule)
