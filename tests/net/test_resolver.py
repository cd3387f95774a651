"""Tests for L{proxyd.net.resolver}."""

from __future__ import annotations

import socket
from threading import Event

from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.trial.unittest import TestCase

from proxyd.errors import DialError, DialFailure
from proxyd.net.resolver import Address, Resolver, system_look_up

ANSWER = [Address(socket.AF_INET, "192.0.2.1", 5432)]


class Names:
    """A look-up that answers when the test says so."""

    def __init__(self) -> None:
        self.go = Event()
        self.asked: list[str] = []
        self.begun: dict[str, Deferred[None]] = {}

    def look_up(self, host: str, port: int) -> list[Address]:
        """Say that it has begun, wait, answer."""
        self.asked.append(host)
        if host in self.begun:
            reactor.callFromThread(self.begun[host].callback, None)  # type: ignore[attr-defined]
        self.go.wait()
        return ANSWER


class ResolverTests(TestCase):
    """Names become addresses without blocking anybody else."""

    def resolver(self, **arguments: object) -> Resolver:
        """A resolver that runs until the test ends."""
        resolver = Resolver(reactor, **arguments)  # type: ignore[arg-type]
        resolver.startService()
        self.addCleanup(resolver.stopService)
        return resolver

    def names(self) -> Names:
        """Names whose look-ups end with the test."""
        names = Names()
        self.addCleanup(names.go.set)
        return names

    async def assert_no_name(self, looking: Deferred[list[Address]], text: str) -> None:
        """It failed with NAME, and its text has this part."""
        error = await self.assertFailure(looking, DialError)
        self.assertIs(error.failure, DialFailure.NAME)
        self.assertIn(text, str(error))

    def test_addresses(self) -> None:
        """An IP address in text is answered at once, without a thread, zone and all."""
        resolver = Resolver(reactor, look_up=self.fail)  # type: ignore[arg-type]
        for family, host in (
            (socket.AF_INET, "192.0.2.1"),
            (socket.AF_INET6, "2001:db8::1"),
            (socket.AF_INET6, "fe80::1%lo"),
        ):
            self.assertEqual(
                self.successResultOf(resolver.resolve(host, 5432)), [Address(family, host, 5432)]
            )

    async def test_localhost(self) -> None:
        """The system's names are found."""
        addresses = await self.resolver().resolve("localhost", 5432)
        self.assertTrue({"127.0.0.1", "::1"} & {address.host for address in addresses})
        self.assertEqual({address.port for address in addresses}, {5432})

    async def test_unknown(self) -> None:
        """A name that does not exist is a DialError that names it."""

        def look_up(host: str, port: int) -> list[Address]:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

        looking = self.resolver(look_up=look_up).resolve("nowhere.invalid", 5432)
        await self.assert_no_name(looking, "nowhere.invalid: Name or service not known")

    async def test_no_names(self) -> None:
        """What can't be a name is a DialError too, and so is none at all."""
        resolver = self.resolver()
        for host in ("a" * 64 + ".example", "a\0b", "..", "x" * 300):
            await self.assert_no_name(resolver.resolve(host, 5432), "name not found")
        await self.assert_no_name(resolver.resolve("", 5432), "no host")

    async def test_bug(self) -> None:
        """A look-up that breaks fails, and its thread goes on."""

        def look_up(host: str, port: int) -> list[Address]:
            raise IndexError(host)

        resolver = self.resolver(threads=1, look_up=look_up)
        for _ in range(2):
            await self.assert_no_name(resolver.resolve("one", 1), "IndexError")

    async def test_nothing_found(self) -> None:
        """A name without an address that we can use is told so."""
        resolver = self.resolver(look_up=lambda host, port: [])
        await self.assert_no_name(resolver.resolve("empty", 1), "no IPv4 or IPv6")

    async def test_bounded(self) -> None:
        """No more look-ups run at a time than there are threads; the rest wait, in order."""
        names = self.names()
        names.begun = {"one": Deferred(), "two": Deferred()}
        resolver = self.resolver(threads=2, look_up=names.look_up)
        looking = [resolver.resolve(host, 1) for host in ("one", "two", "three", "four")]
        await gatherResults(list(names.begun.values()))
        self.assertEqual(sorted(names.asked), ["one", "two"])
        names.go.set()
        self.assertEqual(await gatherResults(looking), [ANSWER] * 4)
        self.assertEqual(sorted(names.asked[2:]), ["four", "three"])

    async def test_cancelled_before(self) -> None:
        """A look-up that is given up before it had a thread is never begun."""
        names = self.names()
        names.begun = {"one": Deferred()}
        resolver = self.resolver(threads=1, look_up=names.look_up)
        one, two, three = (resolver.resolve(host, 1) for host in ("one", "two", "three"))
        await names.begun["one"]
        two.cancel()
        await self.assertFailure(two, CancelledError)
        names.go.set()
        await gatherResults([one, three])
        self.assertEqual(names.asked, ["one", "three"])

    async def test_cancelled_in_the_midst(self) -> None:
        """One that is given up while it runs is done for the caller, its answer unseen."""
        names = self.names()
        names.begun = {"one": Deferred()}
        resolver = self.resolver(threads=1, look_up=names.look_up)
        one = resolver.resolve("one", 1)
        await names.begun["one"]
        one.cancel()
        await self.assertFailure(one, CancelledError)
        two = resolver.resolve("two", 1)
        names.go.set()
        self.assertEqual(await two, ANSWER)

    async def test_stop(self) -> None:
        """A stop waits for no name server: what is asked fails, and so does what comes later."""
        names = self.names()
        names.begun = {"one": Deferred()}
        resolver = self.resolver(threads=1, look_up=names.look_up)
        asked = [resolver.resolve("one", 1), resolver.resolve("two", 1)]
        await names.begun["one"]
        self.assertIsNone(resolver.stopService())
        for looking in asked:
            await self.assert_no_name(looking, "stopped")
        await self.assert_no_name(resolver.resolve("three", 1), "stopped")
        self.assertEqual(names.asked, ["one"])

    async def test_again(self) -> None:
        """After a stop it can be started again, though an old look-up still hangs."""
        names = self.names()
        names.begun = {"one": Deferred()}
        resolver = self.resolver(threads=1, look_up=names.look_up)
        one = resolver.resolve("one", 1)
        await names.begun["one"]
        resolver.stopService()
        await self.assert_no_name(one, "stopped")
        resolver.startService()
        two = resolver.resolve("two", 1)
        names.go.set()
        self.assertEqual(await two, ANSWER)

    async def test_too_many(self) -> None:
        """There is a bound to what waits; beyond it a name is refused at once."""
        names = self.names()
        names.begun = {"one": Deferred()}
        resolver = self.resolver(threads=1, look_up=names.look_up, most=2)
        looking = [resolver.resolve("one", 1), resolver.resolve("two", 1)]
        await names.begun["one"]
        await self.assert_no_name(resolver.resolve("three", 1), "too many names")
        names.go.set()
        self.assertEqual(await gatherResults(looking), [ANSWER] * 2)

    def test_system_order(self) -> None:
        """The system's look-up gives each address once."""
        addresses = system_look_up("localhost", 1)
        self.assertEqual(len(addresses), len(set(addresses)))
