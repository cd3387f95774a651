"""
Which algorithms are spoken, best first, and what is said where none is common.

Left out of what Conch could do: CBC, 3DES, MD5, SHA-1 and DSS. Added to it:
AES-GCM, MACs over the ciphertext, and the strict key exchange that ends the
prefix truncation known as Terrapin (OpenSSH PROTOCOL, section 1.10).
"""

from __future__ import annotations

from collections.abc import Sequence

from twisted.conch.ssh.common import getNS

KEY_EXCHANGES = (
    b"curve25519-sha256",
    b"curve25519-sha256@libssh.org",
    b"ecdh-sha2-nistp256",
    b"ecdh-sha2-nistp384",
    b"ecdh-sha2-nistp521",
)

HOST_KEYS = (
    b"ssh-ed25519",
    b"ecdsa-sha2-nistp256",
    b"ecdsa-sha2-nistp384",
    b"ecdsa-sha2-nistp521",
    b"rsa-sha2-512",
    b"rsa-sha2-256",
)

CIPHERS = (
    # In the order of their speed: GCM needs no MAC beside it.
    b"aes128-gcm@openssh.com",
    b"aes256-gcm@openssh.com",
    b"aes128-ctr",
    b"aes192-ctr",
    b"aes256-ctr",
)

MACS = (
    b"hmac-sha2-256-etm@openssh.com",
    b"hmac-sha2-512-etm@openssh.com",
    b"hmac-sha2-256",
    b"hmac-sha2-512",
)

STRICT_CLIENT = b"kex-strict-c-v00@openssh.com"
STRICT_SERVER = b"kex-strict-s-v00@openssh.com"


def has_own_mac(cipher: bytes) -> bool:
    """Whether a cipher authenticates its packets itself, so that no MAC is agreed on."""
    return cipher.endswith(b"-gcm@openssh.com")


def host_key_type(algorithm: bytes) -> bytes:
    """The type of key that a host key algorithm signs with (RFC 8332, section 3)."""
    return b"ssh-rsa" if algorithm.startswith(b"rsa-sha2-") else algorithm


def known_first(types: Sequence[bytes]) -> list[bytes]:
    """
    The host key algorithms, those first whose keys are known of a server.

    Else a server with keys of several types would show the one that is not known.

    @param types: types of the keys that are known
    """
    known = [name for name in HOST_KEYS if host_key_type(name) in types]
    return known + [name for name in HOST_KEYS if name not in known]


def lists_of(kexinit: bytes) -> list[list[bytes]]:
    """
    The ten lists of a KEXINIT message (RFC 4253, section 7.1).

    @param kexinit: the message without its type byte
    """
    return [names.split(b",") for names in getNS(kexinit[16:], 10)[:-1]]


def mismatch(kexinit: bytes, host_keys: Sequence[bytes]) -> str:
    """
    What stands in the way of an agreement with a server, both lists named; empty: nothing.

    @param kexinit: the server's KEXINIT, without its type byte
    @param host_keys: the host key algorithms that we offer
    """
    exchanges, keys, cipher_out, cipher_in, mac_out, mac_in, *rest = lists_of(kexinit)
    compression_out, compression_in = rest[:2]
    problem = (
        _none_common("key exchange", KEY_EXCHANGES, exchanges)
        or _none_common("host key algorithm", host_keys, keys)
        or _none_common("cipher", CIPHERS, cipher_out)
        or _none_common("cipher", CIPHERS, cipher_in)
        or _none_common("compression", (b"none",), compression_out)
        or _none_common("compression", (b"none",), compression_in)
    )
    for ciphers, macs in ((cipher_out, mac_out), (cipher_in, mac_in)):
        if not problem and not has_own_mac(_first_common(CIPHERS, ciphers)):
            problem = _none_common("MAC", MACS, macs)
    return problem


def _first_common(ours: Sequence[bytes], theirs: Sequence[bytes]) -> bytes:
    return next((name for name in ours if name in theirs), b"")


def _none_common(what: str, ours: Sequence[bytes], theirs: Sequence[bytes]) -> str:
    if _first_common(ours, theirs):
        return ""
    offered = b", ".join(theirs).decode("ascii", "backslashreplace")
    return f"no common {what}: it offers {offered}; we speak {b', '.join(ours).decode()}"
