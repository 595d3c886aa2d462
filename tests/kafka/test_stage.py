"""Inventory on a real broker and a real database: once each, whoever dies and whatever comes."""

import struct

import pytest

from orderstream.contract.envelope import header
from orderstream.contract.errors import Fenced
from orderstream.runtime.admin import Admin
from orderstream.runtime.settings import Settings
from orderstream.runtime.stage import Output
from tests.builders import an_order
from tests.conftest import SettingsOf
from tests.kafka.topics import create, decided, headers_of, keys, names, put, read
from tests.kafka.workers import Worker, Workers, reserved_of, stock
from tests.waiting import until

SMALL_BATCHES = {"ORDERSTREAM_BATCH_RECORDS": "10"}
ORDERS = [an_order(order_id=number) for number in range(1, 401)]


def is_read(settings: Settings) -> bool:
    """Tell whether all orders are read, the markers of other transactions aside."""
    lags = Admin(settings.kafka()).lag(settings.group("inventory"), [settings.topics.order_created])
    return all(lag.behind == 0 for lag in lags)


def decides(settings: Settings, count: int) -> None:
    """Wait until so many orders are decided."""
    until(lambda: len(decided(settings)) >= count, what=f"{count} are decided")


class TestTakingOver:
    def test_from_each_other_again_and_again_decides_each_order_once(
        self, settings_of: SettingsOf, workers: Workers
    ) -> None:
        settings = create(settings_of(**SMALL_BATCHES))
        stock(settings, MUG=1_000)
        replaced: list[Worker] = []
        worker = workers.start(settings)
        for first in range(0, 400, 100):
            put(settings, *ORDERS[first : first + 50])
            # Two that begin at once would fence each other.
            until(lambda: all(old.ended for old in replaced), what="those before have stopped")
            decides(settings, first + 1)
            replaced.append(worker)
            worker = workers.start(settings)  # The same place: whoever has it is fenced.
            put(settings, *ORDERS[first + 50 : first + 100])
            decides(settings, first + 60)
        until(lambda: all(old.ended for old in replaced), what="those replaced have stopped")
        assert {type(old.ended_with) for old in replaced} == {Fenced}
        until(lambda: is_read(settings), what="all is read")
        assert decided(settings) == names(ORDERS)
        assert reserved_of(settings, "MUG") == 400
        assert not worker.ended

    def test_of_partitions_by_a_second_worker_and_back_decides_each_order_once(
        self, settings_of: SettingsOf, workers: Workers
    ) -> None:
        settings = create(settings_of(**SMALL_BATCHES))
        stock(settings, MUG=1_000)
        workers.start(settings)
        put(settings, *ORDERS[:150])
        second = workers.start(settings, 1)
        put(settings, *ORDERS[150:300])
        decides(settings, 160)
        second.stop()
        put(settings, *ORDERS[300:])
        until(lambda: is_read(settings), what="all is read")
        assert decided(settings) == names(ORDERS)
        assert reserved_of(settings, "MUG") == 400


JUNK = [("traceparent", b"00-a-b-01")]


class TestAPoisonRecord:
    def test_holds_up_no_order_behind_it_while_it_waits_for_its_next_try(
        self, settings_of: SettingsOf, workers: Workers
    ) -> None:
        settings = create(settings_of(ORDERSTREAM_PARTITIONS="1", ORDERSTREAM_RETRY_BACKOFF="3600"))
        stock(settings, MUG=10)
        poison = Output(settings.topics.order_created, b"junk", b"{not json", JUNK)
        put(settings, ORDERS[0], poison, *ORDERS[1:4])
        workers.start(settings)
        until(lambda: decided(settings) == names(ORDERS[:4]), what="the others are decided")
        assert keys(read(settings, settings.topics.order_created_retry)) == ["junk"]
        assert read(settings, settings.topics.order_created_dead) == []

    @pytest.mark.parametrize(
        ("value", "error", "cause", "message"),
        [
            (
                b"{not json",
                b"orderstream.contract.errors.Malformed",
                b"msgspec.DecodeError",
                b"malformed",
            ),
            (
                b'{"orderId":"junk","items":[{"sku":"FAIL","qty":1}]}',
                b"orderstream.inventory.rules.DrillFailure",
                b"orderstream.inventory.rules.DrillFailure",
                b"order junk asks for the drill SKU FAIL",
            ),
        ],
        ids=["unreadable", "not handled"],
    )
    def test_is_tried_twice_more_and_lands_in_the_dead_letters_as_spring_writes_them(
        self,
        settings_of: SettingsOf,
        workers: Workers,
        value: bytes,
        error: bytes,
        cause: bytes,
        message: bytes,
    ) -> None:
        settings = create(settings_of(ORDERSTREAM_PARTITIONS="1"))
        topics = settings.topics
        stock(settings, MUG=10)
        put(settings, ORDERS[0], Output(topics.order_created, b"junk", value, JUNK), ORDERS[1])
        workers.start(settings)
        (dead,) = until(lambda: read(settings, topics.order_created_dead))
        assert (dead.key(), dead.value()) == (b"junk", value)

        (poison,) = [r for r in read(settings, topics.order_created) if r.key() == b"junk"]
        written = poison.timestamp()[1]
        said = dict(headers_of(dead))
        assert message in said.pop("kafka_dlt-exception-message")
        stack = said.pop("kafka_dlt-exception-stacktrace")
        assert error.rpartition(b".")[2] in stack
        assert said == {
            "traceparent": b"00-a-b-01",
            "kafka_dlt-original-topic": topics.order_created.encode(),
            "kafka_dlt-original-partition": struct.pack(">i", 0),
            "kafka_dlt-original-offset": struct.pack(">q", 1),
            "kafka_dlt-original-timestamp": struct.pack(">q", written),
            "kafka_dlt-original-timestamp-type": b"CreateTime",
            "kafka_dlt-original-consumer-group": settings.group("inventory").encode(),
            "kafka_dlt-exception-fqcn": error,
            "kafka_dlt-exception-cause-fqcn": cause,
        }

        retries = [headers_of(record) for record in read(settings, topics.order_created_retry)]
        assert [header(retry, "retry_topic-attempts") for retry in retries] == [
            struct.pack(">i", 1),
            struct.pack(">i", 2),
        ]
        assert decided(settings) == names(ORDERS[:2])
