"""
What stands still while the sides change: the settings, the PostgreSQL and the certificate.
"""

from __future__ import annotations

import datetime
import ipaddress
import os
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from bench.database import Database
from bench.peers import Peer
from demo.ground import Account


@dataclass(frozen=True, slots=True)
class Settings:
    """
    How long and how much.

    @param rounds: pairs of runs for each name
    @param seconds: of one run under load
    @param copy_bytes: how much one COPY moves, in bytes
    @param idle_counts: at how many idle clients memory is read, rising
    @param budget: seconds of the whole run. They are shared out among the cases: after its
        share a case begins no further round, once it has one
    @param noise: pgbouncer stands on both sides: the ratios show the measurement's own noise
    """

    rounds: int = 5
    seconds: int = 3
    copy_bytes: int = 200_000_000
    idle_counts: tuple[int, ...] = (1000, 5000)
    budget: float = 400.0
    noise: bool = False


@dataclass(frozen=True, slots=True)
class Scene:
    """
    One run of the benchmarks.

    @param folder: a temporary folder for logs, configurations and certificates
    @param account: who runs what must not run as root
    @param pgbouncer: the peer; None: it is missing
    @param ends: the moment after which no further round begins, on the monotonic clock
    """

    settings: Settings
    folder: Path
    database: Database
    account: Account
    pgbouncer: Peer | None
    ends: float

    @property
    def certificate(self) -> Path:
        """The certificate that every side shows to TLS clients, PEM."""
        return self.folder / "certificate.pem"

    @property
    def key(self) -> Path:
        """Its private key, PEM."""
        return self.folder / "key.pem"

    def is_late(self) -> bool:
        """Whether the time is used up, so that no further round should begin."""
        return time.monotonic() > self.ends

    def for_one_of(self, cases: int) -> Scene:
        """The same for the next of so many cases, with its share of the time that is left."""
        now = time.monotonic()
        return replace(self, ends=now + max(0.0, self.ends - now) / cases)

    def make_folder(self, name: str) -> Path:
        """A new folder for one program, which the unprivileged account may enter."""
        folder = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=self.folder))
        folder.chmod(0o755)
        return folder

    def give(self, path: Path) -> None:
        """Make a file the unprivileged account's own, readable for nobody else."""
        path.chmod(0o600)
        if self.account.is_other:
            os.chown(path, self.account.uid, self.account.gid)


def write_certificate(scene: Scene) -> None:
    """Make the one certificate of the run: self-signed, ECDSA P-256, for 127.0.0.1."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "proxyd benchmark")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=2))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]),
            critical=False,
        )
        .sign(key, hashes.SHA256())
    )
    scene.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    scene.key.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    for path in (scene.certificate, scene.key):
        scene.give(path)
