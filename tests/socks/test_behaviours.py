"""The table of behaviours, each a test of its own on real sockets."""

from __future__ import annotations

import socket
from typing import Any

from tests.socks.behaviours import TABLE, Check, Place
from tests.socks.scene import SocksCase, Targets, free_port, threaded


def has_six() -> bool:
    """Whether this machine speaks IPv6 with itself."""
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


class BehaviourTests(SocksCase):
    """What is seen is what should be."""

    async def see(self, check: Check, expected: str) -> None:
        """Run one behaviour."""
        six = Targets("::1") if has_six() else None
        if six is not None:
            self.closing.append(six.close)
        hasty = check.__name__ in ("silent", "stalled")
        place = Place(
            self.listen(auth_timeout=0.3 if hasty else 60.0),
            self.listen(accounts=[("ann", "secret")]),
            self.targets,
            six,
            free_port(),
            60.0,
        )
        self.assertEqual(await threaded(check, place), expected, check.__doc__)


def _test(check: Check, expected: str) -> Any:
    async def test(self: BehaviourTests) -> None:
        await self.see(check, expected)

    test.__doc__ = check.__doc__
    return test


for _check, _expected in TABLE:
    setattr(BehaviourTests, f"test_{_check.__name__}", _test(_check, _expected))
