"""
Which server has which host key: files as OpenSSH has them, read and added to.

Understood is all of sshd(8), section "SSH_KNOWN_HOSTS FILE FORMAT": several
names, wildcards, negation, C{[host]:port}, hashed names, C{@revoked}. Servers
that are only known by C{@cert-authority} are told so: host certificates can't
be checked here.
"""

from __future__ import annotations

import binascii
import hashlib
import hmac
import os
import re
from base64 import b64decode, b64encode
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from twisted.conch.ssh.common import getNS

DEFAULT_PORT = 22


class HostKeyRefused(Exception):
    """A server's host key can't be trusted; the text says why, and what to do."""


@dataclass(frozen=True, slots=True)
class Entry:
    """
    One line of a file.

    @param names: its first field, as it stands there
    @param marker: C{@revoked}, C{@cert-authority}, or nothing
    @param blob: the key, as SSH sends it
    """

    line: int
    names: str
    marker: str
    blob: bytes

    @property
    def key_type(self) -> bytes:
        """C{ssh-ed25519} and so on."""
        return type_of(self.blob)

    def is_for(self, name: str) -> bool:
        """
        Whether this line speaks of a server.

        @param name: as L{name_in_file} gives it
        """
        if self.names.startswith("|1|"):
            return _hashed_matches(self.names, name)
        found = False
        for pattern in self.names.lower().split(","):
            negated = pattern.startswith("!")
            if _glob(pattern[negated:]).fullmatch(name):
                if negated:
                    return False
                found = True
        return found


class HostKeys:
    """
    One file of known servers.

    @param path: where it is; it may be absent
    @param learn: whether a server that the file does not know is accepted and
        written down; one that it knows with another key never is
    """

    def __init__(self, path: Path, *, learn: bool) -> None:
        self.path = path
        self.learn = learn
        self._entries: list[Entry] = []

    def read(self) -> None:
        """
        Read the file as it is now. Lines that can't be understood are passed over.

        @raise OSError: it is there but can't be read
        """
        try:
            text = self.path.read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            text = ""
        entries = (_entry(number, line) for number, line in enumerate(text.splitlines(), 1))
        self._entries = [entry for entry in entries if entry is not None]

    def types(self, host: str, port: int) -> list[bytes]:
        """The types of the keys by which a server is known."""
        return [entry.key_type for entry in self._of(host, port) if not entry.marker]

    def check(self, host: str, port: int, blob: bytes) -> bool:
        """
        Judge the key that a server has shown.

        @param host: the name by which it is known: a host name or an instance
        @return: whether it was seen for the first time, and has been written down
        @raise HostKeyRefused: it is revoked, another than is known, or not known
        @raise OSError: it could not be written down
        """
        if self._knows(host, port, blob):
            return False
        name = name_in_file(host, port)
        if not self.learn:
            shown = _in_words(blob)
            raise HostKeyRefused(
                f"{name} is not in {self.path}: it shows {shown}; if that is right, add it "
                f"(ssh-keyscan -p {port} HOST), or leave known_hosts out"
            )
        # Another upstream may have learnt it meanwhile, into the same file.
        self.read()
        if self._knows(host, port, blob):
            return False
        self._write_down(name, blob)
        return True

    def _knows(self, host: str, port: int, blob: bytes) -> bool:
        """
        Whether a server is known by this key; if not, it is not known at all.

        @raise HostKeyRefused: it is revoked, another than is known, or can't be checked
        """
        name = name_in_file(host, port)
        ours = self._of(host, port)
        shown = _in_words(blob)
        for entry in ours:
            if entry.marker == "@revoked" and entry.blob == blob:
                raise HostKeyRefused(
                    f"the host key of {name} ({shown}) is revoked by {self.path}:{entry.line}"
                )
        plain = [entry for entry in ours if not entry.marker]
        if any(hmac.compare_digest(entry.blob, blob) for entry in plain):
            return True
        if plain:
            same_type = [one for one in plain if one.key_type == type_of(blob)]
            entry = (same_type or plain)[0]
            raise HostKeyRefused(
                f"the host key of {name} is not the one that is known: it shows {shown}, "
                f"{self.path}:{entry.line} has {_in_words(entry.blob)}. Somebody may be in "
                "between; if the server was set up anew, remove that line"
            )
        if any(entry.marker == "@cert-authority" for entry in ours):
            raise HostKeyRefused(
                f"{name} is known by a certificate authority only ({self.path}), and host "
                f"certificates can't be checked here: add a line for its key, {shown}"
            )
        return False

    def _of(self, host: str, port: int) -> list[Entry]:
        """The lines about a server: by its name with the port, or else by its name alone."""
        name = name_in_file(host, port)
        found = [entry for entry in self._entries if entry.is_for(name)]
        if port != DEFAULT_PORT and not any(not entry.marker for entry in found):
            # So does OpenSSH (sshconnect.c, "checking without port identifier").
            bare = host.lower()
            found += [entry for entry in self._entries if entry.is_for(bare)]
        return found

    def _write_down(self, name: str, blob: bytes) -> None:
        line = f"{name} {type_of(blob).decode()} {b64encode(blob).decode()}\n"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(file, line.encode())
            os.fsync(file)
        finally:
            os.close(file)
        self.read()


def name_in_file(host: str, port: int) -> str:
    """A server's name as a line of the file has it: with the port where it is not 22."""
    host = host.lower()
    return host if port == DEFAULT_PORT else f"[{host}]:{port}"


def type_of(blob: bytes) -> bytes:
    """The type that a key's blob says it has."""
    name: bytes = getNS(blob)[0]
    return name


def fingerprint(blob: bytes) -> str:
    """A key's fingerprint as ssh-keygen(1) shows it."""
    digest = b64encode(hashlib.sha256(blob).digest()).decode()
    return f"SHA256:{digest.rstrip('=')}"


def _in_words(blob: bytes) -> str:
    return f"{type_of(blob).decode('ascii', 'replace')} {fingerprint(blob)}"


def _entry(number: int, line: str) -> Entry | None:
    words = line.split()
    if not words or words[0].startswith("#"):
        return None
    marker = words.pop(0) if words[0].startswith("@") else ""
    if len(words) < 3 or marker not in ("", "@revoked", "@cert-authority"):
        return None
    try:
        blob = b64decode(words[2], validate=True)
    except (binascii.Error, ValueError):
        return None
    if len(blob) < 8 or type_of(blob) != words[1].encode():
        return None
    return Entry(number, words[0], marker, blob)


def _hashed_matches(field: str, name: str) -> bool:
    """Whether a hashed name (C{|1|salt|hash}) is this one's."""
    try:
        salt, digest = (b64decode(part, validate=True) for part in field.split("|")[2:4])
    except (binascii.Error, ValueError):
        return False
    return hmac.compare_digest(hmac.digest(salt, name.encode(), "sha1"), digest)


@lru_cache(maxsize=1024)
def _glob(pattern: str) -> re.Pattern[str]:
    """A pattern of ssh_config(5): C{*} and C{?} are wild, and nothing else is."""
    wild: dict[str, str] = {"*": ".*", "?": "."}
    return re.compile("".join(wild.get(sign) or re.escape(sign) for sign in pattern), re.DOTALL)
