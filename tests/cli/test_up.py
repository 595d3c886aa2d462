"""What ends `up`, at any moment."""

import signal
import subprocess
import sys

import pytest

# The signal comes when the main thread holds the event's own lock, on its way to wait for it.
AT_THE_WORST_MOMENT = """
import signal, sys, threading
from orderstream.cli.up import set_by_signals

stopping = set_by_signals()

def look(frame, event, _what):
    if event == "call" and frame.f_code is threading.Condition.wait.__code__:
        sys.setprofile(None)
        signal.raise_signal(int(sys.argv[1]))

sys.setprofile(look)
print(stopping.wait(60))
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_is_heard_whatever_the_main_thread_does(number: signal.Signals) -> None:
    command = [sys.executable, "-c", AT_THE_WORST_MOMENT, str(int(number))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stdout) == (0, "True\n"), done.stderr
