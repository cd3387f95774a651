"""A TLS context that may be replaced while its port is open."""

from __future__ import annotations

from OpenSSL import SSL
from twisted.internet.interfaces import IOpenSSLContextFactory
from zope.interface import implementer


@implementer(IOpenSSLContextFactory)
class Context:
    """
    How TLS is spoken at a port of Twisted's.

    @ivar context: None: not at all; a reload may put one with another
        certificate here, for those who come from now on
    """

    def __init__(self, context: SSL.Context | None) -> None:
        self.context = context

    def getContext(self) -> SSL.Context:
        """What the next connection uses."""
        assert self.context is not None
        return self.context
