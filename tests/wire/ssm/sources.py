"""What real peers sent: single frames, and two whole sessions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

_HERE = Path(__file__).parent


def vectors() -> dict[str, dict[str, Any]]:
    """Frames and texts made by session-manager-plugin and amazon-ssm-agent, by name."""
    return {one["id"]: one for one in json.loads((_HERE / "vectors.json").read_text())}


def sessions() -> dict[str, list[tuple[str, bytes]]]:
    """Recorded sessions: who sent what, C{agent} or C{client}, in order."""
    found: dict[str, list[tuple[str, bytes]]] = {}
    for line in (_HERE / "trace.txt").read_text().splitlines():
        name, who, text = line.split()
        found.setdefault(name, []).append((who, bytes.fromhex(text)))
    return found
