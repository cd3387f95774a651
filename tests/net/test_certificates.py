"""Tests for L{proxyd.net.certificates}."""

from __future__ import annotations

import os
import shutil
import stat
from datetime import UTC, datetime, timedelta

from OpenSSL import SSL
from twisted.internet import reactor
from twisted.internet.defer import gatherResults
from twisted.internet.task import Clock
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SynchronousTestCase, TestCase

from proxyd.config.model import State
from proxyd.errors import StartError
from proxyd.net.certificates import own_certificate, state_directory
from proxyd.net.pem import load_certificates, load_key
from proxyd.net.tls import certificate_names, client_context, server_context, verify_server
from tests.net.authority import made, put
from tests.net.test_tls import Session

DAY = 86400.0
FILES = ["ca.key", "ca.pem", "proxyd.key", "proxyd.pem"]


class StateDirectoryTests(SynchronousTestCase):
    """What proxyd remembers is where systemd, the configuration or the default says."""

    def test_environment(self) -> None:
        """systemd's folder, the first of several, comes first."""
        state = State(url="sqlite:///srv/p/state.sqlite")
        for value in ("/var/lib/proxyd", "/var/lib/proxyd:/var/lib/other"):
            self.assertEqual(state_directory(state, {"STATE_DIRECTORY": value}), "/var/lib/proxyd")

    def test_sqlite(self) -> None:
        """Else the folder of the SQLite file."""
        for url in ("sqlite:///srv/p/state.sqlite", "sqlite:////srv/p/state.sqlite"):
            self.assertEqual(state_directory(State(url=url), {}), "/srv/p")

    def test_default(self) -> None:
        """Else a folder where proxyd was started."""
        expected = os.path.join(os.getcwd(), ".proxyd")
        for url in (None, "postgresql://db.example/state"):
            self.assertEqual(state_directory(State(url=url), {}), expected)


