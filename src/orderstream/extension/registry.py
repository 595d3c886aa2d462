"""Which consumers of a user's own there are: each writes itself down when it starts."""

from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import Connection

from orderstream.contract.errors import Unavailable
from orderstream.extension.naming import schema_of
from orderstream.runtime.database import CONNECT_TIMEOUT_S

REGISTRY = "consumers"
REGISTRY_MIGRATIONS = Path(__file__).parent / "registry"


@dataclass(frozen=True)
class Registered:
    """A consumer that has started here: its group, and its topics by the names in force."""

    name: str
    group: str
    reads: tuple[str, ...]
    retries: tuple[str, ...]
    rebuild: bool

    @property
    def schema(self) -> str:
        """The schema that its rows are in."""
        return schema_of(self.name)


def register(tx: Connection, consumer: Registered) -> None:
    """Write a consumer down, as it is now. Others of its name wait for the transaction."""
    row = (consumer.name, consumer.group, [*consumer.reads], [*consumer.retries], consumer.rebuild)
    tx.execute(_WRITE, row)


def registered(dsn: str) -> list[Registered]:
    """Return every consumer that ever started here, by name. Raises Unavailable."""
    try:
        with psycopg.connect(dsn, connect_timeout=CONNECT_TIMEOUT_S) as connection:
            return _read(connection)
    except psycopg.Error as error:
        raise Unavailable(f"PostgreSQL is away or refused: {error}") from error


def _read(connection: Connection) -> list[Registered]:
    table = f"{REGISTRY}.consumer"
    if connection.execute("SELECT to_regclass(%s)", (table,)).fetchone() == (None,):
        return []
    return [
        Registered(name, group, tuple(reads), tuple(retries), rebuild)
        for name, group, reads, retries, rebuild in connection.execute(_LIST)
    ]


_WRITE = """
    INSERT INTO consumers.consumer (name, group_id, reads, retries, rebuild)
    VALUES (%s, %s, %s, %s, %s)
    ON CONFLICT (name) DO UPDATE SET group_id = excluded.group_id, reads = excluded.reads,
        retries = excluded.retries, rebuild = excluded.rebuild
"""
_LIST = "SELECT name, group_id, reads, retries, rebuild FROM consumers.consumer ORDER BY name"
