"""A stage's service says that it is not ready while Kafka is away, though it has nothing to do."""

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from orderstream.runtime.settings import Settings
from tests.brokers import OwnKafka
from tests.conftest import own_settings
from tests.orders.service import environment
from tests.ports import own_port
from tests.waiting import until


@pytest.fixture
def settings(own_kafka: OwnKafka, dsn: str) -> Settings:
    return own_settings(own_kafka.start(), dsn, ORDERSTREAM_PORT_VIEW=str(own_port()))


@pytest.fixture
def view(settings: Settings, tmp_path: Path) -> Iterator[str]:
    """The address of a view service that has nothing to read."""
    with (tmp_path / "view.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "orderstream", "serve", "view"],
            env=environment(settings),
            cwd=tmp_path,
            stdout=log,
            stderr=log,
        )
    yield settings.address("view")
    process.terminate()
    process.wait(20)


def test_kafka_that_is_away_is_named_until_it_is_back(own_kafka: OwnKafka, view: str) -> None:
    def readyz() -> httpx.Response | None:
        try:
            return httpx.get(f"{view}/readyz", timeout=15, trust_env=False)
        except httpx.ConnectError:
            return None

    def is_ready() -> bool:
        answer = readyz()
        return answer is not None and answer.status_code == 200

    def names_kafka() -> bool:
        began = time.monotonic()
        answer = readyz()
        assert answer is not None
        assert time.monotonic() - began < 5
        return answer.status_code == 503 and "kafka" in answer.json()["faults"]

    until(is_ready, what="ready")
    own_kafka.freeze()
    until(names_kafka, 15, "Kafka does not answer")
    own_kafka.resume()
    until(is_ready, 15, "ready when Kafka answers again")
    own_kafka.kill()
    until(names_kafka, 15, "Kafka is killed")
    own_kafka.start()
    until(is_ready, what="ready when Kafka is there again")
