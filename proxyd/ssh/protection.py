"""
What protects the packets of an SSH connection: cipher, MAC and padding.

The two directions are L{Sealer} and L{Opener}; a L{Protection} is the pair
that one key exchange gave, in the shape in which Conch keeps it. One call a
packet: at gigabytes a second the calls cost more than the ciphers do.

Sources: RFC 4253, section 6 (packets), RFC 4344 (CTR), RFC 5647 and OpenSSH
PROTOCOL, section 1.6 (GCM), section 1.5 (MACs over the ciphertext).
"""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Sequence
from typing import Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from proxyd.errors import ProtocolError
from proxyd.ssh.algorithms import has_own_mac

PACKET_LIMIT = 256 * 1024
"""The longest packet that is taken, in bytes; OpenSSH's own limit (packet.c)."""

GCM_TAG = 16
BLOCK = 16

_DIGESTS = {b"hmac-sha2-256": "sha256", b"hmac-sha2-512": "sha512"}
_ETM = b"-etm@openssh.com"


class Sealer(Protocol):
    """Makes packets."""

    def seal(self, sequence: int, head: bytes, data: bytes | memoryview) -> Sequence[bytes]:
        """
        A packet, ready for the socket, in pieces.

        @param sequence: the packet's number, modulo 2**32
        @param head: the payload's start
        @param data: the rest of the payload
        """


class Opener(Protocol):
    """Takes packets apart."""

    skip: int
    """Where the payload begins in what L{take} gives; the padding's length is before it."""

    def take(self, sequence: int, data: bytes, start: int, end: int) -> tuple[bytes, int] | None:
        """
        The packet at the front of a part of a buffer.

        @return: the packet with its padding, and where the next one begins;
            None while it is not whole
        @raise ProtocolError: this is no packet, or somebody has changed it
        """

    def size(self, data: bytes, start: int, end: int) -> int:
        """
        How long the packet is of which L{take} has just said that it is not whole.

        @return: bytes, all told; nought while that can't be known
        """


class Protection:
    """
    Cipher and MAC of both directions, as one key exchange agreed on them.

    @ivar encBlockSize: nought until the keys are set (Conch asks for it)
    """

    def __init__(self, out_cipher: bytes, in_cipher: bytes, out_mac: bytes, in_mac: bytes) -> None:
        self.encBlockSize = 0
        self.sealer: Sealer = PlainSealer()
        self.opener: Opener = PlainOpener()
        self._out = (out_cipher, out_mac)
        self._in = (in_cipher, in_mac)

    def setKeys(
        self,
        outIV: bytes,
        outKey: bytes,
        inIV: bytes,
        inKey: bytes,
        outInteg: bytes,
        inInteg: bytes,
    ) -> None:
        """Take the keys; each is as long as any cipher needs (RFC 4253, section 7.2)."""
        self.sealer = _sealer(*self._out, outIV, outKey, outInteg)
        self.opener = _opener(*self._in, inIV, inKey, inInteg)
        self.encBlockSize = BLOCK


def _key_size(cipher: bytes) -> int:
    return int(cipher[3:6]) // 8


def _sealer(cipher: bytes, mac: bytes, iv: bytes, key: bytes, mac_key: bytes) -> Sealer:
    key = key[: _key_size(cipher)]
    if has_own_mac(cipher):
        return GcmSealer(key, iv)
    context = Cipher(algorithms.AES(key), modes.CTR(iv[:BLOCK])).encryptor()
    return CtrSealer(context, _keyed(mac, mac_key), etm=mac.endswith(_ETM))


def _opener(cipher: bytes, mac: bytes, iv: bytes, key: bytes, mac_key: bytes) -> Opener:
    key = key[: _key_size(cipher)]
    if has_own_mac(cipher):
        return GcmOpener(key, iv)
    context = Cipher(algorithms.AES(key), modes.CTR(iv[:BLOCK])).decryptor()
    keyed = _keyed(mac, mac_key)
    return EtmOpener(context, keyed) if mac.endswith(_ETM) else CtrOpener(context, keyed)


