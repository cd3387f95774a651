"""
The demo's database: the sample C{shop}, its service user and a person, C{alice}.

Made at the first start; what is there already is kept.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from pathlib import Path

from demo.cluster import Cluster
from demo.files import write_secret

SCHEMA = Path(__file__).with_name("shop.sql")
DATABASE = "shop"
SERVICE_USER = "proxyd_svc"
PERSON = "alice"


@dataclass(frozen=True, slots=True)
class Passwords:
    """The passwords of the demo's users; kept 0600 in the demo's folder, in no repr."""

    service: str
    person: str

    def __repr__(self) -> str:
        return "<Passwords>"


def passwords_in(folder: Path) -> Passwords:
    """The passwords kept in a folder; made when they are not there."""
    return Passwords(_kept(folder / "service.password"), _kept(folder / f"{PERSON}.password"))


def lay_out(cluster: Cluster, passwords: Passwords) -> None:
    """
    Make users and the sample database in a running cluster, or keep what is there.

    Passwords are set each time, so that the kept files are always the true ones.

    @raise ClusterError: a statement failed
    """
    for user, password in ((SERVICE_USER, passwords.service), (PERSON, passwords.person)):
        if not cluster.psql(f"SELECT 1 FROM pg_roles WHERE rolname = '{user}'"):
            cluster.psql(f"CREATE ROLE {user} LOGIN")
        # token_urlsafe gives letters, digits, - and _: nothing to quote.
        cluster.psql(f"ALTER ROLE {user} PASSWORD '{password}'")
    if not cluster.psql(f"SELECT 1 FROM pg_database WHERE datname = '{DATABASE}'"):
        cluster.psql(f"CREATE DATABASE {DATABASE}")
    cluster.psql(f"REVOKE ALL ON DATABASE {DATABASE} FROM PUBLIC")
    cluster.psql(f"GRANT CONNECT, TEMPORARY ON DATABASE {DATABASE} TO {SERVICE_USER}, {PERSON}")
    if cluster.psql("SELECT to_regclass('public.customers') IS NULL", DATABASE) == "t":
        cluster.psql(SCHEMA.read_text(encoding="utf-8"), DATABASE, single_transaction=True)


def _kept(path: Path) -> str:
    if not path.exists():
        write_secret(path, secrets.token_urlsafe(15).encode())
    return path.read_text().strip()
