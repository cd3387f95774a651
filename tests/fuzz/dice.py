"""
Where the inputs of L{tests.fuzz} come from, and how many of them there are.

C{PROXYD_FUZZ} is how many inputs each machine gets; C{PROXYD_SOAK=1} makes it
a million. A failure names its seed, which C{PROXYD_SEED} brings back.
"""

from __future__ import annotations

import gc
import os
import random
import sys
import time
from collections.abc import Callable, Sequence

from proxyd.errors import ProtocolError
from proxyd.wire.pg import messages
from proxyd.wire.pg.errors import error_response
from proxyd.wire.pg.framing import whole_messages
from tests.support.seeds import SOAK, printed_seed

CASES = int(os.environ.get("PROXYD_FUZZ", "1000000" if SOAK else "5000"))
BLOCK = 1000
"""How many inputs come of one seed: to seed is dearer than to make an input."""

CHUNK = 4096
SLACK = 2 * CHUNK
"""What a machine may hold above its limit: the chunk it was just given."""

LEAK = 20_000
"""Blocks of memory that may come or go by themselves, such as those of caches."""

INTERESTING = (
    b"", b"\0", b"\xff", b"\0\0\0\0", b"\x7f\xff\xff\xff", b"\xff\xff\xff\xff", b"\x80\0\0\0",
    b"\0\0\0\4", b"\0\0\0\3", b"\x16", b"R", b"E", b"S", b"Z\0\0\0\5I", b"\r\n", b",", b"=",
    b"\0\3\0\0", b"\0\3\0\2", b"\4\xd2\x16\x2f", b"\xc3\x28", b"\xf0\x9f\x92\xa9", b"%s%n",
)  # fmt: skip
_TIMES = (0, 1, 1, 2, 5)
_WIDTHS = (0, 1, 1, 4, 20)
_SIZES = (1, 2, 7, 64)

CLIENT_TALK = (
    messages.query("select 1") * 2,
    messages.parse("s", "select $1")
    + messages.bind("", "s", [b"1", None])
    + messages.execute("")
    + messages.SYNC,
    b"d\0\0\0\x09hello" * 3 + b"c\0\0\0\4" + messages.copy_fail("no") + messages.TERMINATE,
    b"F\0\0\0\x08oid!" + messages.SYNC,
)
SERVER_TALK = (
    b"T\0\0\0\x06\0\0D\0\0\0\x06\0\0C\0\0\0\x0dSELECT 1\0Z\0\0\0\5I",
    b"G\0\0\0\7\0\0\0C\0\0\0\x0bCOPY 1\0Z\0\0\0\5T",
    error_response("ERROR", "22012", "division by zero") + b"Z\0\0\0\5E",
    messages.parameter_status("TimeZone", "UTC") + b"1\0\0\0\x042\0\0\0\x04n\0\0\0\4Z\0\0\0\5I",
)


class Dice:
    """Makes the inputs of one seed."""

    __slots__ = ("_chance", "random")

    def __init__(self, source: random.Random) -> None:
        self.random = source
        self._chance = source.random

    def below(self, size: int) -> int:
        """A number from 0 up to this one; a fifth of what C{randrange} costs."""
        return int(self._chance() * size)

    def damaged(self, good: Sequence[bytes]) -> bytes:
        """One of these, with a few bytes changed, cut out, doubled or put in; or mere noise."""
        below = self.below
        if self._chance() < 0.1:
            return self.random.randbytes(below(301))
        return self._damage(good[below(len(good))])

    def shuffled(self, good: Sequence[bytes]) -> bytes:
        """
        Up to eight of these whole messages in any order, every third time with damage.

        One in eight says something else than it did, with a length that is right.
        """
        below = self.below
        data = b"".join(
            [
                good[below(len(good))] if below(8) else self._noise(good[below(len(good))][:1])
                for _ in range(1 + below(8))
            ]
        )
        return data if self._chance() < 0.7 else self._damage(data)

    def _noise(self, kind: bytes) -> bytes:
        length = self.below(self.below(300) + 1)
        return kind + (length + 4).to_bytes(4, "big") + self.random.randbytes(length)

    def _damage(self, data: bytes) -> bytes:
        below = self.below
        for _ in range(_TIMES[below(5)]):
            at, width = below(len(data) + 1), _WIDTHS[below(5)]
            which = below(len(INTERESTING) + 2)
            if which < len(INTERESTING):
                piece = INTERESTING[which]
            elif which == len(INTERESTING):
                piece = self.random.randbytes(width)
            else:
                piece = data[at : at + width] * 2
            data = data[:at] + piece + data[at + width :]
        return data

    def chunks(self, data: bytes) -> list[bytes]:
        """Cut as TCP might: not at all, at one place or two, or every few bytes."""
        dice = self._chance()
        if dice < 0.3:
            return [data]
        if dice < 0.8:
            at = self.below(len(data) + 1)
            if dice < 0.6:
                return [data[:at], data[at:]]
            end = at + self.below(7)
            return [data[:at], data[at:end], data[end:]]
        size = _SIZES[self.below(4)]
        return [data[at : at + size] for at in range(0, len(data), size)]


def apart(talk: Sequence[bytes]) -> tuple[bytes, ...]:
    """All messages of some talk, each by itself."""
    return tuple(
        bytes([kind]) + (len(body) + 4).to_bytes(4, "big") + body
        for said in talk
        for kind, body in whole_messages(said, CHUNK, -1)[0]
    )


def kept(thing: object, depth: int = 3) -> int:
    """Bytes that an object holds, as far as they can be seen."""
    if isinstance(thing, (bytes, bytearray, str)):
        return len(thing)
    if depth == 0 or callable(thing):
        return 0
    if isinstance(thing, dict):
        return sum(kept(key, depth - 1) + kept(thing[key], depth - 1) for key in thing)
    if isinstance(thing, (list, tuple, set, frozenset)):
        return sum(kept(part, depth - 1) for part in thing)
    names = {name for kind in type(thing).__mro__ for name in getattr(kind, "__slots__", ())}
    names |= set(getattr(thing, "__dict__", ()))
    return sum(kept(getattr(thing, name, None), depth - 1) for name in names)


def fuzz(what: str, one: Callable[[Dice], None], cases: int = CASES) -> None:
    """
    Give a machine so many inputs: none may raise anything but ProtocolError, or leave memory.

    How many there were is told on stderr.

    @param what: the test's name
    @param one: makes one input, and hands it to a machine
    """
    first = printed_seed(what)
    blocks = max(2, -(-cases // BLOCK))
    began, refused, before = time.monotonic(), 0, 0
    for seed in range(first, first + blocks):
        dice = Dice(random.Random(seed))
        for case in range(BLOCK):
            try:
                one(dice)
            except ProtocolError:
                refused += 1
            except Exception as error:
                raise AssertionError(f"PROXYD_SEED={seed}, input {case}: {error!r}") from error
        if seed == first:
            # What is made once, and what caches take, has been.
            gc.collect()
            before = sys.getallocatedblocks()
    gc.collect()
    grown = sys.getallocatedblocks() - before
    sys.stderr.write(
        f"{what}: {blocks * BLOCK} inputs, {refused} refused,"
        f" {time.monotonic() - began:.1f} s, {grown} blocks of memory more\n"
    )
    assert grown < LEAK, f"PROXYD_SEED={first}: {grown} blocks of memory were left"
