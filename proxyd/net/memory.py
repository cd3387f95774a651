"""
What the C library does with memory that was freed.

By default glibc gives each buffer of 128 KiB and more back to the kernel at
once, and takes it anew for the next read. Clearing those pages was a third and
more of the CPU time of an SSH channel that carries bulk.
"""

from __future__ import annotations

import ctypes

_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3

KEPT = 8 * 1024 * 1024
"""Bytes of freed memory at most that stay with us (mallopt(3), M_TRIM_THRESHOLD)."""

OWN_MAPPING = 4 * 1024 * 1024
"""From which size on a buffer is given back when it is freed (M_MMAP_THRESHOLD)."""


def keep_freed_memory() -> bool:
    """
    Have freed buffers used again instead of being given back, for the whole process.

    @return: whether the C library can do that; glibc can
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return False
    kept = mallopt(_M_TRIM_THRESHOLD, KEPT)
    return bool(kept and mallopt(_M_MMAP_THRESHOLD, OWN_MAPPING))
