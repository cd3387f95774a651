"""
A PostgreSQL that takes IAM tokens, as RDS does.

A real one, whose PAM asks L{tests.support.pam_token}.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from pathlib import Path
from types import TracebackType

from twisted.trial.unittest import SkipTest

from demo.binaries import NoServer, find_on_machine
from demo.cluster import Cluster
from tests.support import pam_token
from tests.support.wireclient import WireClient

USER = "iam_user"
ACCESS_KEY = "AKIDEXAMPLE"
SECRET_KEY = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
DATABASE = "orders"
PAM_FOLDER = Path("/etc/pam.d")
PAM_EXEC = Path("/lib/x86_64-linux-gnu/security/pam_exec.so")


class Rds:
    """
    The server, stopped by the C{with} statement.

    @ivar cluster: the server itself
    """

    def __init__(self, life: float, hba: tuple[str, ...] | None = None) -> None:
        """
        @param life: seconds that a token is good for
        @param hba: other lines for the user than the one of PAM
        @raise SkipTest: PAM can't be set up here
        """
        if os.getuid() != 0 or not PAM_FOLDER.is_dir() or not PAM_EXEC.exists():
            raise SkipTest("only root can set up a service of PAM, and pam_exec is needed")
        try:
            binaries = find_on_machine(15)
        except NoServer:
            binaries = None
        if binaries is None:
            raise SkipTest("no PostgreSQL of this machine's own, which is built with PAM")
        # Its programs are run by the server's user, who can't see into a checkout.
        self._folder = Path(tempfile.mkdtemp(prefix="proxyd-pam-"))
        self._folder.chmod(0o755)
        self._settings = self._folder / "settings.json"
        script = self._folder / "pam_token.py"
        shutil.copy(pam_token.__file__, script)
        script.chmod(0o644)
        self._service = PAM_FOLDER / self._folder.name
        self._service.write_text(
            f"auth required pam_exec.so expose_authtok quiet {_python()} -I {script} "
            f"{self._settings}\naccount required pam_permit.so\n"
        )
        own = f"hostssl all {USER} 127.0.0.1/32 pam pamservice={self._service.name}"
        self.cluster = Cluster(binaries=binaries, ssl=True, hba=hba or (own,))
        self.values: dict[str, object] = {"secret": SECRET_KEY, "life": life, "ahead": 0}

    def __enter__(self) -> Rds:
        try:
            self.cluster.start()
            self.change(host=f"127.0.0.1:{self.cluster.port}")
            with self.admin("postgres") as admin:
                admin.query(f"CREATE ROLE {USER} LOGIN PASSWORD 'fixed'; CREATE ROLE rds_iam")
                admin.query(f"CREATE DATABASE {DATABASE}")
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._remove()

    def change(self, **values: object) -> None:
        """Check tokens by other settings from now on: C{life}, C{ahead}, C{secret}, C{host}."""
        self.values |= values
        fresh = self._settings.with_suffix(".new")
        fresh.write_text(json.dumps(self.values))
        fresh.chmod(0o644)
        fresh.replace(self._settings)

    def admin(self, database: str = DATABASE) -> WireClient:
        """A client logged in as the superuser."""
        client = WireClient(self.cluster.host, self.cluster.port)
        client.login(self.cluster.superuser, database, self.cluster.password)
        return client

    def configuration(self, more: str = "", iam: str = "") -> str:
        """proxyd's configuration for it, with C{auth: trust}."""
        return (
            'postgres: {listen: ["127.0.0.1:@PORT@"]}\n'
            "connections:\n"
            f"  {DATABASE}:\n"
            f"    dsn: postgresql://{USER}@127.0.0.1:{self.cluster.port}/{DATABASE}"
            f"?sslmode=verify-full&sslrootcert={self.cluster.certificate}\n"
            "    auth: trust\n"
            f"    aws_iam_auth: {{enabled: true, region: eu-central-1{iam}}}\n" + more
        )

    def variables(self) -> dict[str, str]:
        """The credentials whose tokens it takes."""
        return {
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "AWS_CONFIG_FILE": "/nonexistent/config",
            "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent/credentials",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def _remove(self) -> None:
        try:
            self.cluster.stop()
        finally:
            self._service.unlink(missing_ok=True)
            shutil.rmtree(self._folder, ignore_errors=True)


def _python() -> str:
    """A Python that the server's user can run; this one may be in somebody's home."""
    for path in ("/usr/bin/python3", shutil.which("python3") or "", sys.executable):
        if path and os.access(path, os.X_OK):
            return path
    raise SkipTest("no Python that everybody can run")
