"""Compose files without an engine: what they say, and their containers as processes.

What a container is told, its command and environment, a process is told here to the letter; but for
the addresses of servers and ports, which are this machine's.
"""

import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import yaml

from orderstream.local.guard import Guard
from orderstream.local.jars import default_cache
from orderstream.local.kafka_config import Node, write_config
from orderstream.local.kafka_servers import format_data, launch, wait_until_ready
from orderstream.local.processes import end
from tests.containers.image import TOP, environment_of_image, said
from tests.ports import own_port
from tests.programs import program
from tests.waiting import until

IMAGE, KAFKA_IMAGE = "orderstream:local", "apache/kafka:"
FILES = {
    "one": "docker-compose.yml",
    "cluster": "docker-compose-cluster.yml",
    "redpanda": "docker-compose-redpanda.yml",
}
ELK = "docker-compose-elk.yml"
STAGES = ("inventory", "view", "notification", "analytics")

# Nothing that this shell has set may answer for what a file does not say.
PLAIN = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), "LC_ALL": "C.UTF-8"}

Service = dict[str, Any]


def copy_files(folder: Path) -> Path:
    """Copy what a user has beside the source code: here is no `.env` of theirs to change."""
    for name in (*FILES.values(), ELK, ".env.example", "entrypoint.sh"):
        shutil.copy(TOP / name, folder)
    shutil.copytree(TOP / "deploy", folder / "deploy", dirs_exist_ok=True)
    return folder


