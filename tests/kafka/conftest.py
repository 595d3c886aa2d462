"""Workers that end with their test, and a broker that a test may kill."""

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.brokers import OwnKafka
from tests.kafka.workers import Workers


@pytest.fixture
def workers() -> Iterator[Workers]:
    with ExitStack() as stack:
        yield Workers(stack)


@pytest.fixture
def own_kafka() -> Iterator[OwnKafka]:
    with OwnKafka.at_hand() as own_kafka:
        yield own_kafka
