"""A disk for PostgreSQL alone that can be made full: a small file system where one can be mounted,
else a limit on the size of each file, which PostgreSQL takes as a full disk."""

import os
import resource
import subprocess
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from pathlib import Path

SIZE_KB = 4 << 20  # A tmpfs takes as much memory as lies in it.
ROOM_KB = 64
FILE_BYTES = 1 << 20
WORDS = ("No space left on device", "File too large")


class Disk:
    """Where PostgreSQL's data lie."""

    def __init__(self, folder: Path, processes: Callable[[], Iterable[int]]) -> None:
        self._folder = folder
        self._processes = processes
        self.mounted = False

    def mount(self) -> None:
        """Give PostgreSQL a file system of its own, if we may."""
        self._folder.mkdir(parents=True)
        options = f"size={SIZE_KB}k,mode=755"
        self.mounted = os.geteuid() == 0 and self._run("-t", "tmpfs", "-o", options, "none")

    def unmount(self) -> None:
        """Take it away, with what lies there."""
        if self.mounted:
            subprocess.run(["umount", "--lazy", str(self._folder)], check=True)

    def times_full(self) -> int:
        """Return how often PostgreSQL said that there was no room."""
        log = self._folder / "server.log"
        said = log.read_text("utf-8", "replace") if log.exists() else ""
        return sum(said.count(words) for words in WORDS)

    @contextmanager
    def full(self) -> Generator[None]:
        """Have no more than a little room, until the end of the block."""
        self._fill()
        try:
            yield
        finally:
            self._empty()

    def _fill(self) -> None:
        if not self.mounted:
            self._limit(FILE_BYTES)
            return
        for _ in range(20):  # It may grow between the look and the change, and cannot shrink.
            found = os.statvfs(self._folder)
            used_kb = (found.f_blocks - found.f_bfree) * found.f_frsize >> 10
            if self._run("-o", f"remount,size={used_kb + ROOM_KB}k"):
                return
        raise AssertionError("the disk could not be made small")

    def _empty(self) -> None:
        if self.mounted:
            assert self._run("-o", f"remount,size={SIZE_KB}k")
        else:
            self._limit(resource.RLIM_INFINITY)

    def _limit(self, size: int) -> None:
        for pid in self._processes():
            _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, hard))

    def _run(self, *options: str) -> bool:
        words = ["mount", *options, str(self._folder)]
        return subprocess.run(words, capture_output=True, check=False).returncode == 0
