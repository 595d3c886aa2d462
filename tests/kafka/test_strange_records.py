"""What any program may write to our topics: it is parked, and the flow goes on."""

import random

import pytest

from orderstream.runtime.failure import ATTEMPTS, DUE
from orderstream.runtime.stage import Output
from tests.builders import an_order, encode
from tests.conftest import SettingsOf
from tests.kafka.topics import create, decided, put, read
from tests.kafka.workers import Workers, stock
from tests.waiting import until

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

    def test_of_a_thousand_with_random_bytes_each_is_parked(
        self, settings_of: SettingsOf, workers: Workers
    ) -> None:
        settings = create(settings_of(ORDERSTREAM_RETRY_ATTEMPTS="0"))
        stock(settings, MUG=10)
        topics = settings.topics
        chance = random.Random(7)
        garbage = [
            Output(
                chance.choice((topics.order_created, topics.order_created_retry)),
                chance.randbytes(chance.randrange(20)),
                chance.randbytes(chance.randrange(1, 300)),
                [
                    (chance.choice((ATTEMPTS, DUE, "ce_id", "x")), chance.randbytes(number % 12))
                    for number in range(chance.randrange(4))
                ],
            )
            for _ in range(1_000)
        ]
        put(settings, *garbage, an_order(order_id="behind"))
        workers.start(settings)
        until(
            lambda: len(read(settings, topics.order_created_dead)) == 1_000,
            60,
            what="all are parked",
        )
        until(lambda: decided(settings) == ["behind"], what="the order behind them is decided")
        parked = sorted(
            record.value() or b"" for record in read(settings, topics.order_created_dead)
        )
        assert parked == sorted(record.value or b"" for record in garbage)


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
