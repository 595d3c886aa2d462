"""Topics of a test's own: write orders to them, read everything that stands in them."""

import time
from collections.abc import Iterable, Sequence
from typing import Any

from confluent_kafka import Consumer, KafkaError, Message, Producer, TopicPartition

from orderstream.contract.events import OrderCreated
from orderstream.runtime.admin import Admin
from orderstream.runtime.settings import Settings
from orderstream.runtime.stage import Output
from tests.builders import encode, key_of

READ_WITHIN_S = 60.0
QUIET = {"log_level": 0}  # What a test does to the broker on purpose is no news.


def create(settings: Settings) -> Settings:
    """Create the topics that the settings name."""
    Admin(settings.kafka()).create(settings.topics.all(), settings.partitions)
    return settings


def put(settings: Settings, *records: OrderCreated | Output) -> None:
    """Write accepted orders, or any records, and wait until the broker has them."""
    faults: list[object] = []
    producer = Producer(
        settings.kafka(**QUIET)
        | {"acks": "all", "enable.idempotence": True, "partitioner": "murmur2_random"}
    )
    for record in records:
        if isinstance(record, OrderCreated):
            record = Output(settings.topics.order_created, key_of(record), encode(record), [])
        topic, key, value, headers, *_ = record
        producer.produce(
            topic,
            value,
            key,
            headers=list(headers),
            on_delivery=lambda error, _: faults.append(error) if error else None,
        )
    assert producer.flush(30) == 0
    assert faults == []


def read(settings: Settings, *topics: str, committed: bool = True) -> list[Message]:
    """Return what stands in the topics: only what was committed, or all that was written."""
    isolation = "read_committed" if committed else "read_uncommitted"
    config: Any = settings.kafka(**QUIET) | {
        "group.id": "reader",
        "enable.auto.commit": False,
        "enable.partition.eof": True,
        "isolation.level": isolation,
        "fetch.wait.max.ms": 10,
    }
    consumer = Consumer(config)
    try:
        known = consumer.list_topics(timeout=10).topics
        left = {(topic, number) for topic in topics for number in known[topic].partitions}
        consumer.assign([TopicPartition(*partition, 0) for partition in left])
        found: list[Message] = []
        deadline = time.monotonic() + READ_WITHIN_S
        while left:
            assert time.monotonic() < deadline, f"no end of {left} after {len(found)} records"
            for message in consumer.consume(1000, 0.05):
                error = message.error()
                if error is None:
                    found.append(message)
                else:
                    assert error.code() == KafkaError._PARTITION_EOF, error
                    left.discard((message.topic() or "", message.partition() or 0))
        return found
    finally:
        consumer.close()


def keys(records: Iterable[Message]) -> list[str]:
    """Return the orders of the records, sorted: one that is there twice is told twice."""
    return sorted((record.key() or b"").decode() for record in records)


def decided(settings: Settings) -> list[str]:
    """Return the orders that inventory has decided on, as any reader sees it."""
    topics = settings.topics
    return keys(read(settings, topics.inventory_reserved, topics.inventory_rejected))


def names(orders: Sequence[OrderCreated]) -> list[str]:
    """Return the orders' keys, as `decided` does."""
    return sorted(order.key for order in orders)


def headers_of(record: Message) -> list[tuple[str, bytes]]:
    """Return a record's headers as they stand in it."""
    headers: Any = record.headers()
    return headers or []
