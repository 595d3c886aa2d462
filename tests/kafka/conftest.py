"""Workers that end with their test, and a broker that a test may kill."""

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from orderstream.local import kafka as local_kafka
from orderstream.local.processes import ProcessId
from tests.kafka.workers import Workers
from tests.waiting import until


@pytest.fixture
def workers() -> Iterator[Workers]:
    with ExitStack() as stack:
        yield Workers(stack)


@dataclass(frozen=True)
class OwnKafka:
    """A broker of one test's own."""

    home: Path

    def start(self) -> str:
        """Start it, again after a kill, and return its address, which stays the same."""
        return local_kafka.start(self.home, port=34_092).bootstrap_servers

    def kill(self) -> None:
        """End it as a power cut does."""
        (pid,) = local_kafka.status(self.home).pids
        process = ProcessId.of(pid)
        os.kill(pid, signal.SIGKILL)
        until(lambda: process is None or not process.alive(), what="the broker is gone")


@pytest.fixture
def own_kafka() -> Iterator[OwnKafka]:
    home = Path(tempfile.mkdtemp(prefix="orderstream-test-"))
    yield OwnKafka(home)
    local_kafka.stop(home)
    shutil.rmtree(home)
