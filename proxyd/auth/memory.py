"""
The tokens that are known, in memory, and the live sessions of each.

The store feeds it: a login asks nobody else. One timer watches over what
expires next, however many sessions there are.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from proxyd.config.times import DATE_AGAIN
from proxyd.interfaces import IRevocable
from proxyd.records import Change, Grant, Kind, Refusal, TokenRecord, TokenRefused

_log = Logger()

Key = tuple[str, str]

_FEW = 1000
"""Ends that nobody waits for any more, and that are not worth the work of sorting them out."""


class TokenMemory:
    """What is known of every token, and whom it let in."""

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._records: dict[Key, TokenRecord] = {}
        self._digests: dict[bytes, TokenRecord] = {}
        # Each session with the time when its own token ends.
        self._sessions: dict[Key, dict[IRevocable, float]] = {}
        self._ends: list[tuple[float, Key]] = []
        self._awaited: set[tuple[float, Key]] = set()
        self._room = _FEW
        self._call: IDelayedCall | None = None

    def __len__(self) -> int:
        return len(self._records)

    def live(self) -> int:
        """How many sessions there are."""
        return sum(map(len, self._sessions.values()))

    def has(self, key: Key) -> bool:
        """Whether somebody is in by this token."""
        return key in self._sessions

    # What the store says

    def replace(self, records: Iterable[TokenRecord]) -> None:
        """Know these and no others: sessions of the others end."""
        fresh = {record.key: record for record in records}
        gone = [key for key in self._records if key not in fresh]
        for key in gone:
            self.changed(Change(Kind.TOKEN, key, None))
        for key, record in fresh.items():
            if self._records.get(key) != record:
                self.changed(Change(Kind.TOKEN, key, record))

    def changed(self, change: Change) -> None:
        """Take note of one token's news; its sessions end if it is good no more."""
        key = change.key
        assert isinstance(key, tuple)
        record = change.record
        before = self._records.pop(key, None)
        if before is not None:
            self._digests.pop(before.digest, None)
        if record is None:
            if before is not None:
                self.end(key, "its token is known no more")
            return
        assert isinstance(record, TokenRecord)
        self._records[key] = record
        if record.digest:
            self._digests[record.digest] = record
        if record.revoked_at is not None:
            self.end(key, "its token was revoked")

    def by_digest(self, digest: bytes) -> TokenRecord | None:
        """The token whose SHA-256 this is."""
        return self._digests.get(digest)

    # Sessions

    def look(self, grant: Grant) -> None:
        """
        Done when a grant is neither revoked nor expired.

        @raise TokenRefused: it is
        """
        record = self._records.get(grant.key)
        if record is not None and record.revoked_at is not None:
            raise TokenRefused(Refusal.REVOKED)
        if grant.expires_at <= self._clock.seconds():
            raise TokenRefused(Refusal.EXPIRED)

    def attach(self, grant: Grant, session: IRevocable) -> None:
        """
        A session begins.

        @raise TokenRefused: its token was revoked, expired or forgotten meanwhile
        """
        self.look(grant)
        if not grant.issuer and grant.key not in self._records:
            raise TokenRefused(Refusal.REVOKED, "it was forgotten meanwhile")
        sessions = self._sessions.get(grant.key)
        if sessions is None:
            sessions = self._sessions[grant.key] = {}
        sessions[session] = grant.expires_at
        end = (grant.expires_at, grant.key)
        if end not in self._awaited:
            self._awaited.add(end)
            heapq.heappush(self._ends, end)
            if self._ends[0] == end:
                self._watch()
            elif len(self._ends) > self._room:
                self._forget_ends()

    def detach(self, grant: Grant, session: IRevocable) -> None:
        """A session is over."""
        sessions = self._sessions.get(grant.key)
        if sessions is not None:
            sessions.pop(session, None)
            if not sessions:
                del self._sessions[grant.key]

    def end(self, key: Key, reason: str) -> None:
        """End the sessions of one token."""
        for session in list(self._sessions.get(key, ())):
            self._revoke(session, reason)

    def end_all(self, reason: str) -> None:
        """End the sessions of all tokens."""
        for key in list(self._sessions):
            self.end(key, reason)

    def stop(self) -> None:
        """Watch no more."""
        if self._call is not None and self._call.active():
            self._call.cancel()
        self._call = None

    def _revoke(self, session: IRevocable, reason: str) -> None:
        try:
            session.revoke(reason)
        except Exception:
            # One session's trouble must not keep the others alive.
            _log.failure("a session could not be ended")

    def _watch(self) -> None:
        """Wait for what expires next."""
        self.stop()
        while self._ends and self._ends[0][1] not in self._sessions:
            self._awaited.discard(heapq.heappop(self._ends))
        if self._ends:
            left = self._ends[0][0] - self._clock.seconds()
            self._call = self._clock.callLater(min(max(left, 0.0), DATE_AGAIN), self._expire)

    def _forget_ends(self) -> None:
        """
        Keep the ends of live sessions only.

        An issuer may make a token for every login: each has an end of its own,
        which may be years ahead.
        """
        live = self._sessions
        self._awaited = {(end, key) for key in live for end in live[key].values()}
        self._ends = list(self._awaited)
        heapq.heapify(self._ends)
        self._room = 2 * len(self._ends) + _FEW
        self._watch()

    def _expire(self) -> None:
        self._call = None
        now = self._clock.seconds()
        while self._ends and self._ends[0][0] <= now:
            end = heapq.heappop(self._ends)
            self._awaited.discard(end)
            for session, expires_at in list(self._sessions.get(end[1], {}).items()):
                if expires_at <= now:
                    self._revoke(session, "its token expired")
        self._watch()
