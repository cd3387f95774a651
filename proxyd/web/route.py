"""
A call of the API as one value: where it is, who may make it, what goes in and what comes out.

The router, the check of what comes in and C{/openapi.json} are all made of the
same L{Route}s, so that they can't say different things.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, unique
from typing import Any, Protocol

from proxyd.web.answer import Answer
from proxyd.web.schema import Schema

ANY_TEXT = "any_text"
"""What the router calls a name in a path that may hold slashes."""

_NAME, _WITHIN = re.compile(r"\{(\w+)\}"), r"<\1>"


@unique
class Access(Enum):
    """Who may make a call."""

    FREE = "anybody"
    METRICS = "anybody on this machine, else the admin token or the metrics token"
    ADMIN = "the admin token, or the UNIX socket"


@dataclass(frozen=True, slots=True)
class Caller:
    """
    Who called.

    @param source: the address with the port, or C{unix} and the user's id
    """

    source: str


@dataclass(frozen=True, slots=True)
class Call:
    """
    A call that may be made, with values that fit their schemas.

    @param path: the values of the path's names
    @param query: the values that were given; those of no name known are left out
    @param body: empty where the route takes none
    """

    caller: Caller
    path: Mapping[str, Any] = field(default_factory=dict)
    query: Mapping[str, Any] = field(default_factory=dict)
    body: Mapping[str, Any] = field(default_factory=dict)


Served = Callable[[Call], Answer | Awaitable[Answer]]


@dataclass(frozen=True, slots=True)
class Route:
    """
    One call.

    @param path: with names in braces, C{/api/tokens/{token_id}}
    @param serve: answers it; may raise L{ApiError<proxyd.web.answer.ApiError>},
        and any L{StoreError<proxyd.records.StoreError>}, which are told by their own status
    @param summary: one line for people
    @param answers: what it answers when all is well, by status: in words, and
        the JSON's schema (None: no JSON)
    @param errors: statuses of errors of its own, beside those that any call may have
    @param names: the schemas of the path's names
    @param query: the schemas of what may stand behind the C{?}
    @param body: the JSON that must come with it; None: none, and what comes is not looked at
    @param optional_body: the body may be absent: then it is an empty object
    """

    method: str
    path: str
    serve: Served
    summary: str
    answers: Mapping[int, tuple[str, Schema | None]]
    errors: Sequence[int] = ()
    names: Mapping[str, Schema] = field(default_factory=dict)
    query: Mapping[str, Schema] = field(default_factory=dict)
    body: Schema | None = None
    optional_body: bool = False
    access: Access = Access.ADMIN
    kind: str = "application/json"

    @property
    def changes(self) -> bool:
        """Whether the call changes something: then it is audited."""
        return self.method not in ("GET", "HEAD")

    @property
    def key(self) -> str:
        """Its name in logs, metrics and C{/openapi.json}: C{DELETE /api/tokens/{token_id}}."""
        return f"{self.method} {self.path}"

    @property
    def rule(self) -> str:
        """
        Its path as Klein writes it.

        A text at its end may hold slashes (sent as C{%2F}): an id that somebody
        else has chosen, as an issuer a token's, must be one that can be named.
        """
        path, brace, last = self.path.rpartition("/{")
        if brace and self.names.get(last[:-1], {}).get("type") == "string":
            return _NAME.sub(_WITHIN, path) + f"/<{ANY_TEXT}:{last[:-1]}>"
        return _NAME.sub(_WITHIN, self.path)


class Resource(Protocol):
    """One subject of the API: a file in C{web/resources}."""

    def routes(self) -> Sequence[Route]:
        """The calls that it answers."""
