"""
A state file that is filled before the daemon starts.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from proxyd.records import TokenRecord
from proxyd.store.sqlite import SqliteStore


class _NoReactor:
    """Nobody waits for a thread here."""

    def seconds(self) -> float:
        """Never asked."""
        return 0.0


def seeded_state(folder: Path, tokens: Iterable[TokenRecord]) -> None:
    """
    Remember tokens in the state file of a daemon that runs in this folder.

    @param folder: its working directory; C{.proxyd/state.sqlite} is below it
    """
    store = SqliteStore(_NoReactor(), str(folder / ".proxyd" / "state.sqlite"), 60.0)
    store.open_now()
    for token in tokens:
        failures: list[object] = []
        store.add_token(token).addErrback(failures.append)
        assert not failures, failures
    store.close()
