"""The example in JavaScript against a real broker: KafkaJS orders, and hears what became of it."""

import os
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from confluent_kafka import Producer

from orderstream.orders.ids import partition_of
from orderstream.runtime.settings import Settings
from orderstream.runtime.stage import Output
from tests.flow.installation import Installation
from tests.interop.node import ready
from tests.kafka.topics import QUIET, put
from tests.test_documented import TOP
from tests.waiting import until

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
KEYS = ("1", "12", "123", "1234", "100000002", "web-7", "grüße 2", "🍕", "x" * 128)


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ready(TOP / "examples" / "kafkajs", tmp_path_factory.mktemp("examples"))


@pytest.fixture
def env(settings: Settings) -> dict[str, str]:
    mine = {"KAFKA_BOOTSTRAP_SERVERS": settings.kafka_bootstrap_servers or ""}
    return {**os.environ, **mine, "TRACEPARENT": TRACE}


Produce = Callable[..., str]


@pytest.fixture
def produce(example: Path, env: dict[str, str]) -> Produce:
    """Runs the producer; returns what it prints."""

    def run(*arguments: str, code: int = 0) -> str:
        done = subprocess.run(
            ["node", "producer.mjs", *arguments],
            cwd=example,
            env=env,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == code, done.stderr
        return done.stderr if code else done.stdout

    return run


class Reading:
    """A consumer that runs."""

    def __init__(self, example: Path, env: dict[str, str], group: str, log: Path) -> None:
        self._log = log
        with log.open("w") as output:
            self.process = subprocess.Popen(
                ["node", "consumer.mjs"],
                cwd=example,
                env={**env, "KAFKA_GROUP_ID": group},
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def lines(self) -> list[str]:
        return self._log.read_text("utf-8").splitlines()

    def line_of(self, order_id: str) -> str:
        """Return what is said of an order, once it is."""

        def look() -> str | None:
            assert self.process.poll() is None, self.lines()
            return next((line for line in self.lines() if f"order {order_id} " in line), None)

        return until(look, what=f"order {order_id} is heard of")

    def end(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(20)


Read = Callable[[str], Reading]


@pytest.fixture
def reading(example: Path, env: dict[str, str], tmp_path: Path) -> Iterator[Read]:
    """Starts consumers of a group each, and ends them."""
    started: list[Reading] = []

    def start(group: str) -> Reading:
        started.append(Reading(example, env, group, tmp_path / f"{len(started)}.log"))
        return started[-1]

    yield start
    for one in started:
        if one.process.poll() is None:
            one.process.kill()
            one.process.wait()


class TestTheProducer:
    def test_places_an_order_that_is_decided_and_heard_of(
        self, running: Installation, produce: Produce, reading: Read
    ) -> None:
        produce("js-1", "ABC-001=2", "MUG=1")
        produce("grüße 1", "RARE-1=9")
        page = running.decided("js-1")
        assert page["status"] == "CONFIRMED"
        assert page["items"] == [{"sku": "ABC-001", "qty": 2}, {"sku": "MUG", "qty": 1}]
        assert running.decided("grüße 1")["status"] == "REJECTED"
        consumer = reading("story")
        assert consumer.line_of("js-1") == (
            "inventory.reserved  order js-1  2 x ABC-001, 1 x MUG"
            f"  js-1:inventory.reserved  {TRACE}"
        )
        assert consumer.line_of("grüße 1") == (
            "inventory.rejected  order grüße 1  9 x RARE-1 (OUT_OF_STOCK: RARE-1)"
            f"  grüße 1:inventory.rejected  {TRACE}"
        )

    def test_puts_an_order_into_the_partition_that_ours_would(
        self, produce: Produce, settings: Settings
    ) -> None:
        for key in KEYS:
            (partition,) = re.findall(r"order\.created\[(\d+)\]@\d+$", produce(key, "MUG=1"))
            assert int(partition) == partition_of(key.encode(), settings.partitions), key

    def test_of_one_order_twice_places_one(
        self, running: Installation, produce: Produce, settings: Settings
    ) -> None:
        before = on_shelf(running)
        produce("twice", "P-1=3")
        produce("twice", "P-1=3")
        running.decided("twice")
        behind = in_the_partition_of(b"twice", settings)
        produce(behind, "P-1=1")
        running.decided(behind)  # And so is whatever was before it.
        assert before - on_shelf(running) == 4

    @pytest.mark.parametrize("arguments", [(), ("1",), ("1", "MUG"), ("1", "MUG=x"), ("1", "=1")])
    def test_says_how_it_is_called(self, arguments: tuple[str, ...], produce: Produce) -> None:
        assert "usage: node producer.mjs" in produce(*arguments, code=2)


def on_shelf(running: Installation) -> int:
    return running.http.get(f"{running.url('inventory')}/api/stock/P-1").json()["available"]


class TestTheConsumer:
    def test_ends_when_it_is_told_to_and_goes_on_where_it_was(
        self, running: Installation, reading: Read
    ) -> None:
        order = {"orderId": "before", "productId": "MUG", "quantity": 1}
        assert running.place(order, traceparent=TRACE).status_code == 202
        first = reading("again")
        first.line_of("before")
        assert first.end() == 0
        assert running.place(order | {"orderId": "after"}).status_code == 202
        second = reading("again")
        assert second.line_of("after").endswith("  after:inventory.reserved  -")
        assert second.end() == 0
        assert not [line for line in second.lines() if "order before " in line]

    def test_sees_nothing_of_a_transaction_that_was_given_up(
        self, running: Installation, reading: Read, settings: Settings
    ) -> None:
        give_up(settings, settings.topics.inventory_reserved, b"ghost")
        behind = in_the_partition_of(b"ghost", settings)
        running.place({"orderId": behind, "productId": "MUG", "quantity": 1})
        consumer = reading("committed")
        consumer.line_of(behind)
        assert not [line for line in consumer.lines() if "order ghost " in line]

    def test_says_what_is_no_event_and_goes_on(
        self, running: Installation, reading: Read, settings: Settings
    ) -> None:
        put(settings, Output(settings.topics.inventory_rejected, b"plain", b"{}", []))
        put(settings, Output(settings.topics.inventory_rejected, b"plain", b"{", EVENT_HEADERS))
        behind = in_the_partition_of(b"plain", settings)
        running.place({"orderId": behind, "productId": "RARE-1", "quantity": 99})
        consumer = reading("strange")
        consumer.line_of(behind)
        said = [line for line in consumer.lines() if line.startswith("passed over")]
        assert len(said) == 2
        assert said[0].endswith("no ce_id")
        assert "JSON" in said[1]


EVENT_HEADERS = [
    ("ce_id", b"plain:inventory.rejected"),
    ("ce_type", b"inventory.rejected"),
    ("ce_source", b"/orderstream/inventory"),
    ("ce_specversion", b"1.0"),
]


def in_the_partition_of(key: bytes, settings: Settings) -> str:
    """Return an order id whose records come behind those of a key."""
    wanted = partition_of(key, settings.partitions)
    ids = (f"behind-{key.decode()}-{number}" for number in range(100))
    return next(i for i in ids if partition_of(i.encode(), settings.partitions) == wanted)


def give_up(settings: Settings, topic: str, key: bytes) -> None:
    """Write a record in a transaction that is aborted."""
    producer = Producer(
        settings.kafka(**QUIET) | {"transactional.id": "ghost", "partitioner": "murmur2_random"}
    )
    producer.init_transactions(30)
    producer.begin_transaction()
    value = b'{"orderId":"ghost","items":[]}'
    producer.produce(topic, value, key, headers=list(EVENT_HEADERS))
    assert producer.flush(30) == 0
    producer.abort_transaction(30)
