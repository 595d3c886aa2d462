"""A service of `up` is held back exactly as long as somebody holds it."""

import fcntl
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import psutil
import pytest

from orderstream.contract.errors import Unavailable
from orderstream.local.guard import Guard
from orderstream.local.holding import held_back, is_held_back
from orderstream.local.supervisor import Supervisor
from tests.waiting import until

HOLDER = """
import sys, time
from pathlib import Path
from orderstream.local.holding import held_back
with held_back(Path(sys.argv[1]), "view"):
    print("holds", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """A data folder with an `up` that runs."""
    with (tmp_path / "up.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield tmp_path


class TestHoldingBack:
    def test_ends_with_the_block(self, home: Path) -> None:
        assert not is_held_back(home, "view")
        with held_back(home, "view"):
            assert is_held_back(home, "view")
            assert not is_held_back(home, "inventory")
        assert not is_held_back(home, "view")

    def test_ends_with_a_holder_that_is_killed(self, home: Path) -> None:
        with subprocess.Popen(
            [sys.executable, "-c", HOLDER, str(home)], stdout=subprocess.PIPE
        ) as holder:
            assert holder.stdout is not None
            assert holder.stdout.readline() == b"holds\n"
            assert is_held_back(home, "view")
            holder.send_signal(signal.SIGKILL)
        until(lambda: not is_held_back(home, "view"), what="the lock is gone")

    def test_is_for_one_at_a_time(self, home: Path) -> None:
        with (
            held_back(home, "view"),
            pytest.raises(Unavailable, match="already"),
            held_back(home, "view"),
        ):
            pass

    def test_needs_an_up_that_runs(self, tmp_path: Path) -> None:
        with pytest.raises(Unavailable, match="stop view yourself"), held_back(tmp_path, "view"):
            pass


class TestASupervisor:
    def test_ends_what_is_held_back_and_starts_it_again_afterwards(self, home: Path) -> None:
        guard, done = Guard(), threading.Event()
        supervisor = Supervisor(guard, lambda *_: None)
        command = [sys.executable, "-c", "import time; time.sleep(60)", str(home)]
        held = partial(is_held_back, home, "view")
        supervisor.keep("view", command, {}, home / "view.log", held)
        thread = threading.Thread(target=supervisor.run, args=(done,))
        thread.start()
        try:
            until(lambda: running(home))
            with held_back(home, "view"):
                until(lambda: not running(home), what="it is ended")
            until(lambda: running(home), what="it runs again")
        finally:
            done.set()
            thread.join()
            supervisor.stop()
            guard.close()


def running(home: Path) -> list[int]:
    children = psutil.Process().children()
    return [c.pid for c in children if c.status() != "zombie" and c.cmdline()[-1:] == [str(home)]]