def services(folder: Path, *files: str) -> dict[str, Service]:
    """Return the services as the engine would be told of them, all variables put in."""
    command = [program("docker-compose"), *(word for file in files for word in ("--file", file))]
    done = subprocess.run(
        [*command, "config"],
        cwd=folder,
        env=PLAIN,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "level=warning" not in done.stderr
    # What is $$ there is $ to the container.
    return json.loads(json.dumps(yaml.safe_load(done.stdout)["services"]).replace("$$", "$"))


def ours(found: Mapping[str, Service]) -> dict[str, Service]:
    """Return the services that run orderstream."""
    return {name: service for name, service in found.items() if service["image"] == IMAGE}


def properties(service: Service) -> dict[str, str]:
    """Return the properties that the image of Apache Kafka makes of its environment.

    Its rule: a name without KAFKA_, in small letters, `_` for `.`, `__` for `_`, `___` for `-`.
    """
    made: dict[str, str] = {}
    for name, value in service["environment"].items():
        if name.startswith("KAFKA_") and name != "KAFKA_HEAP_OPTS":
            key = name.removeprefix("KAFKA_").lower().replace("_", ".")
            made[key.replace("...", "-").replace("..", "_")] = str(value)
    return made


@contextmanager
def brokers(found: Mapping[str, Service], folder: Path, guard: Guard) -> Generator[dict[str, str]]:
    """Run the brokers of a file with the properties that it gives them.

    Gives where each `host:port` of theirs is on this machine; ends them afterwards.
    """
    kafkas = {name: s for name, s in found.items() if s["image"].startswith(KAFKA_IMAGE)}
    places: dict[str, str] = {}
    for name in kafkas:
        first = own_port()
        for number, port in enumerate(("9092", "19092", "9093")):
            places[f"{name}:{port}"] = f"127.0.0.1:{first + number}"
    nodes: dict[str, Node] = {}
    for name, service in kafkas.items():
        port, controller = (int(places[f"{name}:{p}"].split(":")[1]) for p in ("19092", "9093"))
        node = Node(int(properties(service)["node.id"]), folder / name, port, controller)
        write_config(node, [node])  # For its logger; the properties are the file's:
        said_of = properties(service) | {"log.dirs": str(node.data)}
        said_of["listeners"] = said_of["listeners"].replace("://:", f"://{name}:")
        outside = places[f"{name}:9092"]
        said_of["advertised.listeners"] = re.sub(
            r"OUTSIDE://127\.0\.0\.1:\d+", f"OUTSIDE://{outside}", said_of["advertised.listeners"]
        )
        lines = (f"{key}={moved(value, places)}\n" for key, value in said_of.items())
        node.properties.write_text("".join(lines))
        nodes[name] = node
    (cluster_id,) = {service["environment"]["CLUSTER_ID"] for service in kafkas.values()}
    format_data(list(nodes.values()), cluster_id, default_cache())
    running = {name: launch(node, default_cache(), heap_mb=384) for name, node in nodes.items()}
    try:
        for server in running.values():
            guard.watch(server.pid)
        wait_until_ready({nodes[name]: server for name, server in running.items()})
        yield places
    finally:
        end(list(running.values()), with_signal=signal.SIGTERM, within_s=10.0)


def moved(text: str, places: Mapping[str, str]) -> str:
    """Put this machine's addresses in the place of the containers'."""
    for name, place in places.items():
        text = text.replace(name, place)
    return text


@dataclass
class Containers:
    """Containers of orderstream, as processes; `prefix` is what each runs under."""

    commands: Path
    folder: Path
    guard: Guard
    prefix: tuple[str, ...] = ()
    http: httpx.Client = field(default_factory=lambda: httpx.Client(timeout=30, trust_env=False))
    running: dict[str, "subprocess.Popen[bytes]"] = field(
        default_factory=dict[str, "subprocess.Popen[bytes]"]
    )
    ports: dict[str, int] = field(default_factory=dict[str, int])

    def environment(self, service: Service, places: Mapping[str, str]) -> dict[str, str]:
        """Return what a container has in its environment, and nothing of ours."""
        image = environment_of_image()
        path = image["PATH"].replace("/opt/orderstream/bin", str(self.commands))
        image["PATH"] = path.replace("$PATH", "/usr/bin:/bin")
        told = {name: str(value) for name, value in service["environment"].items()}
        return image | {"HOME": "/tmp"} | {n: moved(v, places) for n, v in told.items()}

    def start(self, name: str, service: Service, places: Mapping[str, str]) -> None:
        """Start what a service's container runs."""
        environment = self.environment(service, places)
        for stage in STAGES:  # In a container of its own a second worker has the port, too.
            if name == f"{stage}-2":
                environment[f"ORDERSTREAM_PORT_{stage.upper()}"] = str(own_port())
        self.ports[name] = int(
            environment.get(f"ORDERSTREAM_PORT_{name.removesuffix('-2').upper()}", 0)
        )
        (entrypoint,) = said("ENTRYPOINT")
        command = [*self.prefix, *json.loads(entrypoint), *service["command"]]
        self.running[name] = self._started(name, command, environment)
        self.guard.watch(self.running[name].pid)

    def _started(
        self, name: str, command: list[str], environment: dict[str, str]
    ) -> "subprocess.Popen[bytes]":
        (self.folder / "empty").mkdir(exist_ok=True)
        with self.log(name).open("ab") as log:
            return subprocess.Popen(
                command, env=environment, cwd=self.folder / "empty", stdout=log, stderr=log
            )

    def log(self, name: str) -> Path:
        """Return where a container's output is."""
        return self.folder / f"{name}.log"

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.ports[name]}"

    def wait_until_ready(self) -> None:
        """Return once all of them are; AssertionError with the log of one that ended."""
        for name in self.running:
            if self.ports[name]:
                until(lambda name=name: self._ready(name), what=f"{name} is ready")

    def _ready(self, name: str) -> bool:
        assert self.running[name].poll() is None, self.log(name).read_text()
        try:
            return self.http.get(f"{self.url(name)}/readyz").status_code == 200
        except httpx.TransportError:
            return False

    def end(self) -> dict[str, int]:
        """Stop them as an engine does, and return their exit codes."""
        for process in self.running.values():
            process.terminate()
        return {name: process.wait(20) for name, process in self.running.items()}

    def kill(self) -> None:
        """End what is left, whatever happened."""
        for process in self.running.values():
            process.kill()
            process.wait(10)
        self.http.close()
