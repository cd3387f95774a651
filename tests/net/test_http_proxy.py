"""Tests for L{proxyd.net.http_proxy}."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProtocol, IProtocolFactory
from twisted.internet.protocol import Factory
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase

from proxyd.errors import DialError, DialFailure
from proxyd.net.http_proxy import HttpProxy, ThroughHttpProxy, proxy_for
from tests.support.streams import Party


class ProxyForTests(SynchronousTestCase):
    """What the environment means."""

    def test_names(self) -> None:
        """By scheme, in either case, with credentials and without a scheme."""
        environment = {"HTTPS_PROXY": "http://ann:p%40ss@proxy:3128", "http_proxy": "other:8080"}
        self.assertEqual(
            proxy_for("a.example", True, environment), HttpProxy("proxy", 3128, "ann:p@ss")
        )
        self.assertEqual(proxy_for("a.example", False, environment), HttpProxy("other", 8080))
        self.assertIsNone(proxy_for("a.example", True, {}))
        self.assertEqual(proxy_for("a", True, {"all_proxy": "http://x"}), HttpProxy("x", 80))
        self.assertIsNone(proxy_for("a", True, {"https_proxy": "socks5://x:1"}))

    def test_exceptions(self) -> None:
        """C{NO_PROXY}: names, what is below them, all."""
        for entry, host, through in (
            ("b.example", "a.example", True),
            ("example", "a.example", False),
            (".example", "a.example", False),
            ("a.example, x", "A.Example", False),
            ("*", "a.example", False),
            ("ample", "a.example", True),
        ):
            environment = {"https_proxy": "http://proxy:1", "NO_PROXY": entry}
            self.assertEqual(proxy_for(host, True, environment) is not None, through, entry)

    def test_hidden(self) -> None:
        """Its password shows in no repr."""
        self.assertNotIn("hush", repr(HttpProxy("a", 1, "ann:hush")))


class Way:
    """A connection to the proxy, of memory."""

    def __init__(self) -> None:
        self.transport: Any = StringTransport()
        self.aborted = False
        self.transport.abortConnection = self.abort
        self.protocol: Any = None

    def abort(self) -> None:
        """Reset."""
        self.aborted = True

    def connect(self, factory: IProtocolFactory) -> Deferred[IProtocol]:
        """At once."""
        self.protocol = factory.buildProtocol(None)  # type: ignore[arg-type]
        self.protocol.makeConnection(self.transport)
        done: Deferred[IProtocol] = Deferred()
        done.callback(self.protocol)
        return done


class ThroughTests(SynchronousTestCase):
    """CONNECT, then the bytes as they are."""

    def setUp(self) -> None:
        self.way: Any = Way()
        self.proxy = HttpProxy("proxy", 3128)

    def begin(self, host: str = "db.example") -> Deferred[IProtocol]:
        """Connect."""
        endpoint = ThroughHttpProxy(self.way, self.proxy, host, 443)
        return endpoint.connect(Factory.forProtocol(Party))

    def test_good(self) -> None:
        """The answer may come in pieces; what is behind it is not lost."""
        connecting = self.begin()
        self.assertEqual(
            self.way.transport.value(),
            b"CONNECT db.example:443 HTTP/1.1\r\nHost: db.example:443\r\n\r\n",
        )
        for piece in (b"HTTP/1.1 200 Fi", b"ne\r\nX: y\r\n\r", b"\nearly"):
            self.way.protocol.dataReceived(piece)
        party: Any = self.successResultOf(connecting)
        self.way.protocol.dataReceived(b" data")
        self.assertEqual(party.kept, b"early data")

    def test_ipv6(self) -> None:
        """An address is in brackets."""
        self.begin("fd00::1")
        self.assertTrue(self.way.transport.value().startswith(b"CONNECT [fd00::1]:443 "))

    def test_refused(self) -> None:
        """What the proxy says is told, once and in a line; the connection is gone."""
        for answer, said in (
            (b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", "407 Proxy Authentication"),
            (b"SSH-2.0-x\r\n\r\n", "no HTTP"),
            (b"HTTP/1.1 200" + b"x" * 20_000, "too long"),
        ):
            self.way = Way()
            connecting = self.begin()
            self.way.protocol.dataReceived(answer)
            error = self.failureResultOf(connecting, DialError).value
            self.assertEqual(error.failure, DialFailure.BROKEN)
            self.assertIn(said, str(error))
            self.assertTrue(self.way.aborted)
