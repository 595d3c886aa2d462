"""What each service looks at when it starts: is the database as old as Kafka, the topics the same?

Imported by every process: no more than that is here.
"""

from dataclasses import dataclass

import structlog
from psycopg import Connection

from orderstream.readers import DECIDES, Reader, positions, readers
from orderstream.runtime.admin import Admin
from orderstream.runtime.database import session
from orderstream.runtime.settings import Settings
from orderstream.runtime.stage import Positions

SESSION = "SET lock_timeout = '10s'; SET timezone = 'UTC'"
_KNOWN = "SELECT name, id FROM recovery.topic WHERE name = ANY(%s)"
_MAY = """
    SELECT has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, %s)
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = %s AND c.relname = %s
"""
_MEET = "INSERT INTO recovery.topic (name, id) VALUES (%s, %s) ON CONFLICT DO NOTHING"

log = structlog.get_logger("orderstream.recovery")


@dataclass(frozen=True)
class Place:
    """Where a service is in one partition: by its store, and as it told Kafka."""

    service: str
    topic: str
    partition: int
    stored: int
    committed: int


def ahead(settings: Settings, admin: Admin) -> list[Place]:
    """Return where Kafka knows a service to have read further than its own store does.

    A service tells Kafka after its store: so the store was restored, or is another. Until it has
    been reconciled nothing may be decided by it. Raises Unavailable.
    """
    with session(settings.dsn(), "orderstream-ahead", SESSION) as connection:
        return ahead_of(settings, admin, connection)


def ahead_of(settings: Settings, admin: Admin, connection: Connection) -> list[Place]:
    """As `ahead`, with what is at hand."""
    found: list[Place] = []
    for reader in projections(settings):
        if not _may(connection, "SELECT", reader.schema, "position"):
            continue
        committed = admin.committed(reader.group, reader.reads)
        stored = _stored(reader, admin, connection)  # After that: the service may be at work.
        found += [
            Place(reader.service, *at, stored.get(at, 0), offset)
            for at, offset in sorted(committed.items())
            if offset > stored.get(at, 0)
        ]
    return found


def projections(settings: Settings) -> list[Reader]:
    """Return the services that keep their offsets beside their rows."""
    return [reader for reader in readers(settings) if reader.service != DECIDES]


def _may(connection: Connection, what: str, schema: str, table: str) -> bool:
    """Tell whether we may read or write a table, or make it: it is not there in a new database.

    A service may have a user of its own who may not look into the schemas of others.
    """
    row = connection.execute(_MAY, (what, schema, table)).fetchone()
    if row is None or row[0]:
        return True
    log.warning("not looked at: the database's user may not", schema=schema, table=table)
    return False


def _stored(reader: Reader, admin: Admin, connection: Connection) -> Positions:
    table = f"{reader.schema}.position"
    if connection.execute("SELECT to_regclass(%s)", (table,)).fetchone() == (None,):
        return {}  # A new database.
    return positions(reader, admin, connection)


def made_anew(settings: Settings, admin: Admin) -> list[str]:
    """Return the topics that are others than the stores were written by. Raises Unavailable.

    A topic that is met for the first time is taken for what it is.
    """
    ids = admin.topic_ids(settings.topics.all())
    with session(settings.dsn(), "orderstream-topics", SESSION) as connection:
        if not _may(connection, "INSERT", "recovery", "topic"):
            return []
        known = dict(connection.execute(_KNOWN, (list(ids),)).fetchall())
        new = [(name, found) for name, found in ids.items() if name not in known]
        if new:
            connection.cursor().executemany(_MEET, new)
    return sorted(name for name, found in ids.items() if known.get(name, found) != found)
