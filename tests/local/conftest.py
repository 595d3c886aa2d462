"""Homes for real servers: short-lived, and empty of processes when a test is over."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from orderstream.local import kafka, postgres
from tests.homes import own_home


@pytest.fixture
def home() -> Iterator[Path]:
    with own_home() as home:
        yield home
        kafka.stop(home)
        postgres.stop(home)
