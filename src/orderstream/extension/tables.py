"""Makes what a consumer keeps: its schema with the loop's own tables, and the user's tables."""

from pathlib import Path

import psycopg
from psycopg import sql

from orderstream.contract.errors import ConfigurationError, Unavailable
from orderstream.contract.topics import Topics
from orderstream.extension.definition import Definition
from orderstream.extension.registry import REGISTRY, REGISTRY_MIGRATIONS, Registered, register
from orderstream.extension.stage import consumer_stage
from orderstream.runtime.database import CONNECT_TIMEOUT_S
from orderstream.runtime.migrations import migrate

MIGRATIONS = Path(__file__).parent / "migrations"


def make_tables(connection: psycopg.Connection, definition: Definition) -> None:
    """Run the SQL that makes the user's own tables, if it is SQL."""
    path = sql.SQL("SET search_path = {}").format(sql.Identifier(definition.schema))
    connection.execute(path)
    if isinstance(definition.tables, str) and definition.tables.strip():
        connection.execute(definition.tables.encode())


def set_up(dsn: str, definition: Definition, topics: Topics, group: str) -> None:
    """Make a consumer's schema and tables, and write it down. Safe to repeat.

    Raises Unavailable, and ConfigurationError for tables that PostgreSQL cannot make.
    """
    schema, tables = definition.schema, definition.tables
    migrate(dsn, {REGISTRY: REGISTRY_MIGRATIONS, schema: MIGRATIONS})
    if isinstance(tables, Path):
        if not tables.is_dir():
            raise ConfigurationError(f"{definition.name}: there is no folder {tables}")
        migrate(dsn, {schema: tables})
    stage = consumer_stage(definition, topics, group)
    reads, retries = tuple(sorted(stage.reads)), tuple(sorted(stage.retries.values()))
    try:
        with psycopg.connect(dsn, connect_timeout=CONNECT_TIMEOUT_S) as connection:
            # First: its row is a lock, so that workers which start together make tables in turn.
            entry = Registered(definition.name, group, reads, retries, definition.rebuild)
            register(connection, entry)
            make_tables(connection, definition)
    except (psycopg.ProgrammingError, psycopg.NotSupportedError) as error:
        raise ConfigurationError(f"{definition.name}: its tables: {error}") from error
    except psycopg.Error as error:
        raise Unavailable(f"the database could not be set up: {error}") from error
