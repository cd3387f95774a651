"""Tokens: issued, registered, listed and revoked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.internet.interfaces import IReactorTime

from proxyd.auth.issued import database_of
from proxyd.auth.tokens import LONGEST_LABEL, Tokens
from proxyd.config import values
from proxyd.config.values import BadValue
from proxyd.records import DatabaseId, TokenRecord, TokenRefused
from proxyd.web.answer import Answer, invalid
from proxyd.web.resources.lists import listed
from proxyd.web.resources.times import TIME, shown_time
from proxyd.web.route import Call, Route
from proxyd.web.schema import Wrong, closed, or_null, said, text, whole
from proxyd.web.schema import listed as list_of

LONGEST_TOKEN = 65_535

_DATABASE = {
    "description": "The id of a registered database, or the name of a connection",
    "anyOf": [whole(least=1), text(most=200)],
}

TOKEN = closed(
    {
        "token_id": said(),
        "issuer": said("Empty: proxyd itself"),
        "database_id": {"type": ["integer", "string"], "description": _DATABASE["description"]},
        "label": said(),
        "issued_at": TIME,
        "expires_at": TIME,
        "revoked_at": or_null(TIME),
    }
)

ISSUED = closed(
    {
        "token_id": said(),
        "database_id": {"type": ["integer", "string"]},
        "expires_at": TIME,
    },
    {
        "token": said("Shown this once; not for a token that was registered"),
        "connection_string": said("Ready to paste, with the token in it"),
    },
)

_ISSUE = closed(
    {},
    {
        "database_id": _DATABASE,
        "ttl": {
            "description": "How long it is good for: seconds, or a text such as 30d; "
            "absent: tokens.ttl of the configuration",
            "anyOf": [
                {**whole(least=1), "title": "seconds"},
                {**text(most=40), "title": "a text such as 30d"},
            ],
        },
        "label": text("What you call it", least=0, most=LONGEST_LABEL),
        "roles": {
            "type": "array",
            "items": text(most=63),
            "maxItems": 100,
            "description": "Names that may stand in the URL instead of `token`",
        },
        "token": text(
            "A token made elsewhere with proxyd's secret, to be registered; then only "
            "`label` may stand beside it",
            most=LONGEST_TOKEN,
        ),
    },
)


class TokensResource:
    """C{/api/tokens}."""

    def __init__(self, tokens: Tokens, clock: IReactorTime) -> None:
        self._tokens = tokens
        self._clock = clock

    def routes(self) -> Sequence[Route]:
        """The calls that it answers."""
        return (
            Route(
                "POST",
                "/api/tokens",
                self.add,
                "Issue a token for a database, or register one made elsewhere",
                {201: ("It is good from now on", ISSUED)},
                errors=(404, 409),
                body=_ISSUE,
            ),
            Route(
                "GET",
                "/api/tokens",
                self.list,
                "All tokens, without the tokens themselves",
                {200: ("They", closed({"tokens": list_of(TOKEN)}))},
                query={"database_id": text("Only tokens of this database", most=200)},
            ),
            Route(
                "DELETE",
                "/api/tokens/{token_id}",
                self.revoke,
                "Revoke a token: nobody logs in with it, and its sessions end",
                {200: ("It is revoked", TOKEN)},
                names={"token_id": text(most=200)},
                query={"issuer": text("Whose token it is, if not proxyd's own", most=1000)},
            ),
        )

    async def add(self, call: Call) -> Answer:
        """Issue one, or register one."""
        body = call.body
        _check(body)
        label = body.get("label", "")
        if "token" in body:
            record = await self._tokens.register(body["token"], label)
            value: dict[str, Any] = {
                "token_id": record.token_id,
                "database_id": record.database_id,
                "expires_at": shown_time(record.expires_at),
            }
            return Answer(201, value)
        issued = await self._tokens.issue(
            _database(body["database_id"]), _seconds(body.get("ttl")), label, body.get("roles", ())
        )
        value = {
            "token": issued.token,
            "token_id": issued.token_id,
            "database_id": issued.database_id,
            "expires_at": shown_time(issued.expires_at),
            "connection_string": issued.connection_string,
        }
        return Answer(201, value)

    async def list(self, call: Call) -> Answer:
        """All of them, or those of one database."""
        wanted = call.query.get("database_id")
        if wanted is not None:
            wanted = _database(int(wanted) if _is_number(wanted) else wanted)
        found = await self._tokens.listed(wanted)
        return await listed(self._clock, "tokens", found, _row)

    async def revoke(self, call: Call) -> Answer:
        """Revoke one."""
        record = await self._tokens.revoke(call.path["token_id"], call.query.get("issuer", ""))
        return Answer(value=_row(record))


def _check(body: Any) -> None:
    """
    Whether it is one of the two: what to issue, or what to register.

    @raise ApiError: 422
    """
    if "token" in body:
        problems = [
            Wrong(name, "says the token itself: leave it out")
            for name in ("database_id", "ttl", "roles")
            if name in body
        ]
    else:
        problems = [] if "database_id" in body else [Wrong("database_id", "is missing")]
    if problems:
        raise invalid(problems)


def _database(given: int | str) -> DatabaseId:
    try:
        return database_of(given)
    except TokenRefused:
        raise invalid([Wrong("database_id", "names no database")]) from None


def _seconds(ttl: int | str | None) -> float | None:
    if not isinstance(ttl, str):
        return ttl
    try:
        return values.duration(ttl)
    except BadValue as error:
        raise invalid([Wrong("ttl", str(error))]) from None


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 17


def _row(record: TokenRecord) -> dict[str, Any]:
    revoked = record.revoked_at
    return {
        "token_id": record.token_id,
        "issuer": record.issuer,
        "database_id": record.database_id,
        "label": record.label,
        "issued_at": shown_time(record.issued_at),
        "expires_at": shown_time(record.expires_at),
        "revoked_at": None if revoked is None else shown_time(revoked),
    }
