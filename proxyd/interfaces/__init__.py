"""
The doors between rooms: what packages of one floor promise to each other.

Only interfaces live here, only those in use, and the values they hand over.
Within a room a C{typing.Protocol} will do, and where there is one class, that
class.
"""

from proxyd.interfaces.store import IStore
from proxyd.interfaces.tokens import IRevocable, ITokens, ITokenSource
from proxyd.interfaces.ways import (
    IDialer,
    InstanceStatus,
    IRouter,
    ISocketEndpoint,
    IStream,
    IUpstream,
    Passage,
    UpstreamStatus,
)

__all__ = [
    "IDialer",
    "IRevocable",
    "IRouter",
    "ISocketEndpoint",
    "IStore",
    "IStream",
    "ITokenSource",
    "ITokens",
    "IUpstream",
    "InstanceStatus",
    "Passage",
    "UpstreamStatus",
]
