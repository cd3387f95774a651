"""
Tests of L{proxyd.store.rows}, beyond what the contract of all stores says.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping

from twisted.trial.unittest import SynchronousTestCase

from proxyd.records import AgentRecord, Change, Conflict, Kind, ProxyRecord, Unknown
from proxyd.store.rows import LAST_NODE, Row, Rows
from proxyd.store.schema import steps
from tests.store.contract import NOW, a_token


class RowsTests(SynchronousTestCase):
    """One transaction's work, on an SQLite in memory."""

    def setUp(self) -> None:
        self.connection = sqlite3.connect(":memory:", isolation_level=None)
        self.addCleanup(self.connection.close)
        for step in steps("sqlite"):
            self.connection.executescript(step)
        self.rows = Rows(self.run_statement)

    def run_statement(self, statement: str, values: Mapping[str, object]) -> list[Row]:
        """Run one statement."""
        return self.connection.execute(statement, dict(values)).fetchall()

    def test_current(self) -> None:
        """Of each kind it is told what is so now, or that it is gone."""
        agent, proxy = AgentRecord("pc1", b"d", NOW), ProxyRecord("p1", "{}", NOW)
        database = self.rows.add_database("shop", "d", b"", NOW)
        token = a_token("t1", "o")
        self.rows.add_token(token)
        self.rows.put_agent(agent)
        self.rows.add_proxy(proxy)
        number = str(database.database_id)
        self.assertEqual(
            [
                self.rows.current(Kind.DATABASE, "", number),
                self.rows.current(Kind.TOKEN, "", "t1"),
                self.rows.current(Kind.AGENT, "", "pc1"),
                self.rows.current(Kind.PROXY, "", "p1"),
            ],
            [
                Change(Kind.DATABASE, database.database_id, database),
                Change(Kind.TOKEN, ("", "t1"), token),
                Change(Kind.AGENT, "pc1", agent),
                Change(Kind.PROXY, "p1", proxy),
            ],
        )
        self.assertIsNone(self.rows.current(Kind.AGENT, "", "pc2").record)
        self.assertIsNone(self.rows.current(Kind.DATABASE, "", "99").record)

    def test_numbers_out_of_range(self) -> None:
        """A number that no database can have is of none."""
        for number in (0, -1, 2**63, 10**30):
            self.assertRaises(Unknown, self.rows.remove_database, number)
            self.assertRaises(Unknown, self.rows.add_token, a_token("t", number))

    def test_node_numbers(self) -> None:
        """A node that was silent for a minute has left its number to others."""
        for number in range(LAST_NODE):
            self.rows.join(f"n{number}", "a:1", NOW)
        self.assertRaises(Conflict, self.rows.join, "one more", "a:1", NOW)
        self.rows.join("n7", "a:1", NOW + 30)
        self.assertEqual([one.name for one in self.rows.nodes(NOW + 60)], ["n7"])
        self.assertEqual(self.rows.join("one more", "a:1", NOW + 60).number, 1)
        self.assertEqual(self.rows.join("n7", "a:1", NOW + 60).number, 8)