def _keyed(mac: bytes, key: bytes) -> hmac.HMAC:
    digest = _DIGESTS[mac.removesuffix(_ETM)]
    return hmac.new(key[: hashlib.new(digest).digest_size], digestmod=digest)


class _Padding:
    """
    Padding by the length it must have; random once, since it is encrypted anyhow.

    @param block: what a padded packet's length must be a multiple of
    """

    def __init__(self, block: int) -> None:
        noise = os.urandom(2 * block)
        # By the rest of the unpadded length: the padding, and its length as a byte.
        self.by_rest = []
        for rest in range(block):
            missing = -rest % block
            length = missing if missing >= 4 else missing + block
            self.by_rest.append((bytes((length,)), noise[:length]))


class GcmSealer:
    """AES-GCM: the length is in clear and authenticated."""

    def __init__(self, key: bytes, iv: bytes) -> None:
        self._encrypt = AESGCM(key).encrypt
        self._fixed = iv[:4]
        self._count = int.from_bytes(iv[4:12], "big")
        self._padding = _Padding(BLOCK).by_rest

    def seal(self, sequence: int, head: bytes, data: bytes | memoryview) -> Sequence[bytes]:
        """See L{Sealer.seal}."""
        size = 1 + len(head) + len(data)
        length, padding = self._padding[size % BLOCK]
        clear = (size + len(padding)).to_bytes(4, "big")
        nonce = self._fixed + self._count.to_bytes(8, "big")
        self._count = (self._count + 1) & 0xFFFFFFFFFFFFFFFF
        return clear, self._encrypt(nonce, b"".join((length, head, data, padding)), clear)


class GcmOpener:
    """AES-GCM, the other direction."""

    skip = 1

    def __init__(self, key: bytes, iv: bytes) -> None:
        self._decrypt = AESGCM(key).decrypt
        self._fixed = iv[:4]
        self._count = int.from_bytes(iv[4:12], "big")

    def take(self, sequence: int, data: bytes, start: int, end: int) -> tuple[bytes, int] | None:
        """See L{Opener.take}."""
        body = start + 4
        if body > end:
            return None
        clear = data[start:body]
        length = int.from_bytes(clear, "big")
        if not BLOCK <= length <= PACKET_LIMIT or length % BLOCK:
            raise ProtocolError(f"a packet of {length} bytes")
        stop = body + length + GCM_TAG
        if stop > end:
            return None
        nonce = self._fixed + self._count.to_bytes(8, "big")
        self._count = (self._count + 1) & 0xFFFFFFFFFFFFFFFF
        try:
            return self._decrypt(nonce, memoryview(data)[body:stop], clear), stop
        except InvalidTag:
            raise ProtocolError("a packet was changed on its way") from None

    def size(self, data: bytes, start: int, end: int) -> int:
        """See L{Opener.size}."""
        return _clear_size(data, start, end, GCM_TAG)


class CtrSealer:
    """
    AES-CTR with a MAC.

    @param etm: whether the MAC is over the ciphertext, the length in clear
    """

    def __init__(self, context: CipherContext, keyed: hmac.HMAC, *, etm: bool) -> None:
        self._encrypt = context.update
        self._keyed = keyed
        self._etm = etm
        self._padding = _Padding(BLOCK).by_rest

    def seal(self, sequence: int, head: bytes, data: bytes | memoryview) -> Sequence[bytes]:
        """See L{Sealer.seal}."""
        size = 1 + len(head) + len(data)
        mac = self._keyed.copy()
        mac.update(sequence.to_bytes(4, "big"))
        if self._etm:
            length, padding = self._padding[size % BLOCK]
            clear = (size + len(padding)).to_bytes(4, "big")
            sealed = self._encrypt(b"".join((length, head, data, padding)))
            mac.update(clear)
            mac.update(sealed)
            return clear, sealed, mac.digest()
        length, padding = self._padding[(size + 4) % BLOCK]
        clear = (size + len(padding)).to_bytes(4, "big")
        packet = b"".join((clear, length, head, data, padding))
        mac.update(packet)
        return self._encrypt(packet), mac.digest()


