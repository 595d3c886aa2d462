"""Topics that are given partitions, settings, or up for lost, while orders are under way."""

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from confluent_kafka.admin import AdminClient

from orderstream.audit.report import Report
from orderstream.audit.verify import verify
from orderstream.contract.errors import Unavailable
from orderstream.recovery.lost_topics import adopt
from orderstream.runtime import broker_kafka
from orderstream.runtime.admin import Admin
from orderstream.runtime.settings import Settings
from orderstream.runtime.stage import Output
from orderstream.wiring.setup import refuse_made_anew
from tests.builders import an_order, cancelled, encode, key_of
from tests.conftest import SettingsOf
from tests.kafka.test_replay import STAGES, flow_at_rest, forgotten, rows, running
from tests.kafka.topics import QUIET, create, decided, keys, names, put, read
from tests.kafka.workers import Workers, stock
from tests.orders.service import environment
from tests.waiting import until

PAGES = "SELECT order_id, status FROM order_view.orders"


def orderstream(settings: Settings, *words: str) -> tuple[int, str]:
    """Run a command with these settings; return its exit code and all that it prints."""
    done = subprocess.run(
        [sys.executable, "-m", "orderstream", *words],
        env=os.environ | environment(settings),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def lose(settings: Settings, topic: str) -> None:
    """Delete a topic, and return once it is gone."""
    config: Any = settings.kafka(**QUIET)
    client = AdminClient(config)
    client.delete_topics([topic])[topic].result(30)
    until(lambda: topic not in Admin(settings.kafka()).partitions(), what=f"{topic} is gone")


def stopped(settings: Settings) -> None:
    for name in STAGES:
        until(lambda name=name: forgotten(settings, name), what="the group is empty")


def test_a_topic_grows_under_load_and_every_order_is_decided_once(
    settings_of: SettingsOf, workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = create(settings_of())
    topic = settings.topics.order_created
    stock(settings, MUG=100)
    orders = [an_order(("MUG", 1), order_id=number) for number in range(1, 151)]
    monkeypatch.setattr(broker_kafka, "METADATA_EVERY_MS", 500)
    for name in STAGES:
        workers.start(settings, 0, name)
    put(settings, *orders[:50])
    code, said = orderstream(settings, "topics", "grow", topic, "--partitions", "5", "--yes")
    assert code == 0, said
    assert f"{topic}.DLT: 2 -> 5 partitions" in said
    assert "does not read all of them" not in said
    counts = Admin(settings.kafka()).partitions()
    grown = (topic, settings.topics.order_created_retry, settings.topics.order_created_dead)
    assert [counts[name] for name in grown] == [5, 5, 5]
    # Its own producer knows of the new partitions: keys of before are in others now.
    put(settings, *orders[20:120])
    put(
        settings,
        *(
            Output(settings.topics.order_cancelled, key_of(order), encode(cancelled(order)), [])
            for order in orders[:10]
        ),
    )
    put(settings, *orders[120:])
    report = settled(settings)
    assert report.outcomes["CANCELLED"] == 10
    assert {*decided(settings)} == {*names(orders)}
    assert len({r.partition() for r in read(settings, topic)}) == 5
    assert Counter(keys(read(settings, topic)))["30"] == 2  # In two partitions, decided once.

    code, said = orderstream(settings, "topics", "grow", topic, "--partitions", "3", "--yes")
    assert (code, "Kafka takes none away" in said) == (2, True)
    latest = settings.model_copy(update={"kafka_auto_offset_reset": "latest"})
    code, said = orderstream(latest, "topics", "grow", topic, "--partitions", "9", "--yes")
    assert (code, "KAFKA_AUTO_OFFSET_RESET" in said) == (2, True)


def settled(settings: Settings) -> Report:
    """Return what `verify` says once all is read; nothing may be violated by then."""

    def look() -> Report | None:
        with suppress(Unavailable):  # A group is being joined.
            report = verify(settings, wait_s=20, progress=None)
            assert report.violations == []
            return None if report.behind else report
        return None

    return until(look, 40, what="all is read")


def test_topics_are_brought_to_what_is_set(settings_of: SettingsOf) -> None:
    plain = create(settings_of())
    topic, handled = plain.topics.order_created, plain.topics.dead_letters_handled
    given = f"*:retention.ms=-1 {topic}:retention.ms=86400000 {topic}:partitions=4"
    settings = plain.model_copy(update={"topic_settings": given})
    code, said = orderstream(settings, "topics", "plan")
    lines = [line.split() for line in said.splitlines()]
    assert code == 0, said
    assert [topic, "partitions", "2", "4"] in lines
    assert [topic, "retention.ms", "-1", "86400000"] in lines
    before = Admin(plain.kafka()).config_of(topic)
    assert orderstream(settings, "topics", "configure", "--dry-run")[0] == 0
    assert Admin(plain.kafka()).config_of(topic) == before
    assert orderstream(settings, "topics", "configure", "--yes")[0] == 0
    config = {entry["name"]: entry["value"] for entry in Admin(plain.kafka()).config_of(topic)}
    assert config["retention.ms"] == "86400000"
    assert config["max.message.bytes"] == "2097152"
    policy = {e["name"]: e["value"] for e in Admin(plain.kafka()).config_of(handled)}
    assert policy["cleanup.policy"] == "compact"
    _, said = orderstream(settings, "topics", "plan", "--json")
    assert said.count("\n") == 1  # Partitions are for `topics grow`.
    wrong = plain.model_copy(update={"topic_settings": "nobody:retention.ms=1"})
    code, said = orderstream(wrong, "topics", "plan")
    assert (code, "nobody is no topic of the flow" in said) == (2, True)


@pytest.mark.parametrize(
    "more",
    [
        pytest.param(3, id="shorter than before"),
        pytest.param(40, id="longer than before", marks=pytest.mark.chaos),
    ],
)
def test_orders_are_lost_with_their_topic_only_where_nobody_had_read_them(
    kafka: str, dsn: str, more: int
) -> None:
    settings = flow_at_rest(kafka, dsn)
    topics = settings.topics
    refuse_made_anew(settings, Admin(settings.kafka()))  # As every start does.
    outcomes = decided(settings)
    waiting = [an_order(("MUG", 1), order_id=f"waits-{n}") for n in range(5)]
    put(settings, *waiting)
    seen: Callable[[], dict[str, int]] = lambda: dict(rows(settings, PAGES))  # noqa: E731
    with running(settings, "view"):
        until(lambda: seen().get("waits-4") == 0 and len(seen()) == 27)
    with running(settings, *STAGES[1:]):
        lose(settings, topics.order_created)  # They wait, and do not end.
    create(settings)
    new = [an_order(("RARE", 1), order_id=f"new-{n}") for n in range(more)]
    put(settings, *new)
    with pytest.raises(Unavailable, match=r"made anew.*topics adopt"):
        refuse_made_anew(settings, Admin(settings.kafka()))

    stopped(settings)
    plan = adopt(settings, [topics.order_created], {}, dry_run=True)
    assert (plan.orders, plan.done) == (5, False)
    assert adopt(settings, [topics.order_created], {}).orders == 5
    refuse_made_anew(settings, Admin(settings.kafka()))
    with running(settings, *STAGES):
        report = settled(settings)
    assert {check.undecided for check in report.checks} == {
        None,
        f"the beginning was deleted of {topics.order_created}",
    }
    assert decided(settings) == sorted([*outcomes, *names(waiting), *names(new)])
    assert not [status for status in seen().values() if status == 0]
    (rare,) = rows(settings, "SELECT on_hand, reserved FROM inventory.stock WHERE sku = 'RARE'")
    assert rare == (1, 1)  # One of them got it.


@pytest.mark.chaos
def test_outcomes_that_were_lost_with_their_topic_are_said_again(kafka: str, dsn: str) -> None:
    settings = flow_at_rest(kafka, dsn)
    topic = settings.topics.inventory_reserved
    refuse_made_anew(settings, Admin(settings.kafka()))
    order = an_order(("RARE", 1), order_id="unseen")
    put(settings, order)
    with running(settings, "inventory"):
        until(lambda: "unseen" in decided(settings))
    with running(settings, "view"):  # It cannot be made to read the one topic and not the other,
        until(lambda: rows(settings, f"{PAGES} WHERE order_id = 'unseen'"))
    rows(settings, "UPDATE order_view.orders SET status = 0 WHERE order_id = 'unseen' RETURNING 1")
    lose(settings, topic)  # so its page is as if it had not.
    create(settings)
    stopped(settings)
    assert adopt(settings, [topic], {}).orders == 1
    with running(settings, *STAGES):
        until(lambda: keys(read(settings, topic)) == ["unseen"], what="it is said again, once")
        until(lambda: rows(settings, f"{PAGES} WHERE order_id = 'unseen'") == [("unseen", 20)])
    (rare,) = rows(settings, "SELECT reserved FROM inventory.stock WHERE sku = 'RARE'")
    assert rare == (1,)
