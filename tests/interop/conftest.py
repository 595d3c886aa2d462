"""An installation that programs in other languages talk to."""

from collections.abc import Iterator

import pytest

from orderstream.runtime.settings import Settings
from tests.flow.installation import Installation, installation


@pytest.fixture(scope="module")
def running() -> Iterator[Installation]:
    """An installation that all tests of a file share."""
    with installation("--quiet", ORDERSTREAM_RETRY_BACKOFF="0.1") as running:
        yield running


@pytest.fixture(scope="module")
def settings(running: Installation) -> Settings:
    """Its settings, with the address of its Kafka."""
    kafka = f"127.0.0.1:{running.env['ORDERSTREAM_PORT_KAFKA']}"
    return Settings.load({**running.env, "KAFKA_BOOTSTRAP_SERVERS": kafka})
