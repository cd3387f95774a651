"""proxyd: an access daemon for a bastion host, one process between people and private networks."""

from urllib.parse import quote as _quote

__version__ = "0.1.0"


def connection_string(token: str, database_id: "int | str", host: str, port: int) -> str:
    """
    What a client pastes to come to a database by a token.

    @param database_id: the number of a registered database, or the name of a
        connection of the configuration
    @param host: of proxyd's PostgreSQL listener: a name or an address
    @return: C{postgresql://token:TOKEN@HOST:PORT/db_ID}
    """
    name = f"db_{database_id}" if isinstance(database_id, int) else _quote(database_id, safe="")
    place = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return f"postgresql://token:{token}@{place}/{name}"
