"""
Which protocol a client speaks, seen by its first byte.
"""

from __future__ import annotations

from proxyd.errors import ProtocolError
from proxyd.wire.socks import socks4, socks5
from proxyd.wire.socks.http import HttpConnect
from proxyd.wire.socks.socks4 import Socks4
from proxyd.wire.socks.socks5 import Socks5

Machine = Socks4 | Socks5 | HttpConnect
"""The machine of one of the protocols."""


def handshake_for(first: int, login: bool) -> Machine:
    """
    The machine for a client, by the first byte that it sent.

    @param login: whether a client must log in
    @raise ProtocolError: no protocol that is served here begins so
    """
    if first == socks5.VERSION:
        return Socks5(login)
    if first == socks4.VERSION:
        return Socks4(login)
    if 0x41 <= first <= 0x5A:
        return HttpConnect(login)
    raise ProtocolError("neither SOCKS nor HTTP")
