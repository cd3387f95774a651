"""
Tests of L{proxyd.auth.fetch}; what a server of keys can do wrong is in L{tests.auth.test_issuers}.
"""

from __future__ import annotations

from pathlib import Path

from twisted.internet import reactor
from twisted.internet.endpoints import SSL4ServerEndpoint
from twisted.internet.ssl import DefaultOpenSSLContextFactory
from twisted.trial.unittest import TestCase
from twisted.web.server import Site

from proxyd.auth.fetch import Fetcher, NotFetched
from proxyd.config.token_settings import Issuer, KeyTimes
from proxyd.errors import StartError
from tests.auth.identity import Publisher, settled
from tests.net.authority import made


class FetchTests(TestCase):
    """One document."""

    def fetcher(self, url: str, seconds: float = 20, ca: str | None = None) -> Fetcher:
        """What fetches it."""
        issuer = Issuer("i", ("a",), url, ca=ca)
        return Fetcher(reactor, issuer, KeyTimes(fetch=seconds))

    async def publisher(self) -> Publisher:
        """A server of keys."""
        publisher = Publisher()
        await publisher.start()
        self.addCleanup(publisher.stop)
        return publisher

    async def test_plain(self) -> None:
        """From loopback by http."""
        publisher = await self.publisher()
        self.assertEqual(await self.fetcher(publisher.url)(), b'{"keys": []}')
        await settled()

    async def test_refused(self) -> None:
        """Too large, not found, moved, or nobody there."""
        publisher = await self.publisher()
        for manner in ("huge", "error", "redirect"):
            publisher.manner = manner
            await self.assertFailure(self.fetcher(publisher.url)(), NotFetched)
        await publisher.stop()
        await self.assertFailure(self.fetcher(publisher.url)(), NotFetched)
        await settled()

    async def test_too_late(self) -> None:
        """A server that says nothing is given up."""
        publisher = await self.publisher()
        publisher.manner = "slow"
        await self.assertFailure(self.fetcher(publisher.url, 0.1)(), NotFetched)
        await settled()

    async def test_tls(self) -> None:
        """By https the server's name and certificate are verified."""
        folder = Path(self.mktemp())
        folder.mkdir()
        certificate, key = made("localhost", names=("localhost",)).write(str(folder), "id")
        endpoint = SSL4ServerEndpoint(
            reactor, 0, DefaultOpenSSLContextFactory(key, certificate), interface="127.0.0.1"
        )
        port = await endpoint.listen(Site(Publisher()))
        self.addCleanup(port.stopListening)
        url = f"https://localhost:{port.getHost().port}/keys"
        self.assertEqual(await self.fetcher(url, ca=certificate)(), b'{"keys": []}')
        wrong_name = url.replace("localhost", "127.0.0.1")
        for where, ca in ((wrong_name, certificate), (url, None)):
            try:
                await self.fetcher(where, ca=ca)()
            except Exception as error:
                self.assertNotIsInstance(error, AssertionError)
            else:
                raise AssertionError("a server that proved nothing was believed")
        await settled()

    def test_no_certificates(self) -> None:
        """A file of certificates that is none ends the start."""
        path = Path(self.mktemp())
        for text in ("", "nonsense", "-----BEGIN CERTIFICATE-----\nAAAA\n"):
            path.write_text(text)
            with self.assertRaises(StartError):
                self.fetcher("https://x/", ca=str(path))
        with self.assertRaises(StartError):
            self.fetcher("https://x/", ca="/no/such/file")
