"""A broker of a test's own, to be stopped and killed."""

import os
import shutil
import signal
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from orderstream.local import kafka
from orderstream.local.processes import ProcessId
from tests.ports import own_port
from tests.waiting import until


@dataclass(frozen=True)
class OwnKafka:
    """One broker with its data folder."""

    home: Path
    port: int

    @classmethod
    @contextmanager
    def at_hand(cls) -> Generator["OwnKafka"]:
        """Give a broker, not started yet, and end it afterwards."""
        own = cls(Path(tempfile.mkdtemp(prefix="orderstream-test-")), own_port())
        try:
            yield own
        finally:
            own.resume()
            kafka.stop(own.home)
            shutil.rmtree(own.home)

    def start(self) -> str:
        """Start it, again after a kill, and return its address, which stays the same."""
        return kafka.start(self.home, port=self.port).bootstrap_servers

    def kill(self) -> None:
        """End it as a power cut does."""
        processes = [ProcessId.of(pid) for pid in self._send(signal.SIGKILL)]
        until(lambda: not any(p and p.alive() for p in processes), what="the broker is gone")

    def freeze(self) -> None:
        """Let it answer nothing, and keep its connections."""
        self._send(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on after `freeze`."""
        self._send(signal.SIGCONT)

    def _send(self, what: signal.Signals) -> tuple[int, ...]:
        pids = kafka.status(self.home).pids
        for pid in pids:
            os.kill(pid, what)
        return pids
