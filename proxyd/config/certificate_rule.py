"""
C{cert_map}: which certificates stand for which users.

The words are those of pg_ident.conf where they could be: a pattern that begins
with C{/} is a regular expression, and C{\\1} in the user is its first group.
Else a pattern is one as in C{users}.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from proxyd.config.section import Section

PARTS = ("cn", "dn", "san")
"""What of a certificate is compared: common name, whole subject, alternative names."""

_GROUP = "\\1"


@dataclass(frozen=True, slots=True)
class CertificateRule:
    """
    Certificates of one kind, and the user that their owners may be.

    @param part: one of L{PARTS}
    @param pattern: what the certificate must say there
    @param user: the user's name, or a pattern
    """

    part: str
    pattern: str
    user: str

    def lets(self, names: Iterable[str], user: str) -> bool:
        """
        Whether somebody with one of these names may log in as a user.

        @param names: what the certificate says in this part
        """
        return any(self._lets(name, user) for name in names)

    def _lets(self, name: str, user: str) -> bool:
        if not name.isprintable():
            # A line end behind a name would get past the $ of an expression.
            return False
        if not self.pattern.startswith("/"):
            return fnmatchcase(name, self.pattern) and fnmatchcase(user, self.user)
        found = re.search(self.pattern[1:], name)
        if found is None:
            return False
        if _GROUP in self.user:
            # What a certificate says is never a pattern.
            return user == self.user.replace(_GROUP, found[1] or "", 1)
        return fnmatchcase(user, self.user)


OWN_NAME = (CertificateRule("cn", "/^(.*)$", _GROUP),)
"""Without a C{cert_map}: the common name is the user's."""


def read_certificate_rules(section: Section) -> tuple[CertificateRule, ...]:
    """The key C{cert_map} of a connection; nothing where it is absent."""
    rules = section.sections("cert_map")
    if rules == ():
        section.wrong("cert_map", "an empty list lets nobody in: leave it out for the common name")
    return tuple(rule for one in rules or () if (rule := _read_rule(one)) is not None)


def _read_rule(section: Section) -> CertificateRule | None:
    given = [part for part in PARTS if section.has(part)]
    patterns = {part: section.text(part) for part in PARTS}
    user = section.text("user")
    section.close()
    if len(given) != 1:
        section.wrong("", "must have one of cn, dn and san")
        return None
    if not section.has("user"):
        section.wrong("", "does not say which user: user: NAME")
    part = given[0]
    pattern = patterns[part]
    if pattern is None or user is None:
        return None
    groups = 0
    if pattern.startswith("/"):
        try:
            groups = re.compile(pattern[1:]).groups
        except re.error as error:
            section.wrong(part, f"is no regular expression: {error}")
            return None
    if _GROUP in user and not groups:
        section.wrong("user", f"{_GROUP} is the group of a regular expression: {part}: '/^(.*)$'")
        return None
    return CertificateRule(part, pattern, user)
