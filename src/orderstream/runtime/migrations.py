"""Sets up each service's schema: one role that may touch nothing else, then its migrations.

yoyo-migrations applies the numbered .sql files and remembers them in the schema itself. All of it
runs under one advisory lock, so services that start together do not get in each other's way.
"""

import contextlib
import logging
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from orderstream.contract.errors import Unavailable
from orderstream.runtime.database import role_of

_LOCK = 0x0DE5_57EA  # Any number, as long as all of us take the same one.
SERVER_VERSION_MIN = 150_000


def migrate(dsn: str, folders: Mapping[str, Path]) -> list[str]:
    """Bring every schema up to date; `folders` maps a schema to its .sql files.

    Returns what was applied, as `schema/migration`; empty when all was there. Each file is one
    transaction: a crash leaves whole files applied. Raises Unavailable.
    """
    applied: list[str] = []
    try:
        with psycopg.connect(dsn, autocommit=True, connect_timeout=10) as connection:
            if connection.info.server_version < SERVER_VERSION_MIN:
                raise Unavailable("PostgreSQL 15 or newer is needed")
            connection.execute("SELECT pg_advisory_lock(%s)", (_LOCK,))
            for schema, folder in folders.items():
                with connection.transaction():
                    _prepare(connection, schema)
                applied += [f"{schema}/{name}" for name in _apply(connection, schema, folder)]
    except psycopg.Error as error:
        raise Unavailable(f"the database could not be set up: {error}") from error
    return applied


def pending(dsn: str, folders: Mapping[str, Path]) -> list[str]:
    """Return the migrations that `migrate` would apply. Raises Unavailable."""
    try:
        with psycopg.connect(dsn, autocommit=True, connect_timeout=10) as connection:
            return [
                f"{schema}/{path.stem}"
                for schema, folder in folders.items()
                for path in _missing(connection, schema, folder)
            ]
    except psycopg.Error as error:
        raise Unavailable(f"the database could not be read: {error}") from error


def _prepare(connection: psycopg.Connection, schema: str) -> None:
    name, role = sql.Identifier(schema), sql.Identifier(role_of(schema))
    make_role(connection, role_of(schema))
    if connection.execute("SELECT to_regnamespace(%s)", (schema,)).fetchone() == (None,):
        for statement in (
            "CREATE SCHEMA {schema}",
            "GRANT USAGE ON SCHEMA {schema} TO {role}",
            "ALTER DEFAULT PRIVILEGES IN SCHEMA {schema}"
            " GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO {role}",
            "ALTER DEFAULT PRIVILEGES IN SCHEMA {schema} GRANT USAGE ON SEQUENCES TO {role}",
        ):
            connection.execute(sql.SQL(statement).format(schema=name, role=role))


def make_role(connection: psycopg.Connection, name: str) -> None:
    """Make a schema's role unless it is there: a backup of a database has no roles."""
    exists = connection.execute("SELECT to_regrole(%s) IS NOT NULL", (name,)).fetchone()
    if exists != (True,):
        role = sql.Identifier(name)
        connection.execute(sql.SQL("CREATE ROLE {} NOLOGIN").format(role))
        connection.execute(sql.SQL("GRANT {} TO CURRENT_USER").format(role))


def _missing(connection: psycopg.Connection, schema: str, folder: Path) -> list[Path]:
    files = sorted(folder.glob("*.sql"))
    table = f"{schema}._yoyo_migration"
    if connection.execute("SELECT to_regclass(%s)", (table,)).fetchone() == (None,):
        return files
    query = sql.SQL("SELECT migration_id FROM {}.{}").format(
        sql.Identifier(schema), sql.Identifier("_yoyo_migration")
    )
    done = {row[0] for row in connection.execute(query)}
    return [path for path in files if path.stem not in done]


def _apply(connection: psycopg.Connection, schema: str, folder: Path) -> list[str]:
    missing = _missing(connection, schema, folder)
    if not missing:
        return []
    # Costs 0.1 s to import: only when there is work. It has no types.
    yoyo: Any = import_module("yoyo")
    connections: Any = import_module("yoyo.connections")
    postgresql: Any = import_module("yoyo.backends.core.postgresql")
    logging.getLogger("yoyo").setLevel(logging.WARNING)
    conninfo = {k: str(v) for k, v in conninfo_to_dict(connection.info.dsn).items()}
    conninfo["password"] = connection.info.password
    uri = connections.DatabaseURI(
        scheme="postgresql+psycopg",
        username=conninfo.pop("user", None),
        password=conninfo.pop("password", None) or None,
        hostname=conninfo.pop("host", None),
        port=int(conninfo.pop("port", "5432")),
        database=conninfo.pop("dbname", ""),
        args=conninfo | {"schema": schema},
    )
    backend = postgresql.PostgresqlPsycopgBackend(uri, "_yoyo_migration")
    backend.init_database()
    with contextlib.closing(backend.connection), backend.lock():
        backend.apply_migrations(backend.to_apply(yoyo.read_migrations(str(folder))))
    return [path.stem for path in missing]
