"""One database for all tests of stores, emptied before each: making one costs a second at times."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing

import pytest
from psycopg import sql

from orderstream.orders.store_postgres import FIRST_ID
from orderstream.runtime.database import Database
from tests.conftest import database_copy

TABLES = {
    "orders": ("claim",),
    "inventory": ("stock", "reservation"),
    "order_view": ("orders", "position"),
    "notification": ("notice", "silenced", "opted_out", "position"),
    "analytics": (
        "counted_names",
        "counted_numbers",
        "per_outcome",
        "per_minute",
        "per_sku",
        "sku_minute",
        "sku_quarter",
        "user_batch",
        "latency",
        "latency_minute",
        "position",
    ),
}

Emptied = Callable[[str], Database]


@pytest.fixture(scope="package")
def shared_dsn(template_dsn: str) -> Iterator[str]:
    with database_copy(template_dsn) as dsn:
        yield dsn


@pytest.fixture
def emptied(shared_dsn: str) -> Iterator[Emptied]:
    """Gives the database of a service, with nothing in it."""
    with ExitStack() as stack:

        def open_one(schema: str) -> Database:
            database = stack.enter_context(closing(Database(shared_dsn, schema, pool_max=32)))
            empty(database)
            return database

        yield open_one


def empty(database: Database) -> None:
    """Delete every row of the service's tables."""
    with database.transaction() as tx:
        for table in TABLES[database.schema]:
            tx.execute(sql.SQL("DELETE FROM {}").format(sql.Identifier(table)))
        if database.schema == "orders":
            tx.execute("UPDATE id_block SET next = %s", (FIRST_ID,))
