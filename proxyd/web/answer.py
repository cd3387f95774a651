"""
What a call to the API is answered: a value, or an error, both as JSON.

Every error has one shape::

    {"error": {"status": 422, "code": "invalid", "message": "name: is missing",
               "problems": [{"where": "name", "what": "is missing"}]}}
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from proxyd.web.schema import Schema, Wrong, closed, listed, said, whole

JSON = "application/json"

ERROR: Schema = closed(
    {
        "error": closed(
            {
                "status": whole("The HTTP status", least=400, most=599),
                "code": said("One word that programs can go by"),
                "message": said("One line for people"),
            },
            {
                "problems": listed(
                    closed({"where": said("Which value"), "what": said("What is wrong with it")}),
                    "With 422: everything that is wrong",
                )
            },
        )
    }
)
"""The schema of every error."""

CODES: Mapping[int, str] = {
    400: "bad_request",
    401: "unauthorized",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    408: "too_slow",
    409: "conflict",
    413: "too_large",
    422: "invalid",
    431: "headers_too_large",
    500: "internal",
    503: "unavailable",
    504: "timeout",
}
"""The word of each status that errors have; an error may have a more exact one."""


@dataclass(frozen=True, slots=True)
class Answer:
    """
    What is sent back.

    @param value: becomes JSON; bytes are sent as they are
    @param kind: the Content-Type
    """

    status: int = 200
    value: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    kind: str = JSON

    def body(self) -> bytes:
        """The bytes of it; none for 204."""
        if self.status == 204:
            return b""
        if isinstance(self.value, bytes):
            return self.value
        return json.dumps(self.value, ensure_ascii=False).encode("utf-8", "replace") + b"\n"


def phrase(status: int) -> bytes:
    """HTTP's own words for a status; Twisted does not know all of them."""
    return HTTPStatus(status).phrase.encode()


class ApiError(Exception):
    """
    A call is refused.

    @param status: the HTTP status
    @param message: one line for whoever called: what, and what to do next
    @param code: a word for programs; empty: that of the status
    @param problems: what is wrong with the values sent
    """

    def __init__(
        self,
        status: int,
        message: str,
        code: str = "",
        problems: Sequence[Wrong] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code or CODES.get(status, "error")
        self.problems = tuple(problems)
        self.headers = dict(headers or {})

    def answer(self) -> Answer:
        """The error as it is sent."""
        error: dict[str, Any] = {
            "status": self.status,
            "code": self.code,
            "message": self.message,
        }
        if self.problems:
            error["problems"] = [{"where": one.where, "what": one.what} for one in self.problems]
        return Answer(self.status, {"error": error}, self.headers)


def invalid(problems: Sequence[Wrong]) -> ApiError:
    """The values of a call are wrong: all of them are told."""
    first = problems[0]
    message = f"{first.where}: {first.what}" if first.where else f"the body {first.what}"
    if len(problems) > 1:
        message += f" (and {len(problems) - 1} more)"
    return ApiError(422, message, problems=problems)


def not_found(what: str) -> ApiError:
    """What was named is not there."""
    return ApiError(404, what)
