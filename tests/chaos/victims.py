"""The processes of an installation by name, what is done to them, and whether they are back."""

import json
import os
import signal
import struct
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import psutil
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from orderstream.local import kafka
from orderstream.local.processes import ProcessId
from tests.flow.installation import Installation
from tests.own_redis import OwnRedis
from tests.waiting import until

BACK_WITHIN_S = 90.0


class Victims:
    """Finds every process anew each time: each may have been started again meanwhile."""

    def __init__(
        self,
        running: Installation,
        clocks: Path | None = None,
        redis: OwnRedis | None = None,
    ) -> None:
        self._running = running
        self._clocks = clocks
        self._redis = redis

    # Who is who ------------------------------------------------------------------------------

    def workers(self) -> dict[str, psutil.Process]:
        """Return the services' processes by name: `view` and `view-1`."""
        found: dict[str, psutil.Process] = {}
        with suppress(psutil.NoSuchProcess):
            for child in psutil.Process(self._running.process.pid).children():
                with suppress(psutil.Error):
                    words = child.cmdline()
                    if words[-2:-1] == ["serve"] and child.status() != psutil.STATUS_ZOMBIE:
                        worker = child.environ()["ORDERSTREAM_WORKER"]
                        found[words[-1] if worker == "0" else f"{words[-1]}-{worker}"] = child
        return found

    def brokers(self) -> dict[str, psutil.Process]:
        """Return the brokers that run."""
        state = json.loads((self._running.home / "kafka" / "state.json").read_text("utf-8"))
        found: dict[str, psutil.Process] = {}
        for number, server in enumerate(state["servers"], 1):
            if server and ProcessId(**server).alive():
                found[f"broker-{number}"] = psutil.Process(server["pid"])
        return found

    def postgres(self) -> list[psutil.Process]:
        """Return PostgreSQL's processes, the first of them the postmaster; none if it is away."""
        try:
            postmaster = psutil.Process(self._running.pid_of_postgres())
            if postmaster.status() == psutil.STATUS_ZOMBIE:
                return []
            return [postmaster, *postmaster.children()]
        except (OSError, ValueError, IndexError, psutil.NoSuchProcess):
            return []

    def find(self, name: str) -> list[psutil.Process]:
        """Return the processes of a victim once it runs."""

        def look() -> list[psutil.Process]:
            if name == "postgres":
                return self.postgres()
            if name == "a session of postgres":
                return [each for each in self.postgres()[1:] if _is_session(each)][:1]
            if name == "redis":
                return [] if self._redis is None else [psutil.Process(self._redis.pid)]
            if name == "up":
                return [psutil.Process(self._running.process.pid)]
            if name == "watchdog":
                return self._watchdog()
            found = self.brokers() if name.startswith("broker") else self.workers()
            return [found[name]] if name in found else []

        return until(look, BACK_WITHIN_S, f"{name} runs")

    def _watchdog(self) -> list[psutil.Process]:
        children = psutil.Process(self._running.process.pid).children()
        return [child for child in children if child.cmdline()[-1:][0].endswith("guard.py")]

    # What is done to them --------------------------------------------------------------------

    def kill(self, names: Iterable[str]) -> None:
        """Kill -9 them all at the same moment; of PostgreSQL its first process."""
        for process in [self.find(name)[0] for name in names]:
            process.kill()

    def freeze(self, names: Iterable[str], seconds: float) -> None:
        """Stop them with everything open, and have them go on later as if nothing had been."""
        processes = [process for name in names for process in self.find(name)]
        try:
            for process in processes:
                process.send_signal(signal.SIGSTOP)
            time.sleep(seconds)  # How long the fault lasts.
        finally:
            for process in reversed(processes):
                with suppress(psutil.NoSuchProcess):
                    process.send_signal(signal.SIGCONT)

    def restart_each(self, names: Sequence[str]) -> None:
        """End each as an operator would, the next once this one is back."""
        for name in names:
            process = self.find(name)[0]
            process.terminate()
            until(lambda p=process: not p.is_running() or _is_zombie(p), 30, f"{name} ends")
            until(lambda n=name: self._is_ready(n), BACK_WITHIN_S, f"{name} is back")

    def say_where(self) -> None:
        """Have each worker write to its log where its threads are (clock/sitecustomize.py)."""
        for process in self.workers().values():
            with suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGUSR1)

    def set_clock(self, name: str, wrong_by_s: float) -> None:
        """Have a worker's clock jump while it runs (clock/sitecustomize.py)."""
        assert self._clocks is not None
        with (self._clocks / name).open("r+b") as file:
            file.write(struct.pack("d", wrong_by_s))

    # Whether they are back -------------------------------------------------------------------

    def whole(self, workers: Sequence[str], brokers: int) -> str:
        """Return what is not as it was, in words; nothing when everything is.

        A worker that does without Redis is ready: on a busy machine one of many may always be, for
        the moment, since Redis has 50 ms for an answer.
        """
        if not self.postgres():
            return "postgres is away"
        if missing := [name for name in workers if not self._is_ready(name)]:
            return f"not ready: {', '.join(missing)}"
        if len(self.brokers()) < brokers:
            return "a broker is away"
        return self._out_of_sync(brokers)

    def all_have_everything(self, names: Iterable[str]) -> bool:
        """Return whether all are ready, and none says that it does without something."""
        return all((said := self._ready(name)) and not said.get("without") for name in names)

    def _is_ready(self, name: str) -> bool:
        return self._ready(name) is not None

    def _ready(self, name: str) -> dict[str, Any] | None:
        """Return what a worker says of itself that is ready."""
        process = self.workers().get(name)
        if process is None:
            return None
        with suppress(psutil.Error, httpx.TransportError):
            service = name.partition("-")[0]
            port = process.environ()[f"ORDERSTREAM_PORT_{service.upper()}"]
            answer = httpx.get(f"http://127.0.0.1:{port}/readyz", timeout=2, trust_env=False)
            return answer.json() if answer.status_code == 200 else None
        return None

    def _out_of_sync(self, brokers: int) -> str:
        servers = kafka.status(self._running.home).bootstrap_servers
        client = AdminClient({"bootstrap.servers": servers, "log_level": 0})
        try:
            topics = client.list_topics(timeout=2).topics
        except KafkaException:
            return "kafka does not answer"
        behind = sum(
            len(partition.isrs) < brokers
            for topic in topics.values()
            for partition in topic.partitions.values()
        )
        return f"{behind} partitions with a replica behind" if behind else ""


def make_clocks(folder: Path, names: Iterable[str]) -> Path:
    """Make a right clock for each worker."""
    folder.mkdir()
    for name in names:
        (folder / name).write_bytes(struct.pack("d", 0.0))
    return folder


def path_of_clocks() -> str:
    """Return the PYTHONPATH with which services have clocks that jump."""
    ours = str(Path(__file__).parent / "clock")
    return os.pathsep.join(filter(None, (ours, os.environ.get("PYTHONPATH"))))


def _is_session(process: psutil.Process) -> bool:
    with suppress(psutil.Error):
        return "orderstream" in " ".join(process.cmdline())
    return False


def _is_zombie(process: psutil.Process) -> bool:
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
