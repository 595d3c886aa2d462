"""Keeps processes running: starts what dies again, with a growing delay, and shows their logs."""

import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from orderstream.local.guard import Guard

AGAIN_FIRST_S = 0.5
AGAIN_MAX_S = 30.0
HEALTHY_AFTER_S = 30.0  # A process that lived this long starts again at once.
LOOK_EVERY_S = 0.1
STOP_TIMEOUT_S = 6.0
LINES_PER_LOOK = 30
LOG_BYTES_MAX = 50_000_000  # A longer log is put aside as `.1`, in place of the one before.

Show = Callable[[str, str], None]


@dataclass
class _Kept:
    """One process that is to run, and how it has fared."""

    name: str
    command: Sequence[str]
    env: Mapping[str, str]
    log: Path
    held: Callable[[], bool]
    process: subprocess.Popen[bytes] | None = None
    began: float = 0.0
    again_at: float = 0.0
    delay_s: float = AGAIN_FIRST_S
    asked_at: float | None = None  # To end, since it is held back.
    read: int = 0  # Bytes of the log that were shown.
    rest: bytes = b""


@dataclass
class Supervisor:
    """Runs named processes until `stop`. Each is in a session of its own: Ctrl-C ends only us.

    Their output goes to a file each, so that a full terminal or our own death never blocks them;
    `show` is called with name and line of what is new, at most some hundred lines a second.
    """

    guard: Guard
    show: Show
    _kept: list[_Kept] = field(default_factory=list[_Kept])

    def keep(
        self,
        name: str,
        command: Sequence[str],
        env: Mapping[str, str],
        log: Path,
        held: Callable[[], bool] = lambda: False,
    ) -> None:
        """Start a process and keep it running, except while `held` says that it is held back."""
        log.parent.mkdir(parents=True, exist_ok=True)
        read = log.stat().st_size if log.exists() else 0
        kept = _Kept(name, command, env, log, held, read=read)
        self._kept.append(kept)
        self._start(kept)

    def run(self, until: threading.Event, also: Callable[[], None] = lambda: None) -> None:
        """Supervise until the event is set; `also` is called on each round."""
        while not until.wait(LOOK_EVERY_S):
            for kept in self._kept:
                self._look(kept)
                self._tail(kept)
            also()

    def stop(self) -> None:
        """End every process: SIGTERM, and SIGKILL for what is still there after 6 s."""
        running = [
            (k.name, k.process) for k in self._kept if k.process and k.process.poll() is None
        ]
        for _, process in running:
            process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + STOP_TIMEOUT_S
        killed: list[str] = []
        for name, process in running:
            try:
                process.wait(max(deadline - time.monotonic(), 0.01))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                killed.append(name)
        for name in killed:  # Only now: a terminal may be gone, or not be read from.
            self.show(name, f"had not ended within {STOP_TIMEOUT_S:g} s; killed")
        for kept in self._kept:
            self._tail(kept)

    def _start(self, kept: _Kept) -> None:
        with kept.log.open("ab") as output:
            kept.process = subprocess.Popen(
                list(kept.command),
                env=dict(kept.env),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        kept.began = time.monotonic()
        self.guard.watch(kept.process.pid)

    def _look(self, kept: _Kept) -> None:
        process, now = kept.process, time.monotonic()
        if kept.held():
            self._hold(kept, now)
        elif process is not None and process.poll() is not None:
            if now - kept.began > HEALTHY_AFTER_S:
                kept.delay_s = AGAIN_FIRST_S
            how = _how(process.returncode)
            self.show(kept.name, f"ended by {how}; starting it again in {kept.delay_s:g} s")
            kept.process = None
            kept.again_at = now + kept.delay_s
            kept.delay_s = min(kept.delay_s * 2, AGAIN_MAX_S)
        elif process is None and now >= kept.again_at:
            self._start(kept)

    def _hold(self, kept: _Kept, now: float) -> None:
        """End a process, hard after 6 s; it starts at once when it is no longer held back."""
        process = kept.process
        if process is None or process.poll() is not None:
            kept.process, kept.asked_at, kept.again_at = None, None, now
        elif kept.asked_at is None:
            self.show(kept.name, "held back by a command; stopping it")
            kept.asked_at = now
            process.send_signal(signal.SIGTERM)
        elif now - kept.asked_at > STOP_TIMEOUT_S:
            process.kill()

    def _tail(self, kept: _Kept) -> None:
        with kept.log.open("rb") as log:
            log.seek(kept.read)
            new = log.read(1 << 20)
            kept.read += len(new)
            behind = os.fstat(log.fileno()).st_size - kept.read
            if behind > (1 << 22):  # Too much to show: go on near the end.
                kept.read += behind
        if kept.read > LOG_BYTES_MAX:
            _put_aside(kept.log)
            kept.read = 0
        *lines, kept.rest = (kept.rest + new).split(b"\n")
        for line in lines[:LINES_PER_LOOK]:
            self.show(kept.name, line.decode(errors="replace"))
        if len(lines) > LINES_PER_LOOK:
            more = len(lines) - LINES_PER_LOOK
            self.show(kept.name, f"... and {more:,} lines more, see {kept.log}")


def _put_aside(log: Path) -> None:
    """Copy the log and empty it: a process that writes at its end goes on there."""
    before = log.with_name(log.name + ".1")
    with suppress(OSError), log.open("rb") as full, before.open("wb") as old:
        shutil.copyfileobj(full, old, 1 << 20)  # As much as there is room for on a full disk.
    os.truncate(log, 0)


def _how(returncode: int) -> str:
    if returncode >= 0:
        return f"exit code {returncode}"
    try:
        return signal.Signals(-returncode).name
    except ValueError:
        return f"signal {-returncode}"
