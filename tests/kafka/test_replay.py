"""Replay on real servers: all is read again, and said, told and shown once.

The tests share a flow that has come to rest, and leave it so.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from threading import Thread
from typing import Any

import psycopg
import pytest

from orderstream.audit.verify import verify
from orderstream.contract.errors import Unavailable
from orderstream.flow import SCHEMAS
from orderstream.runtime.admin import Admin
from orderstream.runtime.database import Database
from orderstream.runtime.observe import StageMetrics
from orderstream.runtime.replay import Target
from orderstream.runtime.settings import Settings
from orderstream.wiring.replays import replay_of
from orderstream.wiring.stages import stage_loop, stage_parts
from tests.builders import an_order
from tests.conftest import database_copy, own_settings
from tests.kafka.topics import create, decided, keys, put, read
from tests.kafka.workers import stock
from tests.waiting import until

STAGES = ("inventory", "view", "notification", "analytics")
ORDERS = [an_order(("MUG", 1), order_id=number) for number in range(1, 21)]
ORDERS += [an_order(("RARE", 9), order_id=21), an_order(("FAIL", 1), order_id=22)]


@contextmanager
def running(settings: Settings, *services: str) -> Iterator[None]:
    """Run stages in threads, as their services do."""
    with ExitStack() as stack:
        for name in services:
            database = Database(settings.dsn(), SCHEMAS[name])
            stage = stage_parts(name, settings, database).stage
            loop = stage_loop(stage, settings, database, StageMetrics(f"test-{name}"))
            thread = Thread(target=loop.run, daemon=True)
            thread.start()
            stack.callback(database.close)
            stack.callback(loop.close)
            stack.callback(thread.join, 30)
            stack.callback(loop.stop)
        yield


def flow_at_rest(kafka: str, dsn: str) -> Settings:
    """Return the settings of a flow with confirmed, rejected and failed orders."""
    settings = create(own_settings(kafka, dsn))
    stock(settings, MUG=15, RARE=1, FAIL=1)
    put(settings, *ORDERS)
    come_to_rest(settings, *STAGES)
    return settings


@pytest.fixture(scope="module")
def settings(kafka: str, template_dsn: str) -> Iterator[Settings]:
    with database_copy(template_dsn) as dsn:
        yield flow_at_rest(kafka, dsn)


def come_to_rest(settings: Settings, *services: str) -> None:
    """Have the services read what they have not read yet."""
    with running(settings, *services):
        until(lambda: proven(settings), what="all is read")


def proven(settings: Settings) -> bool:
    """Tell whether everything is read and right."""
    try:
        return verify(settings, wait_s=20, progress=None).proven
    except Unavailable:  # A broker that has just started still loads its groups.
        return False


def rows(settings: Settings, query: str) -> list[Any]:
    with psycopg.connect(settings.dsn()) as connection:
        return connection.execute(query.encode()).fetchall()


def forgotten(settings: Settings, name: str) -> bool:
    """Tell whether Kafka has forgotten the workers that stopped."""
    return not Admin(settings.kafka()).members(settings.group(name))


def replayed(settings: Settings, name: str, target: Target = Target()) -> None:  # noqa: B008
    """Replay, and have the service read again up to the end."""
    until(lambda: forgotten(settings, name), what="the group is empty")
    job = replay_of(name, settings)
    job.run(job.plan(target))
    assert all(move.before == move.to for move in job.plan(target).moves)
    come_to_rest(settings, name)


PAGES = """
    SELECT order_id, status, user_id, items, reason, short, created_at, decided_at, timeline
    FROM order_view.orders ORDER BY order_id
"""
COUNTS = """
    SELECT (SELECT jsonb_agg(to_jsonb(c) ORDER BY order_id) FROM analytics.counted c),
        (SELECT jsonb_agg(to_jsonb(c) ORDER BY minute, outcome) FROM analytics.per_minute c),
        (SELECT jsonb_agg(to_jsonb(c) ORDER BY outcome) FROM analytics.per_outcome c),
        (SELECT jsonb_agg(to_jsonb(c) ORDER BY sku) FROM analytics.per_sku c),
        (SELECT jsonb_agg(to_jsonb(c) ORDER BY minute, sku) FROM analytics.sku_minute c),
        (SELECT jsonb_agg(to_jsonb(c) ORDER BY minute, sku) FROM analytics.sku_quarter c),
        (SELECT jsonb_agg(to_jsonb(c) ORDER BY minute, user_id, outcome)
            FROM analytics.user_minute c),
        (SELECT jsonb_agg(to_jsonb(c) ORDER BY minute, bucket) FROM analytics.latency_minute c),
        (SELECT jsonb_agg(to_jsonb(c) ORDER BY bucket) FROM analytics.latency c)
