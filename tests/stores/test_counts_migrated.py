"""Counts of an installation from before there were minutes of SKUs and users."""

from collections.abc import Iterator
from pathlib import Path
from shutil import copy

import psycopg
import pytest

from orderstream.runtime.migrations import migrate
from orderstream.wiring.setup import migrations
from tests.conftest import database_copy

OLD = ("0000.position", "0001.counts", "0002.forgotten")
KNOWN = {"0": 1, "63": 2, "64": 66, "100000007": 34, "007": 4, "order-1": 8, "9" * 19: 2}


@pytest.fixture
def before(template_dsn: str, tmp_path: Path) -> Iterator[str]:
    """A database as the version before left it."""
    folder = migrations("analytics")["analytics"]
    for name in OLD:
        copy(folder / f"{name}.sql", tmp_path)
    with database_copy(template_dsn) as dsn:
        with psycopg.connect(dsn) as connection:
            connection.execute("DROP SCHEMA analytics CASCADE")
        migrate(dsn, {"analytics": tmp_path})
        with psycopg.connect(dsn) as connection:
            connection.cursor().executemany(
                "INSERT INTO analytics.counted VALUES (%s, %s)", list(KNOWN.items())
            )
            connection.execute("INSERT INTO analytics.per_outcome VALUES ('CONFIRMED', 7)")
        yield dsn


def known(dsn: str) -> dict[str, int]:
    with psycopg.connect(dsn) as connection:
        return dict(connection.execute("SELECT order_id, facts FROM analytics.counted").fetchall())


def marks(dsn: str) -> list[tuple[str, int, int]]:
    with psycopg.connect(dsn) as connection:
        return connection.execute("SELECT * FROM analytics.forgotten ORDER BY topic").fetchall()


class TestTheMigration:
    def test_keeps_what_is_known_of_each_order_and_the_sums(self, before: str) -> None:
        migrate(before, migrations("analytics"))
        assert known(before) == KNOWN
        assert marks(before) == []
        with psycopg.connect(before) as connection:
            found = connection.execute("SELECT * FROM analytics.per_outcome").fetchall()
        assert found == [("CONFIRMED", 7)]

    def test_passes_over_the_orders_that_a_prune_passed_over(self, before: str) -> None:
        with psycopg.connect(before) as connection:
            for schema in ("analytics", "order_view"):
                connection.execute(
                    f"INSERT INTO {schema}.forgotten VALUES ('inventory.reserved', 0, 3)".encode()
                )
            connection.execute("INSERT INTO order_view.forgotten VALUES ('order.created', 0, 5)")
        migrate(before, migrations("analytics"))
        assert marks(before) == [("inventory.reserved", 0, 3), ("order.created", 0, 5)]
