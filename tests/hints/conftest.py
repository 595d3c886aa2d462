"""A real Redis, and those that are worse."""

import socket
from collections.abc import Iterator
from contextlib import closing

import pytest

from tests.own_redis import OwnRedis


@pytest.fixture(scope="package")
def own_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnRedis]:
    with OwnRedis.at_hand(tmp_path_factory.mktemp("redis")) as redis:
        yield redis


@pytest.fixture
def redis(own_redis: OwnRedis) -> OwnRedis:
    own_redis.client.flushall()
    return own_redis


@pytest.fixture
def hanging() -> Iterator[str]:
    """The address of a server that takes connections and says nothing."""
    with closing(socket.create_server(("127.0.0.1", 0), backlog=100)) as server:
        yield f"redis://127.0.0.1:{server.getsockname()[1]}/0"
