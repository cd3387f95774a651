"""
An outside issuer: its keys, its tokens, and a server on loopback that publishes the keys.

The server can be slow, lie, send nonsense or be gone.
"""

from __future__ import annotations

import json
import secrets
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key as rsa_key
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.web.http import Request
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Site

ISSUER = "https://id.example"


class SigningKey:
    """A private key of an issuer's, and how it publishes the public half."""

    def __init__(self, algorithm: str, kid: str | None) -> None:
        self.algorithm = algorithm
        self.kid = kid
        self.private: Any
        if algorithm == "ES256":
            self.private = generate_private_key(SECP256R1())
        elif algorithm == "EdDSA":
            self.private = Ed25519PrivateKey.generate()
        else:
            self.private = rsa_key(65537, 2048)

    def published(self, **changes: object) -> dict[str, object]:
        """The public half as a JWK."""
        public = self.private.public_key()
        found = json.loads(jwt.get_algorithm_by_name(self.algorithm).to_jwk(public))
        if self.kid is not None:
            found["kid"] = self.kid
        return {**found, "use": "sig", **changes}

    def token(self, claims: dict[str, Any], **header: object) -> bytes:
        """A token that it signed."""
        said = {"kid": self.kid, **header} if self.kid is not None else dict(header)
        text = json.dumps(claims).encode()
        return jwt.PyJWS().encode(text, self.private, self.algorithm, headers=said).encode()


def claims(now: float, **changes: Any) -> dict[str, Any]:
    """Good claims; None takes one away."""
    found = {
        "iss": ISSUER,
        "aud": "proxyd",
        "sub": "ann",
        "exp": int(now) + 600,
        "nbf": int(now) - 5,
        "iat": int(now) - 5,
        "jti": secrets.token_hex(8),
        "database_id": "shop",
        **changes,
    }
    return {name: value for name, value in found.items() if value is not None}


class Publisher(Resource):
    """
    A server of keys on loopback.

    @ivar keys: what it publishes
    @ivar manner: C{well}, C{slow} (never answers), C{huge}, C{nonsense}, C{error},
        C{redirect}
    @ivar asked: how often it was asked
    """

    isLeaf = True

    def __init__(self, *keys: SigningKey) -> None:
        super().__init__()
        self.keys: list[dict[str, object]] = [key.published() for key in keys]
        self.manner = "well"
        self.asked = 0
        self._waiting: list[Request] = []
        self._port: Any = None
        self._number = 0

    async def start(self) -> None:
        """Listen; after a L{stop} on the same port."""
        endpoint = TCP4ServerEndpoint(reactor, self._number, interface="127.0.0.1")
        self._port = await endpoint.listen(Site(self))
        self._number = self._port.getHost().port

    async def stop(self) -> None:
        """Be gone."""
        for request in self._waiting:
            request.transport.abortConnection()
        self._waiting.clear()
        port, self._port = self._port, None
        if port is not None:
            await port.stopListening()

    @property
    def url(self) -> str:
        """Where the keys are."""
        return f"http://127.0.0.1:{self._number}/keys"

    def render_GET(self, request: Request) -> bytes | int:
        """Answer in the manner that was asked for."""
        self.asked += 1
        request.setHeader(b"Connection", b"close")
        if self.manner == "slow":
            self._waiting.append(request)
            request.notifyFinish().addErrback(lambda _: None)
            return NOT_DONE_YET
        if self.manner == "huge":
            return b'{"keys": [' + b" " * 1_000_000 + b"]}"
        if self.manner == "nonsense":
            return b"<html>Sign in to the wireless network</html>"
        if self.manner == "error":
            request.setResponseCode(500)
        elif self.manner == "redirect":
            request.redirect(b"http://127.0.0.1:1/keys")
        return json.dumps({"keys": self.keys}).encode()


def settled() -> Deferred[None]:
    """The reactor has gone round."""
    done: Deferred[None] = Deferred()
    reactor.callLater(0, done.callback, None)
    return done
