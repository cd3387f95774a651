"""
Seconds that users rely on and that no key of the configuration sets.

They stand here, beside the defaults of those that have a key, and are handed
in to whoever waits by them.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ServerTimes:
    """
    Toward a server.

    @param retry_first: the first pause after a login that failed; each is twice
        the one before, less some jitter
    @param retry_longest: the longest of them
    @param host_avoided: how long a host that failed is tried after the others
    """

    retry_first: float = 0.5
    retry_longest: float = 5.0
    host_avoided: float = 30.0


@dataclass(frozen=True, slots=True)
class PasswordTimes:
    """
    While clients' passwords are checked.

    @param kept: how long a good answer of the server is believed again
    @param first_pause: the first pause of somebody who failed too often; each
        is twice the one before
    @param longest_pause: the longest of them
    @param forgiven: how long nobody must fail for it to be forgotten
    """

    kept: float = 5.0
    first_pause: float = 0.25
    longest_pause: float = 8.0
    forgiven: float = 60.0
