"""Homes for real servers: short-lived, and empty of processes when a test is over."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from orderstream.local import kafka, postgres


@pytest.fixture
def home() -> Iterator[Path]:
    # Not tmp_path: pytest closes it to others, and root's PostgreSQL runs as another user.
    home = Path(tempfile.mkdtemp(prefix="os-"))
    home.chmod(0o755)
    yield home
    kafka.stop(home)
    postgres.stop(home)
    shutil.rmtree(home)
