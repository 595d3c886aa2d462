"""A backlog drained by one worker of each service, and what an order costs there.

Orders are put on `order.created` as the order service writes them, while nothing reads. Then each
service runs alone, as a process of its own: inventory, and on its results view, notification and
analytics. Rate and CPU count from the first progress that is seen, so that no start is in them.
Once more for inventory with one SKU for all orders, as often. `ORDERS=1000000` for more.
"""

import os
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from confluent_kafka import Producer

from bench.harness import (
    COMMAND,
    Broken,
    Figure,
    environment,
    folder,
    free_ports,
    keep,
    say,
    tree_cpu_s,
    verify,
)
from orderstream.contract.envelope import Envelope
from orderstream.contract.events import OrderCreated, encode
from orderstream.contract.topics import Topics
from orderstream.contract.values import Line
from orderstream.flow import SERVICES, flow
from orderstream.inventory.store_postgres import PostgresStock
from orderstream.local import kafka, postgres
from orderstream.runtime.admin import Admin
from orderstream.runtime.clock import utc_now
from orderstream.runtime.database import Database
from orderstream.runtime.settings import Settings
from orderstream.wiring.setup import prepare

ORDERS = int(os.environ.get("ORDERS", "200000"))
RUNS = 3
MANY = [f"LOAD-{n:04}" for n in range(1, 101)]  # As `orderstream load` orders them.
HOT = ["HOT-1"]
PLENTY = 1_000_000_000
FIRST_ID = 100_000_000
LOOK_EVERY_S = 0.05
WITHIN_S = 300.0
STEPS = (
    ("inventory, one SKU", "inventory", HOT),
    ("inventory", "inventory", MANY),
    ("view", "view", []),
    ("notification", "notification", []),
    ("analytics", "analytics", []),
)
US = 1_000_000

Cpu = dict[str, float]  # Seconds, by who used them.


@dataclass(frozen=True)
class Drained:
    """What one service did with one backlog; CPU in microseconds for each order."""

    orders_per_s: float
    cpu_us: Cpu


def run() -> list[Figure]:
    """Measure it."""
    drained: dict[str, list[Drained]] = {}
    with folder() as at, servers(at) as (settings, env):
        backlog = Backlog(settings)
        for number in range(1, RUNS + 1):
            for shown, name, skus in STEPS:
                if skus:
                    backlog.put(ORDERS, skus)
                    done = drain(name, settings, env, ORDERS)
                else:  # They read both backlogs.
                    done = drain(name, settings, env, 2 * ORDERS)
                drained.setdefault(shown, []).append(done)
                cpu = ", ".join(f"{who} {us:.1f}" for who, us in done.cpu_us.items())
                say(f"drain {number}: {shown}: {done.orders_per_s:,.0f} orders/s; us: {cpu}")
        proof = audited(settings, env)
    figures: list[Figure] = []
    for shown, runs in drained.items():
        target = ">= 15,000" if shown == "inventory" else ""
        rates = [done.orders_per_s for done in runs]
        figures.append(Figure(f"backlog drained, {shown}", "orders/s", target, rates))
        for who in runs[0].cpu_us:
            figures.append(
                Figure(f"  CPU of {who}", "us/order", "", [done.cpu_us[who] for done in runs])
            )
    ratio = [
        hot.orders_per_s / many.orders_per_s
        for hot, many in zip(drained["inventory, one SKU"], drained["inventory"], strict=True)
    ]
    figures.append(Figure("one SKU against many, inventory", "", ">= 0.8", ratio))
    keep("drain", figures, proof, orders=ORDERS)
    return figures


@contextmanager
def servers(at: Path, **more: str) -> Iterator[tuple[Settings, Mapping[str, str]]]:
    """Run Kafka and PostgreSQL with every topic and schema, and no service; `more` is set."""
    env = environment(at / "home") | more
    local = Settings.load(env)
    local.home.mkdir(parents=True)
    broker = kafka.start(local.home, port=local.port_kafka)
    try:
        store = postgres.start(local.home)
        env |= {"KAFKA_BOOTSTRAP_SERVERS": broker.bootstrap_servers, "DATABASE_URL": store.dsn}
        settings = Settings.load(env)
        prepare(settings, *SERVICES)
        with closing(Database(settings.dsn(), "inventory")) as database:
            PostgresStock(database).set_on_hand([(sku, PLENTY) for sku in (*MANY, *HOT)])
        yield settings, env
    finally:
        postgres.stop(local.home)
        kafka.stop(local.home)


