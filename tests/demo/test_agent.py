"""Tests for L{demo.agent}; that its port leads somewhere is in C{test_run.py}."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from twisted.trial.unittest import SynchronousTestCase

from demo.agent import Reverse, open_reverse
from proxyd.ctl.client import CallFailed, Client

REVERSE = Reverse(8443, 13389, 5432)


class Api:
    """What of the API is called, kept as it comes."""

    def __init__(self, proxies: list[dict[str, object]], missing: int) -> None:
        self.calls: list[tuple[str, object]] = []
        self._proxies = proxies
        self._missing = missing

    def get(self, path: str) -> Any:
        """The proxies."""
        return {"proxies": self._proxies}

    def post(self, path: str, body: Mapping[str, Any]) -> Any:
        """One more."""
        self.calls.append((path, body))
        return {"token": "t"}

    def delete(self, path: str, name: str) -> Any:
        """One less."""
        self.calls.append((path, name))
        if path == "/api/agents" and self._missing:
            raise CallFailed("no", self._missing)


class OpenTests(SynchronousTestCase):
    """The port and the agent's token are made anew."""

    def opened(
        self, proxies: list[dict[str, object]], missing: int = 0
    ) -> list[tuple[str, object]]:
        """The calls that it takes."""
        api = Api(proxies, missing)
        self.assertEqual(open_reverse(cast(Client, api), "127.0.0.1", REVERSE), "t")
        return api.calls

    def test_first(self) -> None:
        """There is no agent yet."""
        self.assertEqual(
            self.opened([], 404)[1:],
            [
                ("/api/agents", {"client_id": "demo"}),
                (
                    "/api/proxy/create",
                    {
                        "client_id": "demo",
                        "remote_host": "127.0.0.1",
                        "remote_port": 5432,
                        "local_port": 13389,
                    },
                ),
            ],
        )

    def test_again(self) -> None:
        """An earlier demo's port and token go; those of others stay."""
        kept = [
            {"client_id": ["demo"], "proxy_id": "a"},
            {"client_id": ["other"], "proxy_id": "b"},
        ]
        self.assertEqual(self.opened(kept)[:2], [("/api/proxy", "a"), ("/api/agents", "demo")])

    def test_refused(self) -> None:
        """Any other refusal is told."""
        self.assertRaises(CallFailed, self.opened, [], 500)
