"""Homes for real servers: short-lived, and empty of processes when a test is over."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from orderstream.local import kafka, postgres


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    kafka.stop(tmp_path)
    postgres.stop(tmp_path)
    data = postgres.status(tmp_path).data
    if data.is_dir() and tmp_path not in data.parents:  # Root's data may lie under /var/lib.
        shutil.rmtree(data.parent)
