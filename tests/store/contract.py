"""
What every store promises, as tests: mixed into a TestCase that makes the store.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from twisted.internet.defer import Deferred, gatherResults
from twisted.trial.unittest import TestCase
from zope.interface.verify import verifyObject

from proxyd.interfaces import IStore
from proxyd.records import (
    AgentRecord,
    Change,
    Conflict,
    Kind,
    ProxyRecord,
    StoreLost,
    TokenRecord,
    Unknown,
)

NOW = 1_700_000_000


def a_token(
    token_id: str, database_id: int | str, *, issuer: str = "", life: int = 60
) -> TokenRecord:
    """A token's record; each id has its own digest."""
    digest = (issuer + token_id).encode().ljust(32, b"\0")[:32]
    return TokenRecord(token_id, issuer, digest, database_id, "a label", NOW, NOW + life)


class StoreContract(TestCase):
    """
    The tests; L{make} is what a subclass says.

    @ivar store: opened, empty
    """

    store: IStore

    def make(self) -> IStore:
        """A fresh store, not opened."""
        raise NotImplementedError

    def setUp(self) -> Deferred[None]:
        self.store = self.make()
        self.changes: list[Change] = []
        self.store.watch(self.changes.append)
        self.addCleanup(self.store.close)
        return self.store.open()

    def test_interface(self) -> None:
        """It has all the methods."""
        verifyObject(IStore, self.store)
        self.assertLess(self.store.silent_for(), 60)

    async def test_one_that_fails(self) -> None:
        """One who watches and has a bug keeps nobody else from hearing of a revocation."""
        heard: list[Change] = []

        def fail(change: Change) -> None:
            raise ZeroDivisionError

        self.store.watch(fail)
        self.store.watch(heard.append)
        await self.store.add_token(a_token("t", "o"))
        await self.store.revoke_token("", "t", NOW)
        await self.store.tokens()
        self.assertEqual([change.key for change in heard], [("", "t")] * 2)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 2)

    # Databases

    async def test_databases(self) -> None:
        """A database gets an id, is listed, and is removed; its id is never used again."""
        shop = await self.store.add_database("shop", "postgresql://u@h/shop", b"sealed", NOW)
        crm = await self.store.add_database("crm", "postgresql://u@h/crm", b"", NOW + 1)
        self.assertEqual(
            (shop.name, shop.dsn, shop.sealed), ("shop", "postgresql://u@h/shop", b"sealed")
        )
        self.assertEqual((shop.created_at, crm.sealed), (NOW, b""))
        self.assertGreater(shop.database_id, 0)
        self.assertEqual(await self.store.databases(), [shop, crm])
        await self.store.remove_database(crm.database_id)
        self.assertEqual(await self.store.databases(), [shop])
        again = await self.store.add_database("crm", "postgresql://u@h/crm", b"", NOW)
        self.assertNotIn(again.database_id, (shop.database_id, crm.database_id))

    async def test_database_conflict(self) -> None:
        """A name is taken once; what is not there can't be removed."""
        await self.store.add_database("shop", "a", b"", NOW)
        await self.assertFailure(self.store.add_database("shop", "b", b"", NOW), Conflict)
        await self.assertFailure(self.store.remove_database(99), Unknown)
        self.assertEqual(len(await self.store.databases()), 1)

    async def test_removal_kills_tokens(self) -> None:
        """With a database its tokens go, and no others; each is told of."""
        shop = await self.store.add_database("shop", "a", b"", NOW)
        other = await self.store.add_database("other", "a", b"", NOW)
        for name, place in (("t1", shop), ("t2", shop), ("t3", other)):
            await self.store.add_token(a_token(name, place.database_id))
        await self.store.add_token(a_token("t4", "orders"))
        self.changes.clear()
        await self.store.remove_database(shop.database_id)
        self.assertEqual([one.token_id for one in await self.store.tokens()], ["t3", "t4"])
        gone = {(one.kind, one.key) for one in self.changes if one.record is None}
        expected = {
            (Kind.DATABASE, shop.database_id),
            (Kind.TOKEN, ("", "t1")),
            (Kind.TOKEN, ("", "t2")),
        }
        self.assertEqual(gone, expected)

    # Tokens

    async def test_tokens(self) -> None:
        """Tokens come back as they were remembered, all or those of one database."""
        shop = await self.store.add_database("shop", "a", b"", NOW)
        one = a_token("t1", shop.database_id)
        two = replace(a_token("t2", "orders"), label="Ünïcode ✓", expires_at=253_402_300_799)
        three = replace(a_token("t1", "", issuer="https://id.example"), digest=b"", revoked_at=NOW)
        for record in (one, two, three):
            await self.store.add_token(record)
        self.assertEqual(await self.store.tokens(), [one, two, three])
        self.assertEqual(await self.store.tokens(shop.database_id), [one])
        self.assertEqual(await self.store.tokens("orders"), [two])
        self.assertEqual(await self.store.token("", "t1"), one)
        self.assertEqual(await self.store.token("https://id.example", "t1"), three)
        self.assertIsNone(await self.store.token("", "t9"))

    async def test_a_name_of_digits(self) -> None:
        """A connection called 1 is not the registered database 1."""
        shop = await self.store.add_database("shop", "a", b"", NOW)
        await self.store.add_token(a_token("t1", shop.database_id))
        await self.store.add_token(a_token("t2", str(shop.database_id)))
        found = await self.store.tokens(shop.database_id)
        self.assertEqual([one.token_id for one in found], ["t1"])

    async def test_token_conflicts(self) -> None:
        """An id is taken once for each issuer, a digest once; a database must be there."""
        first = a_token("t1", "orders")
        await self.store.add_token(first)
        for other in (
            replace(first, digest=b"x" * 32),
            replace(first, token_id="t2"),
        ):
            await self.assertFailure(self.store.add_token(other), Conflict)
        await self.assertFailure(self.store.add_token(a_token("t3", 77)), Unknown)
        for number in range(2):
            unseen = replace(a_token(f"r{number}", "", issuer="i"), digest=b"")
            await self.store.add_token(unseen)

    async def test_revoke(self) -> None:
        """A revoked token stays, and says since when; once revoked it stays so."""
        record = a_token("t1", "orders")
        await self.store.add_token(record)
        revoked = replace(record, revoked_at=NOW + 5)
        self.assertEqual(await self.store.revoke_token("", "t1", NOW + 5), revoked)
        self.assertEqual(await self.store.revoke_token("", "t1", NOW + 9), revoked)
        self.assertEqual(await self.store.tokens(), [revoked])
        await self.assertFailure(self.store.revoke_token("", "t2", NOW), Unknown)
        await self.assertFailure(self.store.revoke_token("other", "t1", NOW), Unknown)

    async def test_remove_expired(self) -> None:
        """What has expired goes, revoked or not; its id and digest are free again."""
        old, revoked, young = (
            a_token("t1", "o", life=5),
            a_token("t2", "o", life=5),
            a_token("t3", "o"),
        )
        for record in (old, revoked, young):
            await self.store.add_token(record)
        await self.store.revoke_token("", "t2", NOW)
        self.assertEqual(await self.store.remove_expired(NOW + 4), 0)
        self.assertEqual(await self.store.remove_expired(NOW + 5), 2)
        self.assertEqual(await self.store.tokens(), [young])
        await self.store.add_token(old)

    # Agents, proxies, nodes

    async def test_agents(self) -> None:
        """An agent is put, replaced and removed."""
        one, two = AgentRecord("pc1", b"1" * 32, NOW), AgentRecord("pc0", b"2" * 32, NOW)
        await self.store.put_agent(one)
        await self.store.put_agent(two)
        newer = replace(one, digest=b"3" * 32)
        await self.store.put_agent(newer)
        self.assertEqual(await self.store.agents(), [two, newer])
        await self.store.remove_agent("pc0")
        self.assertEqual(await self.store.agents(), [newer])
        await self.assertFailure(self.store.remove_agent("pc0"), Unknown)

    async def test_proxies(self) -> None:
        """A reverse port is added and removed."""
        one, two = ProxyRecord("b", '{"x": 1}', NOW), ProxyRecord("a", "{}", NOW)
        await self.store.add_proxy(one)
        await self.store.add_proxy(two)
        await self.assertFailure(self.store.add_proxy(one), Conflict)
        self.assertEqual(await self.store.proxies(), [one, two])
        await self.store.remove_proxy("b")
        await self.assertFailure(self.store.remove_proxy("b"), Unknown)
        self.assertEqual(await self.store.proxies(), [two])

    async def test_nodes(self) -> None:
        """A node has a number of its own while it lives."""
        first = await self.store.join("a", "10.0.0.1:6432")
        second = await self.store.join("b", "10.0.0.2:6432")
        self.assertNotEqual(first.number, second.number)
        self.assertTrue(0 < first.number < 1024)
        again = await self.store.join("a", "10.0.0.9:6432")
        self.assertEqual((again.number, again.address), (first.number, "10.0.0.9:6432"))
        self.assertEqual([one.name for one in await self.store.nodes()], ["a", "b"])
        await self.store.leave("a")
        self.assertEqual([one.name for one in await self.store.nodes()], ["b"])
        third = await self.store.join("c", "10.0.0.3:6432")
        self.assertNotEqual(third.number, second.number)

    # Changes

    async def test_changes(self) -> None:
        """Each change is told, with what is so now, before it is answered."""
        shop = await self.store.add_database("shop", "a", b"", NOW)
        record = a_token("t1", shop.database_id, life=1)
        steps: list[tuple[Callable[[], Deferred[object]], Change]] = [
            (lambda: self.store.add_token(record), Change(Kind.TOKEN, ("", "t1"), record)),
            (
                lambda: self.store.revoke_token("", "t1", NOW),
                Change(Kind.TOKEN, ("", "t1"), replace(record, revoked_at=NOW)),
            ),
            (lambda: self.store.remove_expired(NOW + 9), Change(Kind.TOKEN, ("", "t1"), None)),
            (
                lambda: self.store.remove_database(shop.database_id),
                Change(Kind.DATABASE, shop.database_id, None),
            ),
        ]
        for step, expected in steps:
            self.changes.clear()
            await step()
            self.assertEqual(self.changes, [expected])

    async def test_a_refusal_changes_nothing(self) -> None:
        """What fails is not told, and leaves nothing behind."""
        await self.store.add_token(a_token("t1", "o"))
        self.changes.clear()
        await self.assertFailure(self.store.add_token(a_token("t1", "o")), Conflict)
        await self.assertFailure(self.store.add_token(a_token("t2", 5)), Unknown)
        self.assertEqual(self.changes, [])
        self.assertEqual(len(await self.store.tokens()), 1)

    async def test_many_at_once(self) -> None:
        """Calls that overlap all come true."""
        await gatherResults([self.store.add_token(a_token(f"t{n}", "o")) for n in range(50)])
        self.assertEqual(len(await self.store.tokens()), 50)

    async def test_closed(self) -> None:
        """A closed store says so."""
        await self.store.close()
        await self.assertFailure(self.store.databases(), StoreLost)
        await self.assertFailure(self.store.add_token(a_token("t1", "o")), StoreLost)
