"""Pruning on real servers: orders that are over are forgotten, and stay so whatever is replayed."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import psycopg
import pytest

from orderstream.audit.verify import verify
from orderstream.contract.errors import Unavailable
from orderstream.retention.prune import Pruned, prune
from orderstream.runtime.clock import utc_now
from orderstream.runtime.replay import Target
from orderstream.runtime.settings import Settings
from orderstream.runtime.stage import Output
from tests.builders import cancelled, encode, fulfilled
from tests.conftest import database_copy
from tests.kafka.test_replay import (
    COUNTS,
    ORDERS,
    STAGES,
    STOCK,
    come_to_rest,
    flow_at_rest,
    replayed,
    rows,
)
from tests.kafka.topics import keys, put, read

CANCELLED, FULFILLED, PARKED = ORDERS[0], ORDERS[1], ORDERS[-1]
# 15 mugs, two of their orders over, one that was cancelled when it was parked, and one that is
# rejected and whose customer has not been told yet.
KEPT = 15
OVER = len(ORDERS) - KEPT

UNTOLD = """
    UPDATE notification.notice SET status = 'PENDING', message = '{}', due_at = 'infinity'
    WHERE order_id = (SELECT min(order_id) FROM order_view.orders WHERE status = 21)
    RETURNING order_id
"""
SUMS = COUNTS.split("counted c),", 1)[1]
TABLES = ("order_view.orders", "analytics.counted", "notification.notice")


@pytest.fixture(scope="module")
def settings(kafka: str, template_dsn: str) -> Iterator[Settings]:
    """A flow at rest with orders of every kind; those that are over were pruned."""
    with database_copy(template_dsn) as dsn:
        settings = flow_at_rest(kafka, dsn)
        topics = settings.topics
        for order in (CANCELLED, PARKED):
            cancel = encode(cancelled(order))
            put(settings, Output(topics.order_cancelled, order.key.encode(), cancel, []))
        key, shipped = FULFILLED.key.encode(), encode(fulfilled(FULFILLED))
        put(settings, Output(topics.order_fulfilled, key, shipped, []))
        come_to_rest(settings, *STAGES)
        rows(settings, UNTOLD)
        claim(settings, "order:1", CANCELLED.key)
        claim(settings, "key:of-one-that-stays", ORDERS[2].key)
        yield settings


@pytest.fixture(scope="module")
def pruned(settings: Settings) -> tuple[list[Any], Pruned]:
    """What the log, the shelves and the sums were before it was pruned, and what it said."""
    before = lasting(settings)
    return before, prune(settings, soon())


def claim(settings: Settings, name: str, order_id: str) -> None:
    with psycopg.connect(settings.dsn()) as connection:
        connection.execute(
            "INSERT INTO orders.claim (name, fingerprint, order_id, numeric_id, published)"
            " VALUES (%s, '', %s, true, true)",
            (name, order_id),
        )


def soon() -> datetime:
    """Return a time after all that has happened."""
    return utc_now() + timedelta(days=400)


def lasting(settings: Settings) -> list[Any]:
    """Return what pruning and replaying leave as it is."""
    said = [sorted(keys(read(settings, topic))) for topic in settings.topics.all()]
    return [said, rows(settings, STOCK), rows(settings, f"SELECT {SUMS}")]


def orders_in(settings: Settings, table: str) -> int:
    return rows(settings, f"SELECT count(DISTINCT order_id) FROM {table}")[0][0]


class TestPruning:
    def test_that_is_only_tried_changes_nothing(self, settings: Settings) -> None:
        found = prune(settings, soon(), dry_run=True)
        assert (found.orders, found.done) == (OVER, False)
        assert orders_in(settings, "order_view.orders") == len(ORDERS)
        assert rows(settings, "SELECT * FROM inventory.pruned") == []

    def test_leaves_what_was_not_over_by_then(self, settings: Settings) -> None:
        assert prune(settings, utc_now() - timedelta(days=4000)).orders == 0

    def test_forgets_orders_that_are_over_and_no_other(
        self, settings: Settings, pruned: tuple[list[Any], Pruned]
    ) -> None:
        before, said = pruned
        assert (said.orders, said.claims, said.done) == (OVER, 1, True)
        statuses = {status for (status,) in rows(settings, "SELECT status FROM order_view.orders")}
        assert statuses == {20, 21, 31}  # The one of 21 has a message that is still to be sent.
        assert [orders_in(settings, table) for table in TABLES] == [KEPT] * len(TABLES)
        assert orders_in(settings, "inventory.reservation") == KEPT
        assert lasting(settings) == before
        assert verify(settings, wait_s=20, progress=None).proven

    def test_done_again_finds_nothing(
        self,
        settings: Settings,
        pruned: tuple[list[Any], Pruned],  # noqa: ARG002 - it is done
    ) -> None:
        again = prune(settings, soon())
        assert (again.orders, again.claims) == (0, 0)

    @pytest.mark.parametrize("service", STAGES)
    def test_stays_done_when_all_is_read_again(
        self, settings: Settings, pruned: tuple[list[Any], Pruned], service: str
    ) -> None:
        notices = rows(settings, "SELECT event_id FROM notification.notice ORDER BY 1")
        replayed(settings, service)
        assert lasting(settings) == pruned[0]
        assert orders_in(settings, "inventory.reservation") == KEPT
        assert rows(settings, "SELECT event_id FROM notification.notice ORDER BY 1") == notices

    def test_is_not_undone_by_reading_again_from_a_time(
        self,
        settings: Settings,
        pruned: tuple[list[Any], Pruned],
    ) -> None:
        prune(settings, soon())  # The view was built anew above.
        for service in ("view", "analytics"):
            replayed(settings, service, Target(time_ms=1))
        assert lasting(settings) == pruned[0]
        assert [orders_in(settings, table) for table in TABLES] == [KEPT] * len(TABLES)


class TestAServiceThatIsBehind:
    def test_is_waited_for(self, kafka: str, dsn: str) -> None:
        settings = flow_at_rest(kafka, dsn)
        put(settings, ORDERS[0])
        with pytest.raises(Unavailable, match="inventory has not read"):
            prune(settings, soon())
        assert orders_in(settings, "order_view.orders") == len(ORDERS)
