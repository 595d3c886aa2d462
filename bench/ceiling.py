"""What Kafka and PostgreSQL could do alone, whoever uses them: no flow on them can be faster.

Kafka: records as the order service writes them, consumed and produced again in transactions of
2,000, offsets included, by librdkafka and nothing else. PostgreSQL: inventory's own statements, as
its store calls them, in one transaction for each batch on one connection; no Kafka. A run that
warms up comes before the three that count. `ORDERS=20000` for a quick try.
"""

import os
import time
from collections.abc import Sequence
from contextlib import closing

from confluent_kafka import Consumer, KafkaError, Message, Producer, TopicPartition

from bench.drain import MANY, Backlog, servers
from bench.harness import Broken, Figure, folder, keep, say
from orderstream.contract.values import Line
from orderstream.inventory.rules import Wanted
from orderstream.inventory.store_postgres import PostgresStock
from orderstream.runtime.clock import utc_now
from orderstream.runtime.database import Database
from orderstream.runtime.settings import Settings

ORDERS = int(os.environ.get("ORDERS", "200000"))
RUNS = 3
RECORDS_OF_A_TRANSACTION = 2_000
BATCHES = (100, 500, 1_000)
WARM_UP_ORDERS = 10_000
WITHIN_S = 120.0


def run() -> list[Figure]:
    """Measure it."""
    with folder() as at, servers(at) as (settings, _):
        figures = [_kafka(settings), *_postgres(settings)]
    keep("ceiling", figures, orders=ORDERS)
    return figures


# Kafka ---------------------------------------------------------------------------------------


def _kafka(settings: Settings) -> Figure:
    Backlog(settings).put(ORDERS, MANY)
    rates: list[float] = []
    for number in range(RUNS + 1):
        rate = _consumed_and_produced(settings, number)
        say(f"ceiling: Kafka, {_shown(number)}: {rate:,.0f} records/s")
        rates.append(rate)
    name = f"Kafka alone, {RECORDS_OF_A_TRANSACTION:,} a transaction"
    return Figure(name, "records/s", "", rates[1:])


def _consumed_and_produced(settings: Settings, number: int) -> float:
    """Read the backlog from its start into the next topic; return records/s. Raises Broken."""
    topics = settings.topics
    consumer = Consumer(
        settings.kafka()
        | {
            "group.id": f"bench-ceiling-{number}",
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
        }
    )
    producer = Producer(
        settings.kafka()
        | {
            "transactional.id": f"bench-ceiling-{number}",
            "partitioner": "murmur2_random",
            "linger.ms": 5,
            "retry.backoff.ms": 5,  # Else a commit waits for it.
            "log_level": 3,
        }
    )
    with closing(consumer):
        producer.init_transactions(30)
        consumer.assign(
            [TopicPartition(topics.order_created, n, 0) for n in range(settings.partitions)]
        )
        records: list[Message] = []
        while not records:  # Not counted: connecting.
            records = _records(consumer)
        began = time.perf_counter()
        done = 0
        while done < ORDERS:
            _transaction(consumer, producer, topics.inventory_reserved, records)
            done += len(records)
            if time.perf_counter() - began > WITHIN_S:
                raise Broken(f"{done:,} of {ORDERS:,} records in {WITHIN_S:g} s")
            records = _records(consumer) if done < ORDERS else []
        return done / (time.perf_counter() - began)


def _records(consumer: Consumer) -> list[Message]:
    found = consumer.consume(RECORDS_OF_A_TRANSACTION, 1.0)
    for record in found:
        if (error := record.error()) and error.code() != KafkaError._PARTITION_EOF:
            raise Broken(f"Kafka: {error}")
    return [record for record in found if not record.error()]


def _transaction(
    consumer: Consumer, producer: Producer, topic: str, records: Sequence[Message]
) -> None:
    producer.begin_transaction()
    producer.produce_batch(
        topic, [{"value": record.value(), "key": record.key()} for record in records]
    )
    producer.send_offsets_to_transaction(
        consumer.position(consumer.assignment()), consumer.consumer_group_metadata()
    )
    producer.commit_transaction()


# PostgreSQL ----------------------------------------------------------------------------------


def _postgres(settings: Settings) -> list[Figure]:
    figures: list[Figure] = []
    next_id = 1
    with closing(Database(settings.dsn(), "inventory", pool_max=1)) as database:
        stock = PostgresStock(database)
        for size in BATCHES:
            rates: list[float] = []
            for number in range(RUNS + 1):
                count = ORDERS if number else min(ORDERS, WARM_UP_ORDERS)
                orders = [_wanted(n) for n in range(next_id, next_id + count)]
                next_id += count
                rates.append(_settled(database, stock, orders, size))
                say(
                    f"ceiling: PostgreSQL, {size:,} a transaction, {_shown(number)}:"
                    f" {rates[-1]:,.0f} orders/s"
                )
            name = f"PostgreSQL alone, {size:,} a transaction"
            figures.append(Figure(name, "orders/s", "", rates[1:]))
    return figures


def _wanted(number: int) -> Wanted:
    return Wanted(f"ceiling-{number}", (Line(MANY[number % len(MANY)], 1),))


def _settled(
    database: Database, stock: PostgresStock, orders: Sequence[Wanted], size: int
) -> float:
    began = time.perf_counter()
    for start in range(0, len(orders), size):
        with database.transaction() as tx:
            stock.settle(tx, orders[start : start + size], utc_now())
    return len(orders) / (time.perf_counter() - began)


def _shown(number: int) -> str:
    return f"run {number}" if number else "warm-up"
