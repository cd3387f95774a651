"""Tests for L{proxyd.ctl.live}."""

from __future__ import annotations

import datetime
import os
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from twisted.trial.unittest import SynchronousTestCase

from proxyd.config.agents_model import Agents, AgentTls
from proxyd.config.api_model import Api, ApiTls
from proxyd.config.model import Config, Connection, Dsn, Postgres, PostgresTls, State
from proxyd.config.secrets import Secret
from proxyd.config.token_settings import Issuer, TokenSettings
from proxyd.config.ways import Account, Aws, Socks5, SocksTls, Ssh, Upstream
from proxyd.ctl.live import Finding, check_all, check_files
from proxyd.target import Target
from tests.net.authority import made, revocation_list

CONNECTION = Connection("a", Dsn((Target("db", 5432),), "svc"))
"""A connection that names no file and no variable."""


class LiveTests(SynchronousTestCase):
    """What a configuration names, looked at."""

    def setUp(self) -> None:
        """An empty folder."""
        self.folder = Path(self.mktemp())
        self.folder.mkdir(parents=True)

    def file(self, name: str, text: str, mode: int = 0o600) -> str:
        """A file of the folder."""
        path = self.folder / name
        path.write_text(text)
        path.chmod(mode)
        return str(path)

    def certificate(self, name: str) -> tuple[str, str]:
        """The paths of a new certificate and its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        start = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(subject)
            .public_key(key.public_key())
            .serial_number(1)
            .not_valid_before(start)
            .not_valid_after(start + datetime.timedelta(days=36500))
            .sign(key, hashes.SHA256())
        )
        pem = serialization.Encoding.PEM
        return (
            self.file(f"{name}.pem", certificate.public_bytes(pem).decode()),
            self.file(
                f"{name}.key",
                key.private_bytes(
                    pem,
                    serialization.PrivateFormat.PKCS8,
                    serialization.NoEncryption(),
                ).decode(),
            ),
        )

    def found(self, connection: Connection = CONNECTION) -> list[str]:
        """What is found of one connection, without the folder's name."""
        return self.told(Config(connections={"a": connection}))

    def tls(self, tls: PostgresTls) -> list[str]:
        """What is found of the listener's TLS."""
        return self.told(Config(postgres=Postgres(tls=tls)))

    def told(self, config: Config) -> list[str]:
        """Every finding in a line, failures with an exclamation mark."""
        return [
            f"{'!' if finding.failed else ''}{finding}".replace(f"{self.folder}/", "")
            for finding in check_files(config)
        ]

    def test_good(self) -> None:
        """What is as it should be gives no finding."""
        certificate, key = self.certificate("a")
        secret = Secret(f"file:{self.file('pw', 'x')}")
        said = {"sslcert": certificate, "sslkey": key, "sslrootcert": certificate}
        config = Config(
            state=State(key=secret),
            postgres=Postgres(tls=PostgresTls("verify-full", certificate, key, certificate)),
            connections={
                "a": replace(
                    CONNECTION, password=secret, dsn=replace(CONNECTION.dsn, parameters=said)
                )
            },
        )
        self.assertEqual(self.told(config), [])
        system = replace(CONNECTION.dsn, parameters={"sslrootcert": "system"})
        self.assertEqual(self.found(replace(CONNECTION, dsn=system)), [])

    def test_secrets(self) -> None:
        """Variables that are not set, files that can't be read, secrets that are empty."""
        for secret, told in (
            (Secret("env:NO", {}), "variable NO is not set: set it, or change env:NO"),
            (Secret("env:NO", {"NO": ""}), "env:NO is empty"),
            (Secret(f"file:{self.folder}/no"), "secret file no: No such file or directory"),
            (Secret(f"file:{self.file('empty', '')}"), "file:empty is empty"),
        ):
            self.assertEqual(
                self.found(replace(CONNECTION, password=secret)),
                [f"!connections.a.password: {told}"],
            )
            self.assertEqual(self.told(Config(state=State(key=secret))), [f"!state_key: {told}"])

    def test_readable_by_others(self) -> None:
        """A secret's file that anyone can read is warned of."""
        secret = Secret(f"file:{self.file('pw', 'x', 0o644)}")
        self.assertEqual(
            self.found(replace(CONNECTION, password=secret)),
            [("connections.a.password: pw can be read by anyone on this machine, "
              "but it is a secret")],
        )  # fmt: skip

    def test_plain_password(self) -> None:
        """A password in a configuration that anyone can read is warned of, and never told."""
        path = self.file("proxyd.yaml", "", 0o644)
        connection = replace(CONNECTION, password=Secret("hunter2"))
        config = Config(path=path, connections={"a": connection})
        (told,) = self.told(config)
        self.assertIn("proxyd.yaml can be read by anyone", told)
        self.assertNotIn("hunter2", told)
        self.file("proxyd.yaml", "", 0o600)
        self.assertEqual(self.told(config), [])
        self.assertEqual(self.told(replace(config, path=None)), [])

    def test_certificates(self) -> None:
        """Files that are missing, no PEM, or don't belong together; a key anyone can read."""
        certificate, key = self.certificate("a")
        _, other = self.certificate("b")
        junk = self.file("junk", "x")
        missing = str(self.folder / "no")
        self.assertEqual(
            self.tls(PostgresTls("prefer", missing, missing, missing)),
            [
                "!postgres.tls.certificate: no: No such file or directory",
                "!postgres.tls.key: no: No such file or directory",
                "!postgres.tls.client_ca: no: No such file or directory",
            ],
        )
        for pair in ((certificate, other), (junk, key), (certificate, junk)):
            (told,) = self.tls(PostgresTls("prefer", *pair))
            self.assertIn("are no PEM certificate and its key", told)
        self.assertEqual(
            self.tls(PostgresTls("prefer", certificate, key, junk)),
            ["!postgres.tls.client_ca: junk holds no PEM certificates"],
        )
        Path(key).chmod(0o644)
        (told,) = self.tls(PostgresTls("prefer", certificate, key))
        self.assertIn("a.key can be read by anyone", told)

    def test_key_with_password(self) -> None:
        """A key that has a password is told, and nobody is asked for it."""
        certificate, _ = self.certificate("a")
        locked = (
            ec.generate_private_key(ec.SECP256R1())
            .private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.BestAvailableEncryption(b"x"),
            )
            .decode()
        )
        (told,) = self.tls(PostgresTls("prefer", certificate, self.file("locked", locked)))
        self.assertIn("without a password", told)

    def test_certificates_of_a_dsn(self) -> None:
        """The files that a DSN names are looked at too."""
        missing = str(self.folder / "no")
        said = {"sslcert": missing, "sslkey": missing, "sslrootcert": missing}
        connection = replace(CONNECTION, dsn=replace(CONNECTION.dsn, parameters=said))
        self.assertEqual(
            self.found(connection),
            [
                "!connections.a.dsn.sslcert: no: No such file or directory",
                "!connections.a.dsn.sslkey: no: No such file or directory",
                "!connections.a.dsn: sslrootcert: no: No such file or directory",
            ],
        )

    def test_all(self) -> None:
        """The whole look around has what the files gave; where nothing is named, nothing."""
        self.assertEqual(check_all(Config()), [])
        config = Config(state=State(key=Secret("env:NO", {})))
        self.assertEqual(check_all(config), check_files(config))
        self.assertEqual(len(check_all(config)), 1)

    def test_finding(self) -> None:
        """A finding reads as where and what."""
        self.assertEqual(str(Finding(True, "a.b", "is wrong")), "a.b: is wrong")

    def test_revocation_lists(self) -> None:
        """A list that can't be read, is none, or is outdated keeps everybody out."""
        ca = made("test CA", ca=True)
        good = self.file("good.pem", revocation_list(ca).decode())
        old = self.file("old.pem", revocation_list(ca, ends=-timedelta(days=1)).decode())
        none = self.file("none.pem", ca.pem.decode())
        for path, what in ((good, ""), (old, "outdated"), (none, "is none"), ("/none", "No such")):
            dsn = replace(CONNECTION.dsn, parameters={"sslcrl": path})
            connections = {"a": replace(CONNECTION, dsn=dsn)}
            tls = PostgresTls("verify-full", client_crl=path)
            config = Config(connections=connections, postgres=Postgres(tls=tls))
            found = {one.where: one.what for one in check_files(config)}
            places = {"connections.a.dsn: sslcrl", "postgres.tls.client_crl"} if what else set()
            self.assertEqual(set(found), places)
            for text in found.values():
                self.assertIn(what, text)

    def test_api(self) -> None:
        """Its tokens are there and can't be guessed, its certificate and key belong together."""
        certificate, key = self.certificate("api")
        token = Secret(f"file:{self.file('token', 'a-token-that-is-long')}")
        good = Api(tls=ApiTls(certificate, key), admin_token=token, metrics_token=token)
        self.assertEqual(check_files(Config(api=good)), [])
        bad = Api(
            tls=ApiTls(certificate, self.certificate("other")[1]),
            admin_token=Secret(f"file:{self.file('short', 'hunter2')}"),
            metrics_token=Secret("file:/none"),
        )
        found = {one.where: one for one in check_files(Config(api=bad))}
        self.assertEqual(
            set(found), {"api.tls.certificate", "api.admin_token", "api.metrics_token"}
        )
        self.assertTrue(all(one.failed for one in found.values()))
        self.assertNotIn("hunter2", "".join(map(str, found.values())))

    def test_tokens(self) -> None:
        """The secrets of tokens, and the certificates of their issuers."""
        good = Secret(f"file:{self.file('jwt', 'x' * 32)}")
        certificate, _ = self.certificate("ca")
        issuer = Issuer("i", ("a",), "https://h/k", ca=certificate)
        self.assertEqual(
            self.told(Config(tokens=TokenSettings(good, (good,), issuers=(issuer,)))), []
        )
        bad = TokenSettings(
            Secret("env:NO", {}),
            (good, Secret("env:NO", {"NO": ""})),
            issuers=(issuer, replace(issuer, ca=str(self.folder / "no"))),
        )
        self.assertEqual(
            self.told(Config(tokens=bad)),
            [
                "!tokens.secret: variable NO is not set: set it, or change env:NO",
                "!tokens.previous_secrets[1]: env:NO is empty",
                "!tokens.issuers[1].ca: no: No such file or directory",
            ],
        )
        path = self.file("proxyd.yaml", "", 0o644)
        (told,) = self.told(Config(path=path, tokens=TokenSettings(Secret("x" * 32))))
        self.assertIn("proxyd.yaml can be read by anyone", told)

    def test_ways(self) -> None:
        """What SOCKS5, agents and upstreams name."""
        certificate, _ = self.certificate("a")
        junk, missing = self.file("junk", "x"), str(self.folder / "no")
        gone = Secret("env:NO", {})
        empty = self.file("config", "")
        for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
            before = os.environ.get(name)
            os.environ[name] = empty
            if before is None:
                self.addCleanup(os.environ.pop, name, None)
            else:
                self.addCleanup(os.environ.__setitem__, name, before)
        config = Config(
            socks5=Socks5((), (Account("ann", gone),), SocksTls(certificate, junk)),
            agents=Agents(tls=AgentTls("require", certificate, junk)),
            upstreams={
                "dev": Upstream(
                    "dev",
                    Ssh("ops", missing, gone, known_hosts=missing),
                    Aws(profile="prod"),
                    instances=("i-1",),
                ),
                "keys": Upstream("keys", aws=Aws(region="r", access_key=gone, secret_key=gone)),
            },
        )
        told = self.told(config)
        self.assertTrue(all(line.startswith("!") for line in told), told)
        self.assertEqual(
            [line[1:].partition(": ")[0] for line in told],
            [
                "socks5.auth (ann)",
                "socks5.tls.certificate",
                "agents.tls.certificate",
                "upstreams.dev.ssh.key",
                "upstreams.dev.ssh.known_hosts",
                "upstreams.dev.ssh.passphrase",
                "upstreams.dev.aws.profile",
                "upstreams.keys.aws.access_key",
                "upstreams.keys.aws.secret_key",
            ],
        )
        private = self.file("id", "x", 0o644)
        ssh = Upstream("jump", Ssh("ops", private), hosts=(Target("h", 22),))
        (line,) = self.told(Config(upstreams={"jump": ssh}))
        self.assertIn("id can be read by anyone on this machine, but it is a private key", line)
