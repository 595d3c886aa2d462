"""Holds a service of `orderstream up` back for as long as a command works on its data.

By a file lock, which the system lets go of however its holder ends: nothing stays held back.
"""

import fcntl
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from orderstream.contract.errors import Unavailable

PATIENCE_S = 1.0  # Whoever looks holds the lock for a moment, too.


@contextmanager
def held_back(home: Path, service: str) -> Generator[None]:
    """Have `up` end every worker of the service, and start them again after the block.

    Returns at once: they are ended soon. Raises Unavailable when another command does the same, or
    when no `up` runs with this data folder.
    """
    if not _is_locked(home / "up.lock"):
        raise Unavailable(
            f"no `orderstream up` runs with ORDERSTREAM_HOME {home}: stop {service} yourself, where"
            " it runs, and leave --restart out"
        )
    file = _file(home, service)
    file.parent.mkdir(exist_ok=True)
    with file.open("w") as lock:
        deadline = time.monotonic() + PATIENCE_S
        while not _locks(lock, fcntl.LOCK_EX):
            if time.monotonic() > deadline:
                raise Unavailable(f"another command holds {service} back already")
            time.sleep(0.01)
        yield


def is_held_back(home: Path, service: str) -> bool:
    """Tell whether a command holds the service back right now."""
    return _is_locked(_file(home, service))


def _file(home: Path, service: str) -> Path:
    return home / "held" / service


def _is_locked(file: Path) -> bool:
    try:
        with file.open() as lock:
            return not _locks(lock, fcntl.LOCK_SH)
    except FileNotFoundError:
        return False


def _locks(file: IO[str], how: int) -> bool:
    try:
        fcntl.flock(file, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