class EtmOpener:
    """AES-CTR with a MAC over the ciphertext."""

    skip = 1

    def __init__(self, context: CipherContext, keyed: hmac.HMAC) -> None:
        self._decrypt = context.update
        self._keyed = keyed
        self._tag = keyed.digest_size

    def take(self, sequence: int, data: bytes, start: int, end: int) -> tuple[bytes, int] | None:
        """See L{Opener.take}."""
        body = start + 4
        if body > end:
            return None
        length = int.from_bytes(data[start:body], "big")
        if not BLOCK <= length <= PACKET_LIMIT or length % BLOCK:
            raise ProtocolError(f"a packet of {length} bytes")
        tag = body + length
        stop = tag + self._tag
        if stop > end:
            return None
        view = memoryview(data)
        mac = self._keyed.copy()
        mac.update(sequence.to_bytes(4, "big"))
        mac.update(view[start:tag])
        if not hmac.compare_digest(mac.digest(), view[tag:stop]):
            raise ProtocolError("a packet was changed on its way")
        return self._decrypt(view[body:tag]), stop

    def size(self, data: bytes, start: int, end: int) -> int:
        """See L{Opener.size}."""
        return _clear_size(data, start, end, self._tag)


class CtrOpener:
    """AES-CTR with a MAC over the plain packet, whose length is encrypted too."""

    skip = 5

    def __init__(self, context: CipherContext, keyed: hmac.HMAC) -> None:
        self._decrypt = context.update
        self._keyed = keyed
        self._tag = keyed.digest_size
        self._first = b""

    def take(self, sequence: int, data: bytes, start: int, end: int) -> tuple[bytes, int] | None:
        """See L{Opener.take}."""
        first = self._first
        if not first:
            if start + BLOCK > end:
                return None
            self._first = first = self._decrypt(data[start : start + BLOCK])
        length = int.from_bytes(first[:4], "big")
        # One that is not whole blocks can't be told from one that was changed.
        if not BLOCK - 4 <= length <= PACKET_LIMIT or (length + 4) % BLOCK:
            raise ProtocolError("a packet was changed on its way")
        tag = start + 4 + length
        stop = tag + self._tag
        if stop > end:
            return None
        self._first = b""
        view = memoryview(data)
        packet = first + self._decrypt(view[start + BLOCK : tag])
        mac = self._keyed.copy()
        mac.update(sequence.to_bytes(4, "big"))
        mac.update(packet)
        if not hmac.compare_digest(mac.digest(), view[tag:stop]):
            raise ProtocolError("a packet was changed on its way")
        return packet, stop

    def size(self, data: bytes, start: int, end: int) -> int:
        """See L{Opener.size}."""
        first = self._first
        return 4 + int.from_bytes(first[:4], "big") + self._tag if first else 0


class PlainSealer:
    """Before the first keys."""

    def __init__(self) -> None:
        self._padding = _Padding(8).by_rest

    def seal(self, sequence: int, head: bytes, data: bytes | memoryview) -> Sequence[bytes]:
        """See L{Sealer.seal}."""
        size = 1 + len(head) + len(data)
        length, padding = self._padding[(size + 4) % 8]
        clear = (size + len(padding)).to_bytes(4, "big")
        return (b"".join((clear, length, head, data, padding)),)


class PlainOpener:
    """Before the first keys."""

    skip = 5

    def take(self, sequence: int, data: bytes, start: int, end: int) -> tuple[bytes, int] | None:
        """See L{Opener.take}."""
        if start + 4 > end:
            return None
        length = int.from_bytes(data[start : start + 4], "big")
        if not 12 <= length <= PACKET_LIMIT:
            raise ProtocolError(f"a packet of {length} bytes")
        stop = start + 4 + length
        return (data[start:stop], stop) if stop <= end else None

    def size(self, data: bytes, start: int, end: int) -> int:
        """See L{Opener.size}."""
        return _clear_size(data, start, end, 0)


def _clear_size(data: bytes, start: int, end: int, tag: int) -> int:
    """The length of a packet whose length is in clear."""
    return 4 + int.from_bytes(data[start : start + 4], "big") + tag if end - start >= 4 else 0