"""
NOTICES = "SELECT * FROM notification.notice ORDER BY event_id, channel"
STOCK = "SELECT * FROM inventory.stock ORDER BY sku"


def pages(settings: Settings) -> list[Any]:
    """Return the pages as they are shown: a timeline is in order of time, each event once."""
    return [
        (*page[:-1], sorted({(e["at"], e["type"], e["offset"]) for e in page[-1]}))
        for page in rows(settings, PAGES)
    ]


class TestAReplayFromTheBeginning:
    @pytest.mark.parametrize(
        ("service", "what"),
        [
            ("view", pages),
            ("analytics", lambda settings: rows(settings, COUNTS)),
            ("notification", lambda settings: rows(settings, NOTICES)),
        ],
    )
    def test_leaves_the_store_as_it_was(
        self, settings: Settings, service: str, what: Callable[[Settings], list[Any]]
    ) -> None:
        before = what(settings)
        assert before
        replayed(settings, service)
        assert what(settings) == before

    def test_of_inventory_says_and_reserves_nothing_again(self, settings: Settings) -> None:
        topics = settings.topics
        said = lambda: [keys(read(settings, topic)) for topic in topics.all()]  # noqa: E731
        before, shelves = said(), rows(settings, STOCK)
        replayed(settings, "inventory")
        replayed(settings, "inventory")
        assert (said(), rows(settings, STOCK)) == (before, shelves)

    def test_of_inventory_passes_over_what_was_parked_though_it_could_be_done_now(
        self, settings: Settings
    ) -> None:
        mended = settings.model_copy(update={"drill_sku": ""})
        replayed(mended, "inventory")
        assert ("FAIL", 1, 0) in rows(
            settings, "SELECT sku, on_hand, reserved FROM inventory.stock"
        )

    def test_of_inventory_answers_what_comes_after(self, settings: Settings) -> None:
        replayed(settings, "inventory")
        put(settings, an_order(("RARE", 1), order_id=99))
        come_to_rest(settings, *STAGES)
        assert "99" in decided(settings)

    def test_of_inventory_mends_a_store_that_lost_rows(self, kafka: str, dsn: str) -> None:
        settings = flow_at_rest(kafka, dsn)
        mugs = "SELECT reserved FROM inventory.stock WHERE sku = 'MUG'"
        reserved = rows(settings, mugs)
        with psycopg.connect(settings.dsn()) as connection:
            connection.execute("DELETE FROM inventory.reservation")
            connection.execute("UPDATE inventory.stock SET reserved = 0")
        until(lambda: forgotten(settings, "inventory"), what="the group is empty")
        job = replay_of("inventory", settings)
        job.run(job.plan(Target()))
        with running(settings, "inventory"):
            until(lambda: rows(settings, mugs) == reserved, what="reserved again")


class TestAPlan:
    def test_goes_back_and_never_forward(self, settings: Settings) -> None:
        job = replay_of("view", settings)
        assert all(move.to == move.before for move in job.plan(Target(10**9)).moves)
        assert all(move.to == min(2, move.before) for move in job.plan(Target(2)).moves)
        assert all(move.to == 0 for move in job.plan(Target(time_ms=0)).moves)
        future = job.plan(Target(time_ms=4_000_000_000_000))
        assert all(move.to == move.before for move in future.moves)

    def test_builds_anew_only_projections_and_only_from_the_beginning(
        self, settings: Settings
    ) -> None:
        def rebuilds(name: str, target: Target) -> bool:
            return replay_of(name, settings).plan(target).rebuild

        assert rebuilds("view", Target())
        assert rebuilds("analytics", Target())
        assert not rebuilds("view", Target(1))
        assert not rebuilds("notification", Target())
        assert not rebuilds("inventory", Target())

    def test_to_a_time_keeps_the_rows_and_changes_nothing_that_is_shown(
        self, settings: Settings
    ) -> None:
        before = pages(settings), rows(settings, COUNTS)
        for name in ("view", "analytics"):
            replayed(settings, name, Target(time_ms=1))
        assert (pages(settings), rows(settings, COUNTS)) == before

    def test_knows_who_is_in_the_group(self, settings: Settings) -> None:
        job = replay_of("inventory", settings)
        with running(settings, "inventory"):
            (member,) = until(job.members, what="it has joined")
            assert member.startswith(settings.group("inventory"))
