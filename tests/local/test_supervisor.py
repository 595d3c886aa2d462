"""The supervisor's logs: shown, kept, and bounded while the processes run."""

import sys
import threading
from pathlib import Path

import pytest

from orderstream.local import supervisor
from orderstream.local.guard import Guard
from orderstream.local.supervisor import Supervisor
from tests.waiting import until

DEAF = """
import signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("deaf", flush=True)
time.sleep(60)
"""

# Writes twice, each time all at once; the second time when there is a file.
WRITER = """
import os, sys, time
def write(first, last):
    os.write(1, b"".join(b"line %05d\\n" % number for number in range(first, last)))
write(0, 501)
while not os.path.exists(sys.argv[1]):
    time.sleep(0.01)
write(501, 600)
time.sleep(60)
"""


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setattr(supervisor, "LOG_BYTES_MAX", 5_000)
    monkeypatch.setattr(supervisor, "LINES_PER_LOOK", 100_000)
    return []


class TestALog:
    def test_is_put_aside_while_its_process_goes_on_writing(
        self, shown: list[str], tmp_path: Path
    ) -> None:
        log, go_on = tmp_path / "logs" / "writer.log", tmp_path / "go-on"
        guard, done = Guard(), threading.Event()
        kept = Supervisor(guard, lambda _name, line: shown.append(line))
        command = [sys.executable, "-c", WRITER, str(go_on)]
        kept.keep("writer", command, {}, log)
        running = threading.Thread(target=kept.run, args=(done,))
        running.start()
        try:
            until(lambda: len(shown) == 501, what="the first lines are shown")
            until(lambda: log.stat().st_size == 0, what="the log is put aside")
            assert log.with_name("writer.log.1").read_text().endswith("line 00500\n")
            go_on.touch()
            until(lambda: len(shown) == 600, what="the others are shown")
            assert log.read_text().splitlines() == [f"line {n:05}" for n in range(501, 600)]
            assert shown == [f"line {n:05}" for n in range(600)]
        finally:
            done.set()
            running.join()
            kept.stop()
            guard.close()


class TestStopping:
    def test_kills_what_does_not_end_and_says_so(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(supervisor, "STOP_TIMEOUT_S", 0.2)
        shown: list[tuple[str, str]] = []
        guard, log = Guard(), tmp_path / "deaf.log"
        kept = Supervisor(guard, lambda name, line: shown.append((name, line)))
        kept.keep("deaf", [sys.executable, "-c", DEAF], {}, log)
        try:
            until(log.read_text, what="it runs")
        finally:
            kept.stop()
            guard.close()
        assert shown == [("deaf", "had not ended within 0.2 s; killed"), ("deaf", "deaf")]
