"""A peer beside an installation: its services on the same Kafka and PostgreSQL, and load for it."""

import asyncio
import os
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import msgspec

from bench.harness import Broken, Installation, free_ports, say, tail
from orderstream.cli.load import report_of
from orderstream.cli.load_engine import Engine
from orderstream.cli.load_http import post_request
from orderstream.cli.load_plan import Plan
from orderstream.cli.load_watch import Followed
from orderstream.runtime.admin import Admin
from orderstream.runtime.settings import Settings

SERVICES = ("order", "inventory", "notification")
TOPICS = ("order.created", "inventory.reserved", "inventory.rejected")
SKUS = 100  # As `orderstream load` orders them.
LOOK_EVERY_S = 0.05
READY_WITHIN_S = 120.0
DONE_WITHIN_S = 300.0
DOWN_WITHIN_S = 20.0

Command = tuple[Sequence[str | Path], Mapping[str, str]]


@dataclass(frozen=True)
class Peer:
    """A system to be measured beside ours.

    `command` gives the command line and environment of one of its services, on this port.
    """

    name: str
    topics: str  # What the names of its topics begin with.
    folder: Path
    command: Callable[[str, int, Settings], Command]
    orders: int  # Of one run.
    warm_ups: int
    targets: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True)
class Running:
    """A peer that answers."""

    ports: Mapping[str, int]

    def told(self, client: httpx.Client) -> int:
        """Return of how many orders its customers were told."""
        return int(client.get(f"http://127.0.0.1:{self.ports['notification']}/count").text)

    def load(self, orders: int, connections: int) -> dict[str, Any]:
        """Place orders as `orderstream load --until-decided` does and wait for their notices.

        Returns the same report. Raises Broken.
        """
        port = self.ports["order"]
        plan = Plan(
            host="127.0.0.1",
            port=port,
            requests=[
                post_request(f"127.0.0.1:{port}", "/api/orders", _order(number))
                for number in range(1, SKUS + 1)
            ],
            connections=min(connections, orders),
            orders=orders,
        )
        with httpx.Client(timeout=10, trust_env=False) as client:
            wanted = self.told(client) + orders
            engine = Engine(plan, None)
            cpu_before = time.process_time()
            _run(engine)
            cpu_s = time.process_time() - cpu_before
            if engine.tally.unplaced:
                raise Broken(f"{engine.tally.unplaced} orders not placed: {engine.tally.trouble}")
            deadline = time.monotonic() + DONE_WITHIN_S
            while self.told(client) < wanted:
                if time.monotonic() > deadline:
                    raise Broken(f"not all were told of within {DONE_WITHIN_S:g} s")
                time.sleep(LOOK_EVERY_S)
        done = Followed({"notification": time.perf_counter()}, ())
        return report_of(engine.tally, plan, cpu_s, done)


def _order(user: int) -> bytes:
    return msgspec.json.encode({"userId": user, "items": [{"sku": f"LOAD-{user:04}", "qty": 1}]})


def _run(engine: Engine) -> None:
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(engine.run())


@contextmanager
def running(peer: Peer, up: Installation, at: Path) -> Iterator[Running]:
    """Start a peer's services beside an installation and end them afterwards."""
    settings = up.settings
    names = [f"{peer.topics}.{topic}" for topic in TOPICS]
    Admin(settings.kafka()).create(names, settings.partitions)
    ports: dict[str, int] = dict(zip(SERVICES, free_ports(len(SERVICES)), strict=True))
    with ExitStack() as services:
        for name, port in ports.items():
            command = peer.command(name, port, settings)
            log = at / f"{peer.topics}-{name}.log"
            process = services.enter_context(_service(command, peer.folder, log))
            _wait_until_ready(process, port, log)
        say(f"peers: {peer.name} is up")
        yield Running(ports)


@contextmanager
def _service(command: Command, folder: Path, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    arguments, env = command
    with log.open("ab") as out:
        process = subprocess.Popen(
            [str(argument) for argument in arguments],
            cwd=folder,
            env=dict(os.environ) | dict(env),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,  # Ctrl-C is ours; we end it in order.
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(DOWN_WITHIN_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_until_ready(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    """Return once it answers anything at all."""
    deadline = time.monotonic() + READY_WITHIN_S
    while True:
        if process.poll() is not None or time.monotonic() > deadline:
            raise Broken(f"it does not come up:\n{tail(log)}")
        try:
            httpx.get(f"http://127.0.0.1:{port}/count", timeout=5, trust_env=False)
            return
        except httpx.TransportError:
            time.sleep(0.1)
