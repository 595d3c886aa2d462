"""What any program may write to our topics: it is parked, and the flow goes on."""

import random
from functools import partial

import psycopg
import pytest

from orderstream.flow import SCHEMAS, SERVICES
from orderstream.runtime.failure import ATTEMPTS, DUE
from orderstream.runtime.settings import Settings
from orderstream.runtime.stage import Output
from tests.builders import an_order, encode
from tests.conftest import SettingsOf
from tests.kafka.topics import create, decided, put, read
from tests.kafka.workers import Workers, stock
from tests.waiting import until

BATCHES = 2_000  # Of 1,000 records, more than one from each topic.
MANY = 10_000
LARGEST = 999_000  # What a client of librdkafka's defaults can write.


def deep(depth: int) -> bytes:
    order = encode(an_order())
    return order[:-1] + b',"x":' + b"[" * depth + b"]" * depth + b"}"


class TestAStrangeRecord:
    @pytest.mark.parametrize(
        "value",
        [b"x" * LARGEST, deep(100_000), b"\xff\xfe", b"", None],
        ids=["large", "deep", "not-utf8", "empty", "none"],
    )
    def test_is_parked_whole_and_the_order_behind_it_is_decided(
        self, settings_of: SettingsOf, workers: Workers, value: bytes | None
    ) -> None:
        settings = create(settings_of(ORDERSTREAM_PARTITIONS="1"))
        stock(settings, MUG=10)
        topics = settings.topics
        put(settings, Output(topics.order_created, b"1", value, []), an_order(order_id=2))
        workers.start(settings)
        until(lambda: decided(settings) == ["2"], what="the order behind it is decided")
        until(lambda: read(settings, topics.order_created_dead), what="it is parked")
        (dead,) = read(settings, topics.order_created_dead)
        assert dead.value() == value


def garbage(topic: str, count: int, chance: random.Random) -> list[Output]:
    """Return so many records of random bytes throughout."""
    return [
        Output(
            topic,
            chance.randbytes(chance.randrange(20)),
            chance.randbytes(chance.randrange(1, 300)),
            [
                (chance.choice((ATTEMPTS, DUE, "ce_id", "x")), chance.randbytes(number % 12))
                for number in range(chance.randrange(4))
            ],
        )
        for _ in range(count)
    ]


class TestThousandsOfRecordsOfRandomBytesOnEveryTopic:
    @pytest.mark.parametrize("count", [BATCHES, pytest.param(MANY, marks=pytest.mark.chaos)])
    def test_are_parked_once_each_and_every_stage_goes_on(
        self, settings_of: SettingsOf, workers: Workers, count: int
    ) -> None:
        settings = create(settings_of(ORDERSTREAM_RETRY_ATTEMPTS="0"))
        stock(settings, MUG=10)
        topics, chance = settings.topics, random.Random(7)
        parked_in = {
            topics.order_created: topics.order_created_dead,
            topics.order_created_retry: topics.order_created_dead,
            topics.order_created_dead: topics.order_created_dead,  # Not parked again.
        } | {
            topic: topics.dead_letter(topic)
            for topic in (
                topics.order_cancelled,
                topics.order_fulfilled,
                topics.inventory_reserved,
                topics.inventory_rejected,
                topics.inventory_released,
            )
        }
        written: dict[str, list[bytes]] = {dead: [] for dead in parked_in.values()}
        for topic, dead in parked_in.items():
            records = garbage(topic, count, chance)
            put(settings, *records)
            written[dead] += [record.value or b"" for record in records]
        put(settings, an_order(order_id="behind"))
        for name in SERVICES[1:]:
            workers.start(settings, name=name)
        for service, seen in (
            ("inventory", "SELECT FROM reservation WHERE order_id = 'behind'"),
            ("view", "SELECT FROM orders WHERE order_id = 'behind' AND status = 20"),
            ("notification", "SELECT FROM notice WHERE order_id = 'behind'"),
            ("analytics", "SELECT FROM counted WHERE order_id = 'behind'"),
        ):
            until(partial(rows, settings, service, seen), 90, f"{service} has the order behind it")
        for dead, values in written.items():
            until(partial(has, settings, dead, len(values)), 60, f"{dead} has all")
            parked = sorted(record.value() or b"" for record in read(settings, dead))
            assert parked == sorted(values)


def rows(settings: Settings, service: str, statement: str) -> int:
    with psycopg.connect(settings.dsn()) as connection:
        connection.execute(f"SET search_path TO {SCHEMAS[service]}".encode())
        return len(connection.execute(statement.encode()).fetchall())


def has(settings: Settings, topic: str, records: int) -> bool:
    return len(read(settings, topic)) >= records


class TestANewGroupThatBeginsAtTheEnd:
    def test_stays_where_it_began_when_it_stops_before_its_first_batch(
        self, settings_of: SettingsOf, workers: Workers
    ) -> None:
        settings = create(settings_of(KAFKA_AUTO_OFFSET_RESET="latest"))
        stock(settings, MUG=10)
        put(settings, an_order(order_id="before"))
        first = workers.start(settings)
        until(lambda: first.has_joined(settings), what="it has its partitions")
        first.stop()
        put(settings, an_order(order_id="between"))
        workers.start(settings)
        until(lambda: decided(settings), what="something is decided")
        assert decided(settings) == ["between"]
