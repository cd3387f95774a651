"""
The mask of a WebSocket's client (RFC 6455 section 5.3), put on and taken off in place.

By autobahn's masker in C, without the four copies that its Python part makes.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from autobahn.websocket import xormasker as _slow

_ffi: Any = None
_lib: Any = None
try:
    _native: Any = import_module("_nvx_xormasker")
    _ffi, _lib = _native.ffi, _native.lib
except ImportError:
    pass  # not built for this machine

_FEW = 256
"""So many bytes are masked sooner by one big number than by a call of C."""

_SSE2 = 2


def mask(data: bytearray | memoryview, key: bytes) -> None:
    """
    Put the mask on bytes, or take it off.

    @param data: changed in place
    @param key: four bytes
    """
    size = len(data)
    if size <= _FEW:
        keys = (key * (size // 4 + 1))[:size]
        masked = int.from_bytes(data, "little") ^ int.from_bytes(keys, "little")
        data[:] = masked.to_bytes(size, "little")
    elif _lib is None:
        masker: Any = _slow.create_xor_masker(key, size)  # type: ignore[attr-defined, no-untyped-call]
        data[:] = masker.process(bytes(data))
    else:
        _mask_in_c(data, key)


def _mask_in_c(data: bytearray | memoryview, key: bytes) -> None:
    masker: Any = _lib.nvx_xormask_new(_ffi.from_buffer("uint8_t[]", key))
    try:
        _lib.nvx_xormask_set_impl(masker, _SSE2)
        with _ffi.from_buffer("uint8_t[]", data, require_writable=True) as there:
            _lib.nvx_xormask_process(masker, there, len(data))
    finally:
        _lib.nvx_xormask_free(masker)
