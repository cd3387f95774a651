"""
HELLO: what each end of a session of frames says of itself first, as JSON text beside the frames.

The server names the session, and which one of this agent's it is; an agent that comes again
says which it had last. Nobody acts on it yet: it is there so that a later version can go on
with a session that was lost, or have several WebSockets for one, without a break. Whoever
does not know the word ignores it, as all text beside frames.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

LONGEST = 4096
"""Characters of a HELLO; what is longer is none."""

MOST_FEATURES = 32
_WORD = 64


@dataclass(frozen=True, slots=True)
class Hello:
    """
    What one end says of itself.

    @param session: the session's name; of an agent: of the last one it had, or nothing
    @param generation: 1 for an agent's first session, and so on; of an agent: the last one's
    @param version: of the program
    @param features: words for what it knows beyond the first version
    """

    session: str = ""
    generation: int = 0
    version: str = ""
    features: tuple[str, ...] = ()

    def text(self) -> str:
        """As a message."""
        fields = {
            "type": "hello",
            "session": self.session,
            "generation": self.generation,
            "version": self.version,
            "features": list(self.features),
        }
        return json.dumps(fields, separators=(",", ":"))


def parse_hello(text: str) -> Hello | None:
    """What a text message says; None: it is no HELLO, or one that makes no sense."""
    if len(text) > LONGEST:
        return None
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(fields, dict) or fields.get("type") != "hello":
        return None
    return _sound(fields)


def _sound(fields: Mapping[str, Any]) -> Hello | None:
    session, version = fields.get("session", ""), fields.get("version", "")
    generation, features = fields.get("generation", 0), fields.get("features", [])
    if type(generation) is not int or not 0 <= generation < 2**63:
        return None
    if not isinstance(features, list) or len(features) > MOST_FEATURES:
        return None
    for word in (session, version, *features):
        if not isinstance(word, str) or len(word) > _WORD or not word.isprintable():
            return None
    return Hello(session, generation, version, tuple(features))
