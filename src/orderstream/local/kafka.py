"""A real Apache Kafka on this machine: one broker, or three that copy one another."""

import base64
import json
import signal
import time
import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, cast

from orderstream.contract.errors import ConfigurationError
from orderstream.local.extra import check_installed
from orderstream.local.jars import default_cache, ensure_jars
from orderstream.local.kafka_config import Node, write_config
from orderstream.local.kafka_servers import format_data, launch, wait_until_ready
from orderstream.local.processes import (
    ProcessId,
    end,
    free_port,
    replace_text,
    turn,
    wait_until,
)

_HEAP_MB = {1: 512, 3: 384}  # Each.
_STOP_WITHIN_S = 10.0


@dataclass(frozen=True)
class KafkaStatus:
    """What runs; `running` means every broker does, `ready_s` is how long its last start took."""

    running: bool
    bootstrap_servers: str
    brokers: int
    pids: tuple[int, ...]
    data: Path
    ready_s: float | None


@dataclass
class _State:
    """What `state.json` remembers between processes and between starts."""

    cluster_id: str
    wanted_port: int
    broker_ports: list[int]
    controller_ports: list[int]
    servers: list[ProcessId | None] = field(default_factory=list[ProcessId | None])
    ready_s: float | None = None

    def save(self, folder: Path) -> None:
        replace_text(folder / "state.json", json.dumps(asdict(self), indent=1))

    @classmethod
    def load(cls, folder: Path) -> "_State | None":
        path = folder / "state.json"
        if not path.exists():
            return None
        state = cls(**json.loads(path.read_text("utf-8")))
        known = cast("list[dict[str, Any] | None]", state.servers)
        state.servers = [ProcessId(**server) if server else None for server in known]
        return state

    def alive(self) -> list[ProcessId]:
        return [server for server in self.servers if server and server.alive()]

    def nodes(self, folder: Path) -> list[Node]:
        ports = zip(self.broker_ports, self.controller_ports, strict=True)
        return [
            Node(number, folder / f"node-{number}", broker, controller)
            for number, (broker, controller) in enumerate(ports, start=1)
        ]


def start(
    home: Path,
    *,
    brokers: int = 1,
    port: int = 9092,
    progress: Callable[[int, int], None] | None = None,
) -> KafkaStatus:
    """Start what is not running and return once every broker answers and is in service.

    `brokers` is 1 or 3; a port in use gives way to the next free one, and a start takes the ports
    of the last one when it can. `progress` is told bytes there and bytes in all while jars are
    fetched. Raises ConfigurationError for a home made for another number of brokers, where Kafka
    and Java are not installed or a machine that cannot fetch the jars, and Unavailable with the end
    of the log for a broker that does not come up. The brokers outlive this process; acknowledged
    records outlive a kill -9 of a broker.
    """
    if brokers not in _HEAP_MB:
        raise ConfigurationError(f"Kafka runs with 1 or 3 brokers here, not {brokers}: choose one.")
    check_installed()
    folder, cache = _folder(home), default_cache()
    with turn(folder / "flock"):
        state = _State.load(folder) or _new_state(brokers, port)
        if len(state.broker_ports) != brokers:
            raise ConfigurationError(
                f"{folder} holds a Kafka of {len(state.broker_ports)} broker(s), not {brokers}: "
                "ask for that number, or choose another ORDERSTREAM_HOME."
            )
        if len(state.alive()) < brokers:
            ensure_jars(cache, progress)
            with turn(cache / "ports.flock"):  # Until they listen, two homes could pick the same.
                _bring_up(state, folder, cache, port)
    return status(home)


def stop(home: Path) -> bool:
    """End the brokers of this home, softly for 10 s and then by force; true if any were running."""
    folder = _folder(home)
    with turn(folder / "flock"):
        state = _State.load(folder)
        if state is None:
            return False
        stopped = end(state.alive(), with_signal=signal.SIGTERM, within_s=_STOP_WITHIN_S)
        state.servers = [None] * len(state.broker_ports)
        state.save(folder)
    return stopped


def status(home: Path) -> KafkaStatus:
    """What runs now; asks the system, not Kafka, so it is quick and never raises."""
    folder = _folder(home)
    state = _State.load(folder)
    if state is None:
        return KafkaStatus(False, "", 0, (), folder, None)
    pids = tuple(server.pid for server in state.alive())
    return KafkaStatus(
        running=len(pids) == len(state.broker_ports),
        bootstrap_servers=",".join(f"127.0.0.1:{port}" for port in state.broker_ports),
        brokers=len(state.broker_ports),
        pids=pids,
        data=folder,
        ready_s=state.ready_s if pids else None,
    )


def _folder(home: Path) -> Path:
    return home.absolute() / "kafka"


def _new_state(brokers: int, port: int) -> _State:
    cluster_id = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
    nobody = [0] * brokers
    return _State(cluster_id, port, nobody, nobody)


def _bring_up(state: _State, folder: Path, cache: Path, port: int) -> None:
    began = time.monotonic()
    if not state.alive():
        _choose_ports(state, port)
        state.servers = [None] * len(state.broker_ports)
    state.save(folder)
    nodes = state.nodes(folder)
    for node in nodes:
        write_config(node, nodes)
    format_data(nodes, state.cluster_id, cache)
    for at, server in enumerate(state.servers):
        if server is None or not server.alive():
            state.servers[at] = launch(nodes[at], cache, heap_mb=_HEAP_MB[len(nodes)])
            state.save(folder)
    servers = [server for server in state.servers if server]
    try:
        wait_until_ready(dict(zip(nodes, servers, strict=True)))
    except BaseException:
        end(servers, with_signal=signal.SIGTERM, within_s=_STOP_WITHIN_S)
        raise
    state.ready_s = round(time.monotonic() - began, 3)
    state.save(folder)


def _choose_ports(state: _State, port: int) -> None:
    last = [*state.broker_ports, *state.controller_ports]

    def free_again() -> bool:
        return all(old and free_port(old) == old for old in last)

    # A server killed a moment ago may still be letting go of its ports.
    if state.wanted_port == port and wait_until(free_again, 2.0 if any(state.servers) else 0.0):
        return
    chosen: list[int] = []
    for _ in last:
        chosen.append(free_port(port, taken=chosen))
    half = len(chosen) // 2
    state.wanted_port = port
    state.broker_ports, state.controller_ports = chosen[:half], chosen[half:]
