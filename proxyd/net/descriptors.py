"""
How many files and sockets this process may have open.

The limit is the kernel's C{RLIMIT_NOFILE} (setrlimit(2)): each client and each
server connection costs one descriptor.
"""

from __future__ import annotations

import resource

OWN_DESCRIPTORS = 64
"""What proxyd needs besides clients and servers: listeners, epoll, logs, its state, slack."""


def raise_limit() -> int:
    """
    Raise the number of open files to the most that is allowed without privileges.

    @return: the limit now in force; when it can't be raised, as it was
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        except (OSError, ValueError):
            # An "unlimited" hard limit is above what the kernel lets a process set.
            return soft
        soft = hard
    return soft


def check(limit: int, max_clients: int, servers: int) -> str | None:
    """
    Whether the clients and servers that a configuration allows fit in the limit.

    @param limit: open files allowed, as L{raise_limit} gave it
    @param max_clients: the most clients at a time
    @param servers: the most server connections at a time, of all pools
    @return: None when all is well, else one line that says what to change
    """
    needed = max_clients + servers + OWN_DESCRIPTORS
    if limit == resource.RLIM_INFINITY or limit >= needed:
        return None
    return (
        f"{limit} open files are allowed, but {max_clients} clients and {servers} server"
        f" connections need {needed}: raise LimitNOFILE (ulimit -n), or lower"
        " postgres.max_clients"
    )
