"""
The server's half of SCRAM-SHA-256, as small as a test needs it.

Written from RFC 5802 section 3, apart from the client's half, so that the two
check each other.
"""

from __future__ import annotations

import hashlib
import hmac
from base64 import b64decode, b64encode

SALT = b"0123456789abcdef"
ITERATIONS = 16


class ScramServer:
    """
    Answers one client.

    @param password: what the client must know
    @param binding: the channel binding data that the client must send with C{p=}
    """

    def __init__(self, password: bytes, binding: bytes = b"") -> None:
        self.salted = hashlib.pbkdf2_hmac("sha256", password, SALT, ITERATIONS)
        self.binding = binding
        self.header = b""
        self.bare = b""
        self.challenge = b""

    def first(self, client_first: bytes) -> bytes:
        """The server-first-message."""
        flag, authzid, self.bare = client_first.split(b",", 2)
        self.header = flag + b"," + authzid + b","
        nonce = self.bare.split(b",r=", 1)[1]
        count = str(ITERATIONS).encode()
        self.challenge = b"r=" + nonce + b"+theirs,s=" + b64encode(SALT) + b",i=" + count
        return self.challenge

    def final(self, client_final: bytes) -> bytes | None:
        """The server-final-message; None when the client's proof is wrong."""
        without_proof, proof = client_final.split(b",p=")
        signed = b",".join((self.bare, self.challenge, without_proof))
        client_key = self.hmac(self.salted, b"Client Key")
        signature = self.hmac(hashlib.sha256(client_key).digest(), signed)
        wanted = bytes(a ^ b for a, b in zip(client_key, signature, strict=True))
        bound = self.header + (self.binding if self.header.startswith(b"p=") else b"")
        if b64decode(proof) != wanted or not without_proof.startswith(b"c=" + b64encode(bound)):
            return None
        server_key = self.hmac(self.salted, b"Server Key")
        return b"v=" + b64encode(self.hmac(server_key, signed))

    @staticmethod
    def hmac(key: bytes, data: bytes) -> bytes:
        """HMAC-SHA-256."""
        return hmac.new(key, data, "sha256").digest()
