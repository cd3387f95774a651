"""What an L{IStream<proxyd.interfaces.IStream>} promises, on what Twisted has: TCP and TLS."""

from __future__ import annotations

from twisted.internet import reactor
from twisted.internet.endpoints import SSL4ServerEndpoint, TCP4ClientEndpoint, wrapClientTLS
from twisted.internet.interfaces import IStreamClientEndpoint, IStreamServerEndpoint
from twisted.internet.ssl import (
    Certificate,
    PrivateCertificate,
    optionsForClientTLS,
    trustRootFromCertificates,
)

from tests.net.authority import made
from tests.support.streams import StreamConformance


class TcpTests(StreamConformance):
    """Twisted's TCP, whose manners the others have to have."""

    async def test_interface(self) -> None:
        """Twisted does not know of our name for it."""

    async def way(self, port: int) -> IStreamClientEndpoint:
        """Straight."""
        endpoint: IStreamClientEndpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", port)  # type: ignore[no-untyped-call]
        return endpoint


class TlsTests(StreamConformance):
    """Twisted's TLS, which can't end one direction by itself."""

    half_closes = False

    def setUp(self) -> None:
        self.pair = made("localhost", names=("localhost",), ca=True)

    def listening(self) -> IStreamServerEndpoint:
        """TLS, too."""
        own = PrivateCertificate.loadPEM(self.pair.pem + self.pair.key_pem())  # type: ignore[no-untyped-call]
        endpoint: IStreamServerEndpoint = SSL4ServerEndpoint(  # type: ignore[no-untyped-call]
            reactor, 0, own.options(), interface="127.0.0.1"
        )
        return endpoint

    async def way(self, port: int) -> IStreamClientEndpoint:
        """TLS over TCP."""
        tcp = TCP4ClientEndpoint(reactor, "127.0.0.1", port)  # type: ignore[no-untyped-call]
        trust = trustRootFromCertificates([Certificate.loadPEM(self.pair.pem)])  # type: ignore[no-untyped-call]
        endpoint: IStreamClientEndpoint = wrapClientTLS(
            optionsForClientTLS("localhost", trustRoot=trust), tcp
        )
        return endpoint

    async def test_interface(self) -> None:
        """Twisted does not know of our name for it."""

    async def test_we_end_first(self) -> None:
        """Twisted's TLS has no such verb; ours close."""

    async def test_after_the_end(self) -> None:
        """Twisted's TLS stumbles over it."""