class OwnCertificateTests(SynchronousTestCase):
    """proxyd makes itself a certificate that clients with its CA can verify."""

    def setUp(self) -> None:
        self.folder = os.path.join(self.mktemp(), "state")
        self.clock = Clock()
        self.clock.advance(reactor.seconds())

    def make(self, *names: str) -> tuple[str, str]:
        """As the daemon does at each start."""
        return own_certificate(self.folder, names=names, clock=self.clock)

    def contents(self) -> dict[str, bytes]:
        """What is in each file of the folder."""
        found = {}
        for name in os.listdir(self.folder):
            with open(os.path.join(self.folder, name), "rb") as file:
                found[name] = file.read()
        return found

    def changed(self, before: dict[str, bytes]) -> list[str]:
        """The files that are no more what they were."""
        return sorted(name for name, data in self.contents().items() if data != before.get(name))

    def test_handshake(self) -> None:
        """A client that has the CA verifies it for each of its names."""
        paths = self.make("db.example", "10.1.2.3")
        root = os.path.join(self.folder, "ca.pem")
        for name in ("localhost", "127.0.0.1", "::1", "db.example", "10.1.2.3"):
            client = client_context("verify-full", root=root)
            session = Session(client, server_context(*paths), name)
            session.shake()
            verify_server(session.client, "verify-full", name)

    def test_other_ca(self) -> None:
        """Another proxyd's CA does not vouch for it."""
        paths = self.make()
        other = os.path.join(self.mktemp(), "other")
        own_certificate(other, names=(), clock=self.clock)
        client = client_context("verify-ca", root=os.path.join(other, "ca.pem"))
        self.assertRaises(SSL.Error, Session(client, server_context(*paths)).shake)

    def test_modes(self) -> None:
        """Folder and keys are for the owner alone, whatever the umask; nothing else is left."""
        umask = os.umask(0o277)
        self.addCleanup(os.umask, umask)
        self.make()
        os.umask(umask)
        self.assertEqual(sorted(os.listdir(self.folder)), FILES)
        modes = {
            name: stat.S_IMODE(os.stat(os.path.join(self.folder, name)).st_mode) for name in FILES
        }
        self.assertEqual(
            modes, {"ca.key": 0o600, "ca.pem": 0o644, "proxyd.key": 0o600, "proxyd.pem": 0o644}
        )

    def test_folder_mode(self) -> None:
        """A folder that is made is for the owner alone; one that is there is left as it is."""
        self.make()
        self.assertEqual(stat.S_IMODE(os.stat(self.folder).st_mode), 0o700)
        os.chmod(self.folder, 0o755)
        self.make("another.example")
        self.assertEqual(stat.S_IMODE(os.stat(self.folder).st_mode), 0o755)

    def test_made_once(self) -> None:
        """A second start, with the same names in whatever form, keeps all of it."""
        self.make("db.example", "0:0:0:0:0:0:0:2", "bücher.example")
        before = self.contents()
        self.make("bücher.example", "::2")
        self.assertEqual(self.changed(before), [])

    def test_renewal(self) -> None:
        """Within 30 days of its end the certificate is made anew; the CA stays."""
        self.make()
        before = self.contents()
        self.clock.advance(335 * DAY - 60)
        self.make()
        self.assertEqual(self.changed(before), [])
        self.clock.advance(120)
        certificate, _ = self.make()
        self.assertEqual(self.changed(before), ["proxyd.key", "proxyd.pem"])
        left = load_certificates(certificate)[0].not_valid_after_utc - self.now()
        self.assertGreater(left, timedelta(days=364))

    def test_renewal_of_all(self) -> None:
        """When the CA nears its end, both are made anew."""
        self.make()
        before = self.contents()
        self.clock.advance(3640 * DAY)
        self.make()
        self.assertEqual(self.changed(before), FILES)

    def now(self) -> datetime:
        """The clock's time, as certificates have it."""
        return datetime.fromtimestamp(self.clock.seconds(), UTC)

    def test_new_names(self) -> None:
        """A name that the certificate lacks makes it anew; a name less does not."""
        self.make("a.example")
        before = self.contents()
        certificate, _ = self.make("b.example")
        self.assertEqual(self.changed(before), ["proxyd.key", "proxyd.pem"])
        self.assertEqual(
            certificate_names(load_certificates(certificate)[0]),
            ["localhost", "b.example", "127.0.0.1", "::1"],
        )
        before = self.contents()
        self.make()
        self.assertEqual(self.changed(before), [])

    def test_broken_pair(self) -> None:
        """A key that doesn't match, or a file that is lost or broken, is made good."""
        self.make()
        for name, data in (
            ("proxyd.key", made("x").key_pem()),
            ("proxyd.pem", b"rubbish"),
            ("proxyd.pem", made("x").pem),
        ):
            put(self.folder, name, data)
            certificate, key = self.make()
            server_context(certificate, key)
        os.unlink(key)
        server_context(*self.make())

    def assert_refused(self, *parts: str) -> None:
        """The start is refused in one line with these parts."""
        error = self.assertRaises(StartError, self.make, "new.example")
        for part in parts:
            self.assertIn(part, str(error))
        self.assertNotIn("\n", str(error))

    def test_half_a_ca(self) -> None:
        """A CA is never replaced unasked: half of one, or a broken one, is told."""
        for name in ("ca.pem", "ca.key"):
            self.make()
            os.unlink(os.path.join(self.folder, name))
            self.assert_refused("only ", "to have a new CA made")
            shutil.rmtree(self.folder)
        self.make()
        put(self.folder, "ca.key", made("x").key_pem())
        self.assert_refused("ca.key is not the key of")
        put(self.folder, "ca.key", b"rubbish")
        self.assert_refused("ca.key: is no private key")

    def test_no_folder(self) -> None:
        """Where no folder can be made, that is told."""
        put(os.path.dirname(self.folder), "state", b"a file")
        self.assert_refused("state directory", self.folder)

    def test_bad_name(self) -> None:
        """What can be no host name is told."""
        error = self.assertRaises(StartError, self.make, "ä" * 70)
        self.assertIn("is no host name", str(error))

    def test_key_kind(self) -> None:
        """Keys are ECDSA P-256, which psql takes."""
        _, key = self.make()
        self.assertEqual(load_key(key).public_key().curve.name, "secp256r1")  # type: ignore[union-attr]


class TogetherTests(TestCase):
    """Several daemons may start at the same time, with one state directory."""

    async def test_together(self) -> None:
        """All of them get the same pair, and it is whole."""
        folder = os.path.join(self.mktemp(), "state")
        clock = Clock()
        clock.advance(reactor.seconds())

        def start() -> bytes:
            certificate, key = own_certificate(folder, names=(), clock=clock)
            server_context(certificate, key)
            with open(certificate, "rb") as file:
                return file.read()

        seen = await gatherResults([deferToThread(start) for _ in range(8)])
        self.assertEqual(len(set(seen)), 1)
