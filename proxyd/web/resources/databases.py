"""The databases that are registered while proxyd runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from proxyd.postgres.registered import (
    LONGEST_DSN,
    LONGEST_NAME,
    LONGEST_PASSWORD,
    Registered,
    RegisteredDatabase,
)
from proxyd.web.answer import Answer
from proxyd.web.resources.times import TIME, shown_time
from proxyd.web.route import Call, Route
from proxyd.web.schema import closed, listed, said, text, whole

DATABASE = closed(
    {
        "database_id": whole(least=1),
        "name": said(),
        "connection": said("What clients ask for as their database"),
        "dsn": said("Without the password, which nobody is told"),
        "created_at": TIME,
    }
)

_REGISTER = closed(
    {
        "name": text("What you call it; unique", most=LONGEST_NAME),
        "dsn": text("postgresql://USER@HOST:PORT/DATABASE?sslmode=…", most=LONGEST_DSN),
    },
    {"password": text("Of the DSN's user, if it is not in the DSN", most=LONGEST_PASSWORD)},
)


class Databases:
    """C{/api/databases}."""

    def __init__(self, registered: Callable[[], Registered]) -> None:
        """@param registered: gives the databases; they are there when the first call comes"""
        self._registered = registered

    def routes(self) -> Sequence[Route]:
        """The calls that it answers."""
        return (
            Route(
                "POST",
                "/api/databases",
                self.register,
                "Register a database",
                {201: ("It is registered", DATABASE)},
                errors=(409,),
                body=_REGISTER,
            ),
            Route(
                "GET",
                "/api/databases",
                self.list,
                "All registered databases",
                {200: ("They", closed({"databases": listed(DATABASE)}))},
            ),
            Route(
                "DELETE",
                "/api/databases/{database_id}",
                self.remove,
                "Forget a database: its tokens die, its sessions end",
                {200: ("It is gone", closed({"database_id": whole(least=1)}))},
                names={"database_id": whole(least=1)},
            ),
        )

    async def register(self, call: Call) -> Answer:
        """Register one."""
        body = call.body
        found = await self._registered().register(body["name"], body["dsn"], body.get("password"))
        return Answer(201, _row(found))

    async def list(self, call: Call) -> Answer:
        """All of them."""
        found = await self._registered().listed()
        return Answer(value={"databases": [_row(one) for one in found]})

    async def remove(self, call: Call) -> Answer:
        """Forget one."""
        database_id = call.path["database_id"]
        await self._registered().remove(database_id)
        return Answer(value={"database_id": database_id})


def _row(database: RegisteredDatabase) -> dict[str, Any]:
    return {
        "database_id": database.database_id,
        "name": database.name,
        "connection": database.client_name,
        "dsn": database.dsn,
        "created_at": shown_time(database.created_at),
    }
