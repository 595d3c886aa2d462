"""The example in Java against a real broker: Spring Kafka orders, and hears what became of it.

Maven's build takes more than a minute where nothing is cached, so this is for `make chaos`. What
Spring's JsonSerializer writes is read in every run by tests/flow/test_presets.py.
"""

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from bench.peers.builds import Missing, by_maven

from tests.flow.installation import Installation
from tests.flow.test_presets import published, settings_of, topology
from tests.kafka.topics import read
from tests.programs import missing
from tests.test_documented import TOP
from tests.waiting import until

pytestmark = pytest.mark.chaos


@pytest.fixture(scope="module")
def program() -> tuple[Path, Path]:
    """The `java` and the jar: built if we may, or the tests are skipped, or fail in CI."""
    try:
        return by_maven("spring-kafka", TOP / "examples" / "spring-kafka")
    except Missing as why:
        missing(f"{why}: `apt-get install maven default-jdk` (as root) brings it")


@pytest.fixture(scope="module")
def running() -> Iterator[Installation]:
    with topology("order-created-event") as running:
        yield running


@dataclass
class Shop:
    """The example as it runs."""

    process: subprocess.Popen[bytes]
    log: Path

    def says(self, what: str) -> None:
        def look() -> bool:
            assert self.process.poll() is None, self.log.read_text("utf-8")
            return what in self.log.read_text("utf-8")

        until(look, what=what)


@contextmanager
def shop(program: tuple[Path, Path], running: Installation, *words: str) -> Iterator[Shop]:
    """Run the example until the end of the block; what it prints is in the file."""
    java, jar = program
    log = running.home / f"spring-{len(list(running.home.glob('spring-*.log')))}.log"
    kafka = settings_of(running).kafka_bootstrap_servers or ""
    with log.open("w") as output:
        process = subprocess.Popen(
            [str(java), "-jar", str(jar), *words],
            env={**os.environ, "KAFKA_BOOTSTRAP_SERVERS": kafka},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        yield Shop(process, log)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 143
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


class TestTheExample:
    def test_places_an_order_and_hears_what_became_of_it(
        self, program: tuple[Path, Path], running: Installation
    ) -> None:
        with shop(program, running, "web-7", "ABC-001=2", "MUG=1") as example:
            example.says("sent      order web-7  order-created-event-")
            example.says("reserved  order web-7  [Line[sku=ABC-001, qty=2], Line[sku=MUG, qty=1]]")
            running.place({"orderId": "much", "productId": "RARE-1", "quantity": 99})
            example.says("rejected  order much  OUT_OF_STOCK")
        page = running.decided("web-7")
        assert (page["status"], page["userId"]) == ("CONFIRMED", "ann")

    def test_has_springs_type_headers_and_time(
        self, program: tuple[Path, Path], running: Installation
    ) -> None:
        with shop(program, running, "typed", "P-1=1") as example:
            example.says("reserved  order typed")
        (event,) = published(running, "order-created-event", "typed")
        assert {"orderId", "customerId", "items", "createdAt"} == event.keys()
        (record,) = [
            one
            for one in read(settings_of(running), "order-created-event")
            if one.key() == b"typed"
        ]
        assert dict(record.headers() or ()) == {"__TypeId__": b"shop.OrderCreatedEvent"}
