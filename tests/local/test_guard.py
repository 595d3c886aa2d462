"""The guard ends what it watches when its owner is killed, and nothing else."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from orderstream.local.guard import Guard, start_mark
from orderstream.local.processes import wait_until

_OWNER = """
import sys, time
from orderstream.local.guard import Guard
guard = Guard()
for pid in sys.argv[1:]:
    guard.watch(int(pid))
guard.forget(int(sys.argv[-1]))
print("watching", flush=True)
time.sleep(60)
"""
_OWNER_THAT_LOST_ITS_WATCHDOG = """
import os, signal, sys, threading, time
from orderstream.local.guard import Guard, start_mark
guard = Guard()
first, others, forgotten = sys.argv[1], sys.argv[2:-1], sys.argv[-1]
guard.watch(int(first), 10)
guard.watch(int(forgotten))
lost = guard.pid
os.kill(lost, signal.SIGKILL)
while start_mark(lost):
    time.sleep(0.01)
threads = [threading.Thread(target=guard.watch, args=(int(pid),)) for pid in others]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
guard.forget(int(forgotten))
assert guard.pid != lost
print("watching", flush=True)
time.sleep(60)
"""
_STUBBORN = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("ready", flush=True)
time.sleep(60)
"""


class Children:
    """Processes that a test may start; all are gone when it is over."""

    def __init__(self) -> None:
        self.started: list[subprocess.Popen[str]] = []

    def start(self, program: str, *arguments: object) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", program, *map(str, arguments)]
        child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.started.append(child)
        return child

    def sleeper(self) -> subprocess.Popen[str]:
        child = self.start("print('ready', flush=True); import time; time.sleep(60)")
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        return child


@pytest.fixture
def children() -> Iterator[Children]:
    children = Children()
    yield children
    for child in children.started:
        child.kill()
        child.wait()
        if child.stdout:
            child.stdout.close()


def owner_of(children: Children, *pids: int) -> subprocess.Popen[str]:
    owner = children.start(_OWNER, *pids)
    assert owner.stdout is not None
    assert owner.stdout.readline() == "watching\n"
    return owner


class TestGuard:
    def test_ends_the_watched_and_spares_the_forgotten_after_a_kill(
        self, children: Children
    ) -> None:
        watched, forgotten = children.sleeper(), children.sleeper()
        owner = owner_of(children, watched.pid, forgotten.pid)
        owner.kill()
        assert watched.wait(5) == -signal.SIGTERM
        assert forgotten.poll() is None

    def test_kills_what_ignores_the_soft_signal(self, children: Children) -> None:
        stubborn, spare = children.start(_STUBBORN), children.sleeper()
        assert stubborn.stdout is not None
        assert stubborn.stdout.readline() == "ready\n"
        owner_of(children, stubborn.pid, spare.pid).kill()
        assert stubborn.wait(15) == -signal.SIGKILL

    def test_leaves_everything_alone_after_close(self, children: Children) -> None:
        child = children.sleeper()
        guard = Guard()
        guard.watch(child.pid)
        guard.close()
        guard.close()
        assert child.poll() is None

    def test_sends_the_signal_it_was_given(self, children: Children) -> None:
        child, spare = children.sleeper(), children.sleeper()
        program = _OWNER.replace("watch(int(pid))", "watch(int(pid), 10)")
        owner = children.start(program, child.pid, spare.pid)
        assert owner.stdout is not None
        assert owner.stdout.readline() == "watching\n"
        owner.kill()
        assert child.wait(5) == -10

    def test_replaces_a_watchdog_that_was_killed_by_one_that_knows_all(
        self, children: Children
    ) -> None:
        first, *others, forgotten = [children.sleeper() for _ in range(5)]
        pids = (child.pid for child in (first, *others, forgotten))
        owner = children.start(_OWNER_THAT_LOST_ITS_WATCHDOG, *pids)
        assert owner.stdout is not None
        assert owner.stdout.readline() == "watching\n"
        owner.kill()
        assert first.wait(5) == -10
        assert [child.wait(5) for child in others] == [-signal.SIGTERM] * 3
        assert forgotten.poll() is None

    @pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="no /proc here")
    def test_the_watchdog_is_small_and_in_a_session_of_its_own(self) -> None:
        guard = Guard()
        try:
            pid = guard.pid
            assert os.getsid(pid) == pid != os.getsid(0)
            assert wait_until(lambda: start_mark(pid) != "", 30)
            pages = int(Path(f"/proc/{pid}/statm").read_text("utf-8").split()[1])
            assert pages * os.sysconf("SC_PAGE_SIZE") < 24 * 1024 * 1024
        finally:
            guard.close()
