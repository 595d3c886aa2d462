"""Analytics built anew from the log is what it was while events came, table by table.

In its short form with each test run; a million events are for `make chaos`.
"""

from collections import Counter, defaultdict

import pytest
from bench.analytics import TABLES, events, put, tables

from orderstream.analytics.rules import HAPPENS, Accepted, Changes, count
from orderstream.contract.events import OrderCreated
from orderstream.runtime.replay import Target
from orderstream.runtime.settings import Settings
from orderstream.wiring.replays import replay_of
from tests.conftest import SettingsOf
from tests.kafka.test_replay import forgotten, rows, running
from tests.kafka.topics import create
from tests.waiting import until


def counted(settings: Settings) -> int:
    """Return how many events were counted, those that released stock aside."""
    ((number,),) = rows(
        settings, "SELECT coalesce(sum(orders), 0)::bigint FROM analytics.per_minute"
    )
    return number


def expected(settings: Settings, orders: int) -> Changes:
    """Count the same events in memory, all at once."""
    told = [
        Accepted(event.key, event.created_at)
        if isinstance(event, OrderCreated) and event.created_at
        else event
        for _, event in events(settings.topics, orders)
    ]
    return count([event.key for event in told], told, {})  # pyright: ignore[reportArgumentType] - only events that are counted


@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    "orders", [2_000, pytest.param(400_000, marks=pytest.mark.chaos)], ids=["few", "a-million"]
)
class TestAReplay:
    def test_comes_to_the_live_numbers_exactly(self, settings_of: SettingsOf, orders: int) -> None:
        settings = create(settings_of())
        model = expected(settings, orders)
        happened = sum(model.per_minute.values())
        # Live: the service reads while events come.
        with running(settings, "analytics"):
            put(settings, events(settings.topics, orders))
            until(lambda: counted(settings) == happened, within_s=900, what="all is counted")
            until(lambda: sold(settings) == sum_of(model.sold), what="what was released as well")
        live, positions = tables(settings), read_to(settings)
        assert minutes(settings) == {
            (minute, HAPPENS[fact]): number for (minute, fact), number in model.per_minute.items()
        }
        assert users(settings) == total_users(model)

        until(lambda: forgotten(settings, "analytics"), what="the group is empty")
        job = replay_of("analytics", settings)
        plan = job.plan(Target())
        assert plan.rebuild
        job.run(plan)
        assert counted(settings) == 0
        with running(settings, "analytics"):
            until(lambda: counted(settings) == happened, within_s=900, what="all is counted")
            until(lambda: read_to(settings) == positions, what="what was released as well")
        anew = tables(settings)
        assert [query for query in TABLES if anew[query] != live[query]] == []


def read_to(settings: Settings) -> int:
    ((at,),) = rows(settings, "SELECT sum(next)::bigint FROM analytics.position")
    return at


def sold(settings: Settings) -> int:
    ((number,),) = rows(settings, "SELECT coalesce(sum(sold), 0)::bigint FROM analytics.per_sku")
    return number


def sum_of(counts: Counter[tuple[int, str]]) -> int:
    return sum(counts.values())


def minutes(settings: Settings) -> dict[tuple[int, str], int]:
    query = (
        "SELECT extract(epoch FROM minute)::bigint / 60, outcome, orders FROM analytics.per_minute"
    )
    return {(minute, outcome): orders for minute, outcome, orders in rows(settings, query)}


def users(settings: Settings) -> dict[str, int]:
    query = "SELECT user_id, sum(orders)::bigint FROM analytics.user_minute GROUP BY 1"
    return dict(rows(settings, query))


def total_users(model: Changes) -> dict[str, int]:
    total: defaultdict[str, int] = defaultdict(int)
    for some in model.users.values():
        for user, orders in some.items():
            total[user] += orders
    return dict(total)
