"""Who a server runs as, and which folders this user reaches."""

from __future__ import annotations

import os
from pathlib import Path

from twisted.trial.unittest import TestCase

from demo.ground import Account, account_for, make_temporary, reachable_folder, reaches


class AccountTests(TestCase):
    """The server's user."""

    def test_ordinary_user(self) -> None:
        """Who is not root runs it as themselves, and nothing is switched."""
        account = account_for(12345)
        self.assertEqual((account.uid, account.identity()), (12345, {}))

    def test_root(self) -> None:
        """For root it is somebody else."""
        account = account_for(0)
        self.assertTrue(account.is_other)
        self.assertNotIn(0, (account.uid, account.gid))
        self.assertEqual(account.identity()["extra_groups"], [])


class GroundTests(TestCase):
    """Folders that another user can reach; only root can try this."""

    def setUp(self) -> None:
        if os.getuid():
            self.skipTest("only root can run a server as another user")
        self.account: Account = account_for(0)
        self.base = make_temporary("proxyd-test-", self.account)
        self.addCleanup(self.base.rmdir)

    def closed(self) -> Path:
        """A folder below one that is closed to the other user."""
        outer = self.base / "closed"
        outer.mkdir(mode=0o700)
        self.addCleanup(outer.rmdir)
        return outer

    def test_open(self) -> None:
        """An open folder is reached and taken as it is."""
        folder = self.base / "open"
        self.assertEqual(reachable_folder(folder, self.account), folder)
        self.addCleanup(folder.rmdir)
        self.assertTrue(reaches(self.account, folder))

    def test_closed(self) -> None:
        """One below a closed folder is not: another is made in its stead, and found again."""
        folder = self.closed() / "data"
        elsewhere = reachable_folder(folder, self.account)
        self.addCleanup(folder.rmdir)
        self.addCleanup((self.base / "closed" / "data.elsewhere").unlink)
        self.addCleanup(elsewhere.rmdir)
        self.assertNotEqual(elsewhere, folder)
        self.assertTrue(reaches(self.account, elsewhere))
        self.assertEqual(reachable_folder(folder, self.account), elsewhere)

    def test_stead_of_a_stranger(self) -> None:
        """A remembered folder that became somebody else's is not used."""
        folder = self.closed() / "data"
        theirs = reachable_folder(folder, self.account)
        os.chown(theirs, self.account.uid, self.account.gid)
        ours = reachable_folder(folder, self.account)
        for path in (folder, theirs, ours):
            self.addCleanup(path.rmdir)
        self.addCleanup((self.base / "closed" / "data.elsewhere").unlink)
        self.assertNotEqual(ours, theirs)
