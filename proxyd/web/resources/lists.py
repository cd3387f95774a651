"""Long lists, told in small steps: a thousand rows must not keep every client waiting."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any, TypeVar

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from proxyd.web.answer import Answer

STEP = 200
"""Items that are looked at in one turn of the reactor."""

T = TypeVar("T")


async def in_steps(clock: IReactorTime, items: Iterable[T]) -> AsyncIterator[T]:
    """Each item; after every L{STEP} of them others have their turn."""
    for count, item in enumerate(items):
        if count % STEP == STEP - 1:
            await deferLater(clock, 0)
        yield item


async def listed(
    clock: IReactorTime,
    name: str,
    items: Iterable[T],
    row: Callable[[T], dict[str, Any] | None],
    order: Callable[[T], int] | None = None,
    most: int | None = None,
) -> Answer:
    """
    Answer with C{{"NAME": [ROW, ...]}}.

    @param row: what is told of an item; None: it is left out
    @param order: by what they are sorted; None: as they come
    @param most: at most so many rows, the first
    """
    found: list[tuple[int, bytes]] = []
    async for item in in_steps(clock, items):
        told = row(item)
        if told is not None:
            text = json.dumps(told, ensure_ascii=False).encode("utf-8", "replace")
            found.append((len(found) if order is None else order(item), text))
    found.sort()
    rows = b", ".join(text for _, text in found[:most])
    return Answer(value=b'{"%s": [%s]}\n' % (name.encode(), rows))
