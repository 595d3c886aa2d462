"""Ends what was started when whoever started it dies without a word.

This file is also the watchdog's own program, so it imports only the standard library.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress

_SOFT_WITHIN_S = 10.0


class Guard:
    """A watchdog process of its own that ends the watched processes should we be killed.

    It knows of our end by the pipe between us, which the system closes however we go. It ends only
    the very processes that were named: a number that has gone to a stranger is left alone. Should
    the watchdog itself be killed, the next `watch` or `forget` starts another and tells it of all.
    Any thread may call. A fork of ours without exec would keep the pipe open: spawn, never fork.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._watched: dict[int, str] = {}  # What was said of each process.
        self._watchdog = self._start()

    def _start(self) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [sys.executable, "-I", "-S", __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            start_new_session=True,
            text=True,
        )

    @property
    def pid(self) -> int:
        """The watchdog's own process."""
        return self._watchdog.pid

    def watch(self, pid: int, with_signal: int = signal.SIGTERM) -> None:
        """End this process, by this signal first, should we die; nothing if it is gone already."""
        if started := start_mark(pid):
            with self._lock:
                self._watched[pid] = f"watch {pid} {int(with_signal)} {started}"
                self._tell(self._watched[pid])

    def forget(self, pid: int) -> None:
        """Leave this process alone from now on."""
        with self._lock:
            self._watched.pop(pid, None)
            self._tell(f"forget {pid}")

    def close(self) -> None:
        """Let the watchdog go, leaving every process alone; again is harmless."""
        stdin = self._watchdog.stdin
        with suppress(BrokenPipeError):  # It went before us.
            if stdin and not stdin.closed:
                try:
                    self._write("close")
                finally:
                    stdin.close()
        self._watchdog.wait()

    def _tell(self, line: str) -> None:
        try:
            self._write(line)
        except BrokenPipeError:  # Somebody killed the watchdog.
            self.close()
            self._watchdog = self._start()
            for watched in self._watched.values():
                self._write(watched)

    def _write(self, line: str) -> None:
        assert self._watchdog.stdin is not None
        self._watchdog.stdin.write(line + "\n")
        self._watchdog.stdin.flush()


def start_mark(pid: int) -> str:
    """What tells this process from a later one with its number; empty when it does not run."""
    if os.path.exists("/proc/self/stat"):
        try:
            with open(f"/proc/{pid}/stat", "rb") as stat:
                # Behind the name, which may hold anything: state is field 3, start is field 22.
                fields = stat.read().rpartition(b")")[2].split()
        except OSError:
            return ""
        return "" if fields[0] in (b"Z", b"X") else fields[19].decode()
    shown = subprocess.run(
        ["ps", "-o", "lstart=,stat=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    *started, state = shown.stdout.split() or [""]
    return "" if state.startswith("Z") else "-".join(started)


def _watchdog() -> None:
    watched: dict[int, tuple[int, str]] = {}
    for line in sys.stdin:
        match line.split():
            case ["watch", pid, with_signal, started]:
                watched[int(pid)] = (int(with_signal), started)
            case ["forget", pid]:
                watched.pop(int(pid), None)
            case _:
                return
    for pid, (with_signal, started) in watched.items():
        _send(pid, started, with_signal)
    deadline = time.monotonic() + _SOFT_WITHIN_S
    while time.monotonic() < deadline and any(
        start_mark(pid) == started for pid, (_, started) in watched.items()
    ):
        time.sleep(0.05)
    for pid, (_, started) in watched.items():
        _send(pid, started, signal.SIGKILL)


def _send(pid: int, started: str, with_signal: int) -> None:
    if start_mark(pid) == started:
        try:
            os.kill(pid, with_signal)
        except ProcessLookupError:
            return


if __name__ == "__main__":
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)  # What ends a whole group must not end its guard.
    _watchdog()
