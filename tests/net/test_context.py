"""Tests for L{proxyd.net.context}; tests/app has reloads with real certificates."""

from __future__ import annotations

from OpenSSL import SSL
from twisted.internet.interfaces import IOpenSSLContextFactory
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from proxyd.net.context import Context


class ContextTests(SynchronousTestCase):
    """What connections are given."""

    def test_replaced(self) -> None:
        """The next connection has the context that was put there last."""
        first, second = SSL.Context(SSL.TLS_METHOD), SSL.Context(SSL.TLS_METHOD)
        holder = Context(first)
        verifyObject(IOpenSSLContextFactory, holder)
        self.assertIs(holder.getContext(), first)
        holder.context = second
        self.assertIs(holder.getContext(), second)
