"""What an event costs analytics, and whether a replay comes to the same numbers.

A million events (`EVENTS`) of an hour's orders lie on their topics: accepted, decided, one in
twenty cancelled and released, two in five fulfilled; nearly every order is another user's. One
analytics service reads them all, alone; CPU counts its own and PostgreSQL's. Then it is replayed
from the beginning, and every table has to have the same rows, byte for byte.
"""

import os
import random
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta

import psycopg
from confluent_kafka import Producer
from psycopg import sql

from bench.drain import drain, servers
from bench.harness import Broken, Figure, folder, keep, say
from orderstream.contract.events import (
    Event,
    InventoryRejected,
    InventoryReleased,
    InventoryReserved,
    OrderCancelled,
    OrderCreated,
    OrderFulfilled,
    encode,
)
from orderstream.contract.topics import Topics
from orderstream.contract.values import Line
from orderstream.runtime.replay import Target
from orderstream.runtime.settings import Settings
from orderstream.wiring.replays import replay_of

EVENTS = int(os.environ.get("EVENTS", "1000000"))
SKUS = int(os.environ.get("SKUS", "100"))
USERS = int(os.environ.get("USERS", "1000000"))
RUNS = 3
FIRST_ID = 100_000_000
BEGAN = datetime(2026, 11, 21, 12, tzinfo=UTC)
HOUR_S = 3600.0
TRANSACTION = 2000  # Records, as inventory writes them.
EVENTS_PER_ORDER = 2.5
TABLES = (
    "SELECT * FROM counted ORDER BY order_id",
    "SELECT * FROM counted_numbers ORDER BY block",
    "SELECT * FROM per_outcome ORDER BY outcome",
    "SELECT * FROM per_minute ORDER BY minute, outcome",
    "SELECT * FROM per_sku ORDER BY sku",
    "SELECT * FROM sku_minute ORDER BY minute, sku",
    "SELECT * FROM sku_quarter ORDER BY minute, sku",
    "SELECT * FROM user_minute ORDER BY minute, user_id, outcome",
    "SELECT * FROM latency ORDER BY bucket",
    "SELECT * FROM latency_minute ORDER BY minute, bucket",
    "SELECT * FROM position ORDER BY topic, partition",
)


def run() -> list[Figure]:
    """Measure it."""
    cost: list[float] = []
    own: list[float] = []
    rates: list[float] = []
    with folder() as at, servers(at) as (settings, env):
        written = put(settings, events(settings.topics, int(EVENTS / EVENTS_PER_ORDER)))
        say(f"analytics: {written:,} events lie on the log")
        first: dict[str, str] = {}
        for number in range(1, RUNS + 1):
            done = drain("analytics", settings, env, written)
            found = tables(settings)
            if first and found != first:
                other = [name for name in TABLES if found[name] != first[name]]
                raise Broken(f"a replay came to other numbers: {other}")
            first = found
            own.append(done.cpu_us["the service"])
            cost.append(done.cpu_us["the service"] + done.cpu_us["PostgreSQL"])
            rates.append(done.orders_per_s)
            cpu = ", ".join(f"{who} {us:.2f}" for who, us in done.cpu_us.items())
            say(f"analytics {number}: {done.orders_per_s:,.0f} events/s; us an event: {cpu}")
            if number < RUNS:
                job = replay_of("analytics", settings)
                while job.members():  # Kafka forgets a worker 6 s after it ended.
                    time.sleep(0.2)
                job.run(job.plan(Target()))
        size = bytes_of(settings)
    same = [f"{len(TABLES)} tables the same after {RUNS - 1} replays of {written:,} events"]
    figures = [
        Figure("CPU of an event, service and PostgreSQL", "us", "< 10", cost, same),
        Figure("  of the service alone", "us", "", own),
        Figure("events counted, one worker", "events/s", "", rates),
        Figure("kept of an event, indexes included", "bytes", "", [size / written]),
    ]
    keep("analytics", figures, events=written, skus=SKUS, users=USERS)
    return figures


def events(topics: Topics, orders: int) -> Iterator[tuple[str, Event]]:
    """Yield the events of so many orders and their topics, in the order of their time."""
    chance = random.Random(1)
    for number in range(orders):
        created = BEGAN + timedelta(seconds=HOUR_S * number / orders)
        decided = created + timedelta(milliseconds=chance.lognormvariate(3, 1))
        order_id, user = FIRST_ID + number, chance.randrange(USERS)
        items = (Line(f"SKU-{chance.randrange(SKUS):05}", chance.randint(1, 3)),)
        yield (
            topics.order_created,
            OrderCreated(order_id=order_id, items=items, user_id=user, created_at=created),
        )
        if number % 16 == 0:
            yield (
                topics.inventory_rejected,
                InventoryRejected(
                    order_id=order_id,
                    items=items,
                    user_id=user,
                    ordered_at=created,
                    decided_at=decided,
                    reason="OUT_OF_STOCK",
                    short=(items[0].sku,),
                ),
            )
            continue
        yield (
            topics.inventory_reserved,
            InventoryReserved(
                order_id=order_id,
                items=items,
                user_id=user,
                ordered_at=created,
                decided_at=decided,
            ),
        )
        over = decided + timedelta(seconds=chance.expovariate(1 / 600))
        if number % 20 == 1:
            yield (
                topics.order_cancelled,
                OrderCancelled(order_id=order_id, cancelled_at=over, user_id=user),
            )
            yield (
                topics.inventory_released,
                InventoryReleased(
                    order_id=order_id,
                    items=items,
                    user_id=user,
                    released_at=over,
                    cause="CANCELLED",
                ),
            )
        elif number % 5 in (2, 3):
            ended = OrderFulfilled(order_id=order_id, fulfilled_at=over, user_id=user)
            yield topics.order_fulfilled, ended


def put(settings: Settings, events: Iterator[tuple[str, Event]]) -> int:
    """Write events as the services do: orders alone, all else in transactions."""
    shared = settings.kafka() | {
        "enable.idempotence": True,
        "acks": "all",
        "partitioner": "murmur2_random",
        "linger.ms": 20,
        "queue.buffering.max.messages": 1_000_000,
    }
    plain, results = Producer(shared), Producer(shared | {"transactional.id": "bench-analytics"})
    results.init_transactions(30)
    results.begin_transaction()
    written = 0
    for topic, event in events:
        producer = plain if topic == settings.topics.order_created else results
        producer.produce(topic, encode(event), event.key.encode())
        written += 1
        if written % TRANSACTION == 0:
            results.commit_transaction(30)
            results.begin_transaction()
            plain.poll(0)
    results.commit_transaction(30)
    if plain.flush(60):
        raise Broken("the events could not be put on Kafka")
    return written


def tables(settings: Settings) -> dict[str, str]:
    """Return a digest of every table's rows."""
    with closing(psycopg.connect(settings.dsn(), options="-c search_path=analytics")) as connection:
        return {
            query: str(
                connection.execute(
                    sql.SQL("SELECT count(*), md5(string_agg(r::text, '|')) FROM ({}) AS r").format(
                        sql.SQL(query)
                    )
                ).fetchone()
            )
            for query in TABLES
        }


def bytes_of(settings: Settings) -> float:
    """Return what all tables take."""
    with closing(psycopg.connect(settings.dsn())) as connection:
        row = connection.execute(
            "SELECT sum(pg_total_relation_size(oid)) FROM pg_class"
            " WHERE relnamespace = 'analytics'::regnamespace AND relkind = 'r'"
        ).fetchone()
    assert row is not None
    return float(row[0])
