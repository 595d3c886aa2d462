"""Processes that outlive us: start them detached, know them again, end them and no other."""

import fcntl
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

LOWEST = 19


@dataclass(frozen=True)
class ProcessId:
    """A process that cannot be mistaken for a later one with the same number.

    `created` is its start, in seconds since the epoch, as psutil tells it.
    """

    pid: int
    created: float

    @classmethod
    def of(cls, pid: int) -> "ProcessId | None":
        """The process that has this number now, or nothing when there is none."""
        import psutil

        try:
            return cls(pid, psutil.Process(pid).create_time())
        except psutil.NoSuchProcess:
            return None

    def alive(self) -> bool:
        """Whether it still runs; a zombie does not, nor does a stranger with its number."""
        import psutil

        try:
            process = psutil.Process(self.pid)
            if abs(process.create_time() - self.created) > 0.5:  # A clock step moves it a little.
                return False
            if process.status() != psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return False
        reap(self.pid)
        return False


def reap(pid: int) -> None:
    """Let go of a child that has ended; until then its number counts as that of a live process."""
    with suppress(ChildProcessError):  # Not our child, so for another to reap.
        os.waitpid(pid, os.WNOHANG)


def stand_back(pid: int | None = None) -> None:
    """Give a process, this one unless another is named, what nobody else wants of the processor.

    Linux weighs sessions against each other before it weighs processes (autogroup), so the lowest
    priority is asked for in both ways; and it knows a policy by which whoever wakes takes the turn
    at once (SCHED_IDLE, sched(7)). Elsewhere in one way.
    """
    os.setpriority(os.PRIO_PROCESS, pid or 0, LOWEST)
    if sys.platform == "linux":
        os.sched_setscheduler(pid or 0, os.SCHED_IDLE, os.sched_param(0))
    with suppress(OSError):
        Path(f"/proc/{pid or 'self'}/autogroup").write_text(str(LOWEST))


def spawn(
    command: Sequence[str | Path],
    output: Path,
    *,
    user: str | None = None,
    cwd: Path | None = None,
) -> ProcessId:
    """Start a process in a session of its own, as `user` if given; its output goes to a file.

    It survives us and our terminal; `alive` reaps it should it end before us.
    """
    with output.open("ab") as file:
        process = subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            start_new_session=True,
            user=user,
            cwd=cwd,
        )
    process.returncode = 0  # Not ours to wait for: Popen would warn that it still runs.
    return ProcessId.of(process.pid) or ProcessId(process.pid, 0.0)


def end(processes: Iterable[ProcessId], *, with_signal: int, within_s: float) -> bool:
    """Signal each, wait, then SIGKILL what is left; true if there was anything to end."""
    running = [process for process in processes if process.alive()]
    for process in running:
        _send(process, with_signal)
    if not wait_until(lambda: not _any_alive(running), within_s):
        for process in running:
            _send(process, signal.SIGKILL)
        wait_until(lambda: not _any_alive(running), 5.0)
    return bool(running)


def wait_until(true: Callable[[], bool], within_s: float, every_s: float = 0.02) -> bool:
    """Poll a condition until it holds; false when it did not in time."""
    deadline = time.monotonic() + within_s
    while not true():
        if time.monotonic() > deadline:
            return False
        time.sleep(every_s)
    return True


@contextmanager
def turn(lock: Path) -> Generator[None, None, None]:
    """Hold a file lock; others wait. The system lets go of it when the holder dies."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def replace_text(path: Path, text: str) -> None:
    """Write a file whole or not at all, whatever crashes."""
    fresh = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    with fresh.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)


def free_port(wanted: int, *, taken: Iterable[int] = ()) -> int:
    """The first port on 127.0.0.1 from `wanted` upwards that nothing listens on."""
    refused = set(taken)
    for port in range(wanted, 65536):
        if port not in refused and _is_free(port):
            return port
    raise OSError(f"no free port from {wanted} upwards")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        # As servers do: connections in TIME_WAIT do not make a port taken.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def _any_alive(processes: Sequence[ProcessId]) -> bool:
    return any([process.alive() for process in processes])


def _send(process: ProcessId, with_signal: int) -> None:
    if process.alive():
        try:
            os.kill(process.pid, with_signal)
        except ProcessLookupError:
            return
