"""
Compression of one direction of one stream, where it pays.

Each stream has a context of its own: one that users share would tell the one
what the other sends (CRIME, CVE-2012-4929).
"""

from __future__ import annotations

import zlib

from proxyd.errors import ProtocolError

_SAMPLE = 16 * 1024
_GAIN = 0.9
_LEVEL = 1
_WINDOW_BITS = -13
"""Raw deflate with a window of 8 KiB: a stream's context costs about 48 KiB."""

# What begins like this is encrypted or compressed already.
_HOPELESS = (
    b"\x16\x03",
    b"SSH-",
    b"\x1f\x8b",
    b"\x28\xb5\x2f\xfd",
    b"PK\x03\x04",
    b"\x89PNG",
    b"\xff\xd8",
)


class Compressor:
    """
    Compresses what is sent on one stream, unless the first bytes show that it is of no use.

    @ivar useful: None until that is known
    """

    __slots__ = ("_deflate", "_seen", "useful")

    def __init__(self) -> None:
        self.useful: bool | None = None
        self._deflate = zlib.compressobj(_LEVEL, zlib.DEFLATED, _WINDOW_BITS, 6)
        self._seen = 0

    def compress(self, data: bytes) -> bytes | None:
        """What to send in place of C{data}; None: send it as it is, now and ever after."""
        if self.useful is False:
            return None
        if not self._seen and data.startswith(_HOPELESS):
            self.useful = False
            return None
        if self.useful is None:
            # Judged by a trial of its own: once begun, the stream's context has to go on.
            trial = zlib.compress(data[:_SAMPLE], _LEVEL)
            if len(trial) > _GAIN * len(data[:_SAMPLE]) and len(data) >= 64:
                self.useful = False
                return None
            if self._seen + len(data) >= _SAMPLE:
                self.useful = True
        self._seen += len(data)
        return self._deflate.compress(data) + self._deflate.flush(zlib.Z_SYNC_FLUSH)


class Decompressor:
    """Undoes L{Compressor} on the other side."""

    __slots__ = ("_inflate",)

    def __init__(self) -> None:
        self._inflate = zlib.decompressobj(_WINDOW_BITS)

    def decompress(self, data: bytes | memoryview, limit: int) -> bytes:
        """
        What was sent.

        @param limit: more bytes than this are a fault of the peer's
        @raise ProtocolError: they are no such bytes, or too many
        """
        try:
            plain = self._inflate.decompress(data, limit + 1)
        except zlib.error:
            raise ProtocolError("data that can't be decompressed") from None
        if len(plain) > limit or self._inflate.unconsumed_tail or self._inflate.unused_data:
            raise ProtocolError("more data than there was credit for")
        return plain