class Backlog:
    """Puts orders on the log, each with the next id."""

    def __init__(self, settings: Settings) -> None:
        self._topic = settings.topics.order_created
        self._next_id = FIRST_ID
        self._envelope = Envelope("order.created", "/orderstream/orders")
        self._producer = Producer(
            settings.kafka()
            | {
                "enable.idempotence": True,
                "acks": "all",
                "partitioner": "murmur2_random",
                "linger.ms": 20,
                "queue.buffering.max.messages": 1_000_000,
            }
        )

    def put(self, orders: int, skus: list[str]) -> None:
        """Order one of each SKU in turn."""
        for number in range(orders):
            user = number % len(skus)
            self._next_id += 1
            now = utc_now()
            order = OrderCreated(
                order_id=self._next_id,
                user_id=user + 1,
                items=(Line(skus[user], 1),),
                created_at=now,
            )
            key = order.key.encode()
            headers = self._envelope.headers(key, now)
            self._producer.produce(self._topic, encode(order), key, headers=headers)  # pyright: ignore[reportArgumentType] - list is invariant
            if number % 1000 == 0:
                self._producer.poll(0)
        if self._producer.flush(60):
            raise Broken("the backlog could not be put on Kafka")


def drain(
    name: str, settings: Settings, env: Mapping[str, str], orders: int, workers: int = 1
) -> Drained:
    """Run so many workers of a service until they have read everything. Raises Broken."""
    admin = Admin(settings.kafka())
    group = settings.group(name)
    reads = next(step.reads for step in flow(settings.topics) if step.service == name)
    whole = left_of(admin, group, reads, settings.topics)
    deadline = time.monotonic() + WITHIN_S
    with ExitStack() as stack:
        services = [
            stack.enter_context(serving(name, settings, env, worker)) for worker in range(workers)
        ]
        began: tuple[float, Cpu, int] | None = None
        while True:
            time.sleep(LOOK_EVERY_S)
            now, cpu = time.perf_counter(), cpu_of(services, settings)
            left = left_of(admin, group, reads, settings.topics)
            if began is None and left < whole:
                began = now, cpu, left
            if left == 0:
                break
            ended = any(service.poll() is not None for service in services)
            if ended or time.monotonic() > deadline:
                raise Broken(f"{name} has {left:,} records left, and does not get on")
    assert began is not None
    since, before, at_first = began
    if now == since:
        raise Broken(f"{name} read {whole:,} records between two looks: take more ORDERS")
    counted = orders * at_first / whole
    return Drained(
        counted / (now - since), {who: (cpu[who] - before[who]) * US / counted for who in cpu}
    )


def audited(settings: Settings, env: Mapping[str, str]) -> str:
    """Have every stage read what it has not read yet; return what `verify` says. Raises Broken."""
    with all_stages(settings, env):
        return verify(env)


@contextmanager
def all_stages(settings: Settings, env: Mapping[str, str]) -> Iterator[None]:
    """Run each service that reads the log, one worker each; the order service does not."""
    with ExitStack() as stack:
        for name in SERVICES:
            if name != "order":
                stack.enter_context(serving(name, settings, env, 0))
        yield


def left_of(admin: Admin, group: str, reads: tuple[str, ...], topics: Topics) -> int:
    """Count what a group has not read: the mark that ends a transaction takes an offset too."""
    left = 0
    for lag in admin.lag(group, reads):
        unread = lag.end - (lag.committed or 0)
        left += unread if lag.topic == topics.order_created or unread > 1 else 0
    return left


@contextmanager
def serving(
    name: str, settings: Settings, env: Mapping[str, str], worker: int
) -> Iterator[subprocess.Popen[bytes]]:
    own = {"ORDERSTREAM_WORKER": str(worker)}
    if worker:  # The first is where the settings say.
        own[f"ORDERSTREAM_PORT_{name.upper()}"] = str(*free_ports(1))
    with (settings.home / f"{name}.log").open("ab") as log:
        process = subprocess.Popen(
            [*COMMAND, "serve", name],
            env={**env, **own},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


def cpu_of(services: Sequence[subprocess.Popen[bytes]], settings: Settings) -> Cpu:
    store = postgres.status(settings.home).pid
    assert store is not None
    return {
        "the service": tree_cpu_s(*(service.pid for service in services)),
        "PostgreSQL": tree_cpu_s(store),
        "Kafka": tree_cpu_s(*kafka.status(settings.home).pids),
    }
