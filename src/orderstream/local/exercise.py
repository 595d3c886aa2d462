"""What a broker is put through while Java watches: the requests of the order flow, for a while.

Java writes down in its ahead-of-time cache which methods were hot and how (JEP 515), so that a new
broker's compiler begins with what an old one had learned. Without it the first minutes of a broker
cost two to three times as much, and every answer waits for that.
"""

import time
from collections.abc import Sequence
from typing import Any

from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import (
    AdminClient,
    NewTopic,  # pyright: ignore[reportPrivateImportUsage]
)

PARTITIONS = 4
FOLLOWERS = 3
BATCH = 20
RECORD = b'{"orderId":1,"items":[{"sku":"ABC-001","qty":2}],"userId":42}' * 4
HEADERS: Any = [("ce_id", b"1:order.created"), ("ce_type", b"order.created")]
CREATED_WITHIN_S = 20.0
QUIET = {"log_level": 0}


def exercise(bootstrap_servers: str, seconds: float) -> int:
    """Put records through one transactional stage, with others following; return how many.

    Raises KafkaException.
    """
    config: dict[str, Any] = {"bootstrap.servers": bootstrap_servers} | QUIET
    topics = [NewTopic(name, PARTITIONS, 1) for name in ("orders", "results")]
    admin: Any = AdminClient(config)
    for created in admin.create_topics(topics).values():
        created.result(CREATED_WITHIN_S)
    source = _consumer(config, "stage", ["orders"])
    groups = [f"follower-{number}" for number in range(FOLLOWERS)]
    followers = [_consumer(config, group, ["orders", "results"]) for group in groups]
    door = Producer(config | {"enable.idempotence": True, "linger.ms": 1})
    stage = Producer(config | {"transactional.id": "stage", "linger.ms": 5})
    stage.init_transactions(CREATED_WITHIN_S)
    put = 0
    over = time.monotonic() + seconds
    while time.monotonic() < over:
        for _ in range(BATCH):
            put += 1
            door.produce("orders", RECORD, str(put), headers=HEADERS)
        door.poll(0)
        _take(source, stage)
        for follower in followers:
            if follower.consume(1_000, 0.001):
                follower.commit(asynchronous=True)
    door.flush(1)
    for consumer in (source, *followers):
        consumer.close()
    return put


def _consumer(config: dict[str, Any], group: str, topics: Sequence[str]) -> Consumer:
    consumer = Consumer(
        config
        | {
            "group.id": group,
            "isolation.level": "read_committed",
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            "fetch.wait.max.ms": 50,
        }
    )
    consumer.subscribe(list(topics))
    return consumer


def _take(source: Consumer, stage: Producer) -> None:
    records = source.consume(1_000, 0.005)
    if not records:
        return
    stage.begin_transaction()
    for record in records:
        stage.produce("results", record.value(), record.key(), headers=HEADERS)
    read = [place for place in source.position(source.assignment()) if place.offset >= 0]
    stage.send_offsets_to_transaction(read, source.consumer_group_metadata(), 10.0)
    stage.commit_transaction(10.0)
