"""Tests for L{proxyd.ssh.login}: against a real OpenSSH server."""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from proxyd.ssh.identities import Identity, read_key
from proxyd.ssh.login import Login
from tests.ssh.scene import SshCase
from tests.support.sshd import make_key, shared_keys


class LoginTests(SshCase):
    """Every kind of key lets us in; where none does, one line says what was tried."""

    def keys(self, *kinds: str) -> list[Path]:
        """New private keys."""
        folder = Path(self.mktemp())
        folder.mkdir()
        sizes = {"rsa": ("-b", "2048")}
        return [make_key(folder / kind, "-t", kind, *sizes.get(kind, ())) for kind in kinds]

    def identities(self, *keys: Path) -> list[Identity]:
        """What they are to a login."""
        return [identity for key in keys for identity in read_key(key, None)]

    async def test_kinds(self) -> None:
        """ed25519, ecdsa, and RSA with SHA-2, since no server takes SHA-1 any more."""
        keys = self.keys("ed25519", "ecdsa", "rsa")
        server = self.sshd(keys=[key.with_suffix(".pub") for key in keys])
        for key in keys:
            await self.connect(server, self.account(server, identities=self.identities(key)))
        self.assertIn("RSA", server.log_text())

    async def test_second_key(self) -> None:
        """Keys are tried in order, each once."""
        keys = self.keys("ed25519", "ecdsa", "rsa")
        server = self.sshd(keys=[keys[-1].with_suffix(".pub")])
        await self.connect(server, self.account(server, identities=self.identities(*keys)))

    async def test_refused(self) -> None:
        """No key is good: the user, the keys and nothing more; no storm of tries."""
        keys = self.keys("ed25519", "rsa")
        server = self.sshd("KbdInteractiveAuthentication yes", "PasswordAuthentication yes")
        account = self.account(server, identities=self.identities(*keys))
        why = await self.refused(self.connect(server, account))
        self.assertIn(f"login as {server.user} refused; tried {keys[0]}, {keys[1]}", why)
        self.assertNotIn("Too many authentication failures", server.log_text())

    async def test_no_public_keys(self) -> None:
        """A server that wants a password is told from one that refuses the key."""
        server = self.sshd(
            "PubkeyAuthentication no", "PasswordAuthentication yes", "AuthenticationMethods any"
        )
        why = await self.refused(self.connect(server))
        self.assertIn("we log in by key only", why)

    async def test_no_keys(self) -> None:
        """Without a key there is nothing to try."""
        server = self.sshd()
        why = await self.refused(self.connect(server, self.account(server, identities=[])))
        self.assertIn("none", why)

    async def test_two_keys_wanted(self) -> None:
        """A server that wants two keys gets two."""
        keys = self.keys("ed25519", "ecdsa")
        server = self.sshd(
            "AuthenticationMethods publickey,publickey",
            keys=[key.with_suffix(".pub") for key in keys],
        )
        await self.connect(server, self.account(server, identities=self.identities(*keys)))
        account = self.account(server, identities=self.identities(keys[0]))
        await self.refused(self.connect(server, account))

    async def test_banner(self) -> None:
        """A banner is for people."""
        text = Path(self.mktemp()).absolute()
        text.write_text("authorised persons only\n")
        text.chmod(0o644)
        await self.connect(self.sshd(f"Banner {text}"))


class Wire:
    """The transport of a login, as far as it needs one."""

    def __init__(self, accepted: bytes) -> None:
        self.peerExtensions = {b"server-sig-algs": accepted}
        self.sessionID = b"session"
        self.sent: list[tuple[int, bytes]] = []

    def sendPacket(self, kind: int, payload: bytes) -> None:
        """Note it."""
        self.sent.append((kind, payload))


class OfferTests(SynchronousTestCase):
    """Which keys are offered to whom."""

    def login(self, accepted: bytes, *names: str) -> tuple[Wire, list[str]]:
        """Begin a login with the shared host keys as ours; what is sent, and why it ends."""
        wire, refused = Wire(accepted), []
        identities = [one for name in names for one in read_key(shared_keys() / name, None)]
        login = Login("ann", identities, lambda: None, refused.append)
        login.transport = wire  # type: ignore[assignment]
        login.serviceStarted()
        return wire, refused

    def test_kind_not_taken(self) -> None:
        """A kind of key that the server does not take is not offered, and that is said."""
        wire, refused = self.login(b"ssh-ed25519", "host_ecdsa")
        self.assertEqual(wire.sent, [])
        self.assertIn("a kind of key that it does not take", refused[0])

    def test_signature(self) -> None:
        """RSA signs as the server takes it."""
        for accepted, algorithm in (
            (b"ssh-rsa,rsa-sha2-256", b"rsa-sha2-256"),
            (b"rsa-sha2-256,rsa-sha2-512", b"rsa-sha2-512"),
            (b"", b"rsa-sha2-512"),
        ):
            wire, _ = self.login(accepted, "host_rsa")
            ((kind, request),) = wire.sent
            self.assertEqual(kind, 50)
            self.assertEqual(request.count(algorithm), 2)

    def test_next_is_asked(self) -> None:
        """Keys that are not taken make way for one that is."""
        wire, refused = self.login(b"ssh-ed25519", "host_rsa", "host_ecdsa", "client")
        self.assertEqual((len(wire.sent), refused), (1, []))
