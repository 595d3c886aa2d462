"""Ports for the tests' servers: one run's alone, however many runs there are on this machine."""

import fcntl
import os
import tempfile
from pathlib import Path
from typing import IO

from orderstream.local.processes import free_port

LOWEST, HIGHEST = 15_000, 32_000  # Above, systems choose the ports of clients.
BLOCK = 16

_held: list[IO[str]] = []


def own_port() -> int:
    """Return a free port; it and the 15 behind it are nobody else's as long as this process lives.

    A port that was only found free is another's as soon as that one listens first.
    """
    folder = Path(tempfile.gettempdir()) / f"orderstream-test-ports-{os.getuid()}"
    folder.mkdir(exist_ok=True)
    for first in range(LOWEST, HIGHEST, BLOCK):
        lock = (folder / str(first)).open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.close()
            continue
        if all(free_port(port) == port for port in range(first, first + BLOCK)):
            _held.append(lock)
            return first
        lock.close()
    raise OSError(f"no free ports from {LOWEST} to {HIGHEST}")
