"""
What C{twistd} is told of proxyd: that there is such a service, and where it is made.

Imports nothing of proxyd: C{twistd} reads this file for every command it is
given, C{--help} too.
"""

from __future__ import annotations

from twisted.application.service import ServiceMaker

proxyd = ServiceMaker(  # type: ignore[no-untyped-call]
    "proxyd",
    "proxyd.tap",
    "An access daemon for a bastion host: PostgreSQL with a pool behind it.",
    "proxyd",
)

proxyd_agent = ServiceMaker(  # type: ignore[no-untyped-call]
    "proxyd-agent",
    "proxyd.agent_tap",
    "The agent of a private network: it dials out to a proxyd and reaches hosts for it.",
    "proxyd-agent",
)
