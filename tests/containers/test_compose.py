"""The compose files run: their brokers' properties and their services, as processes here."""

import os
import re
import shutil
import subprocess
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from orderstream.local.guard import Guard
from orderstream.local.kafka_config import Node, write_config
from orderstream.runtime.admin import Admin
from orderstream.wiring.demo import DEMO_CATALOGUE
from tests.conftest import database_copy
from tests.containers.compose import (
    ELK,
    FILES,
    STAGES,
    Containers,
    Service,
    brokers,
    ours,
    properties,
    services,
)
from tests.containers.conftest import SERVICES, Checkout, checkout_in
from tests.containers.image import TOP
from tests.own_redis import OwnRedis
from tests.programs import program

NAMES = [name.lower() for name in SERVICES]
ORDER = {"userId": 42, "items": [{"sku": "ABC-001", "qty": 2}]}
SECRETS = ("POSTGRES_PASSWORD", "ELASTIC_PASSWORD", "KIBANA_PASSWORD", "ORDERSTREAM_API_KEY")

# A file system to read alone; the log was opened before, sockets may be written to.
READ_ONLY = ("unshare", "--mount", "sh", "-c")
READ_ONLY += ('mount --bind / / && mount -o remount,bind,ro / && exec "$@"', "sh")


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory, commands: Path) -> Checkout:
    """A checkout after the first `entrypoint.sh --up`."""
    program("docker-compose")
    checkout = checkout_in(tmp_path_factory.mktemp("checkout"), commands)
    assert checkout.run("--up", WAIT_S="0").returncode == 1  # Nothing is there to get ready.
    return checkout


Reading = dict[str, dict[str, Service]]


@pytest.fixture(scope="module")
def read(ready: Checkout) -> Reading:
    """Every file as the engine would read it, with Elasticsearch and Kibana on top."""
    return {name: services(ready.folder, file, ELK) for name, file in FILES.items()}


@dataclass(frozen=True)
class Topology:
    """The containers of one compose file, running."""

    found: dict[str, Service]
    containers: Containers
    places: dict[str, str]
    key: dict[str, str]

    def place(self) -> Any:
        """Place an order, and return what became of it."""
        answer = self.containers.http.post(
            f"{self.containers.url('order')}/api/orders",
            json=ORDER,
            headers=self.key | {"Prefer": "wait=20"},
        )
        assert answer.status_code == 200, answer.text
        return answer.json()


@contextmanager
def running(
    name: str,
    read: Reading,
    checkout: Checkout,
    template_dsn: str,
    folder: Path,
    prefix: tuple[str, ...] = (),
) -> Generator[Topology]:
    """Run a compose file's containers against servers of this machine, and end them."""
    found = read[name]
    kafkas = found if name != "redpanda" else read["one"]
    guard = Guard()
    containers = Containers(checkout.bin, folder, guard, prefix)
    with (
        database_copy(template_dsn) as dsn,
        OwnRedis.at_hand(folder) as redis,
        brokers(kafkas, folder, guard) as places,
    ):
        if name == "redpanda":  # Its own image is not at hand: another Kafka at its address.
            places["redpanda:19092"] = places["kafka:19092"]
        secret = checkout.dotenv["POSTGRES_PASSWORD"]
        places[f"postgresql://orderstream:{secret}@postgres:5432/orderstream"] = dsn
        places["redis:6379"] = f"127.0.0.1:{redis.port}"
        places["http://{service}:"] = "http://127.0.0.1:"
        try:
            for service in ours(found):
                if service != "stock":
                    containers.start(service, found[service], places)
            containers.wait_until_ready()
            containers.start("stock", found["stock"], places)
            assert containers.running.pop("stock").wait(30) == 0, containers.log(
                "stock"
            ).read_text()
            key = {"X-API-Key": str(checkout.dotenv["ORDERSTREAM_API_KEY"])}
            yield Topology(found, containers, places, key)
            ended = containers.end()
            assert set(ended.values()) == {0}, ended
        finally:
            containers.kill()
            guard.close()


def may_remount() -> bool:
    """Tell whether this is Linux's root, who may have a view of the file system of their own."""
    found = shutil.which("unshare")
    return found is not None and subprocess.run([*READ_ONLY, "true"], check=False).returncode == 0


class TestFiles:
    @pytest.mark.parametrize("name", FILES)
    def test_keep_to_what_is_safe(self, read: Reading, name: str) -> None:
        found = read[name]
        for service, said in found.items():
            assert re.search(r":v?\d+\.\d+\.|:18\.\d+|:local$", said["image"]), service
            assert not said.get("privileged"), service
            for port in said.get("ports", ()):
                assert str(port).startswith("127.0.0.1:"), (service, port)
            for volume in said.get("volumes", ()):
                assert "docker.sock" not in str(volume), service
        for service, said in ours(found).items():
            assert said["read_only"], service
            assert said["cap_drop"] == ["ALL"], service
            assert said["security_opt"] == ["no-new-privileges:true"], service
        published = [str(port).split(":")[1] for s in found.values() for port in s.get("ports", ())]
        assert len(set(published)) == len(published)
        assert "8081" in published  # Kafka UI
        assert "5601" in published  # Kibana

    def test_have_no_secret_in_them_and_do_nothing_without(self, ready: Checkout) -> None:
        written = [*(TOP / name for name in (*FILES.values(), ELK)), *TOP.glob("deploy/**/*.yml")]
        text = "".join(path.read_text() for path in written)
        for secret in (*SECRETS, "ORDERSTREAM_API_KEYS"):
            used = re.findall(rf"\$\{{{secret}\b(..)", text)
            assert used, secret
            assert set(used) == {":?"}, secret
        kept = ready.folder / ".env"
        kept.rename(ready.folder / ".env.kept")
        kept.write_text("")
        try:
            with pytest.raises(AssertionError, match="--up makes"):
                services(ready.folder, FILES["one"])
        finally:
            (ready.folder / ".env.kept").rename(kept)

    @pytest.mark.parametrize("name", FILES)
    def test_tell_a_container_no_secret_that_is_anothers(self, read: Reading, name: str) -> None:
        for service, said in ours(read[name]).items():
            told = {secret for secret in SECRETS if said["environment"].get(secret)}
            asks = {"ORDERSTREAM_API_KEY"} if service in ("console", "stock") else set[str]()
            assert told == asks, service

    @pytest.mark.parametrize("name", FILES)
    def test_run_every_service(self, read: Reading, name: str) -> None:
        found = ours(read[name])
        second = [f"{stage}-2" for stage in STAGES] if name == "cluster" else []
        assert found.keys() == {*NAMES, "stock", *second}
        for service, said in found.items():
            if service != "stock":
                assert said["command"] == ["serve", service.removesuffix("-2")]
        workers = {
            (tuple(said["command"]), said["environment"]["ORDERSTREAM_WORKER"])
            for said in found.values()
        }
        assert len(workers) == len(found)  # Two with one number would shut each other out.

    def test_have_data_of_their_own(self, ready: Checkout) -> None:
        """PostgreSQL knows how far Kafka was read: with another Kafka it would be wrong."""
        names: list[str] = []
        for file in FILES.values():
            volumes = yaml.safe_load((ready.folder / file).read_text())["volumes"]
            names += [(said or {}).get("name", name) for name, said in volumes.items()]
        assert len(set(names)) == len(names)

    def test_a_service_has_settings_of_its_own(self, ready: Checkout) -> None:
        own = ready.folder / "deploy" / "env" / "inventory.env"
        kept = own.read_text()
        try:
            own.write_text(kept + "ORDERSTREAM_RESERVATION_TTL=60\n")
            found = ours(services(ready.folder, FILES["cluster"]))
        finally:
            own.write_text(kept)
        name = "ORDERSTREAM_RESERVATION_TTL"
        having = {service for service, said in found.items() if name in said["environment"]}
        assert having == {"inventory", "inventory-2"}

    @pytest.mark.parametrize(("name", "count"), [("one", 1), ("cluster", 3)])
    def test_brokers_have_the_properties_of_the_local_ones(
        self, read: Reading, tmp_path: Path, name: str, count: int
    ) -> None:
        kafkas = [
            properties(s) for s in read[name].values() if s["image"].startswith("apache/kafka:")
        ]
        nodes = [Node(n, tmp_path / str(n), 1, 2) for n in range(1, count + 1)]
        write_config(nodes[0], nodes)
        local = dict(line.split("=", 1) for line in nodes[0].properties.read_text().splitlines())
        # Those of names and places, and those by which it fits a small machine.
        another = {"node.id", "log.dirs", "listeners", "advertised.listeners"}
        another |= {"listener.security.protocol.map", "inter.broker.listener.name"}
        another |= {"controller.quorum.voters", "broker.session.timeout.ms"}
        another |= {"broker.heartbeat.interval.ms", "log.cleaner.dedupe.buffer.size"}
        another |= {"num.network.threads", "num.io.threads", "background.threads"}
        for said in kafkas:
            same = {key: value for key, value in local.items() if key not in another}
            assert {key: said.get(key) for key in same} == same
        assert [said["node.id"] for said in kafkas] == [str(n) for n in range(1, count + 1)]


@pytest.fixture(scope="class")  # The next one takes the same ports.
def one(
    read: Reading, ready: Checkout, template_dsn: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Topology]:
    """The topology of one broker, on a file system that can be read alone if that can be had."""
    folder = tmp_path_factory.mktemp("one")
    prefix = READ_ONLY if may_remount() else ()
    with running("one", read, ready, template_dsn, folder, prefix) as topology:
        yield topology


class TestOne:
    def test_an_order_is_confirmed(self, one: Topology) -> None:
        assert one.place()["status"] == "CONFIRMED"

    def test_nobody_is_served_without_a_key(self, one: Topology) -> None:
        for name in NAMES[:-1]:
            answer = one.containers.http.get(f"{one.containers.url(name)}/api/orders")
            assert answer.status_code in (401, 404), name
        refused = one.containers.http.post(f"{one.containers.url('order')}/api/orders", json=ORDER)
        assert refused.status_code == 401

    def test_the_health_check_is_0_for_what_runs_and_1_for_what_does_not(
        self, one: Topology
    ) -> None:
        for name in NAMES:
            (kind, healthy, port) = one.found[name]["healthcheck"]["test"]
            assert (kind, healthy, int(port)) == ("CMD", "healthy", one.containers.ports[name])
            assert check_health(port) == 0, name
        assert check_health("1") == 1

    def test_the_console_reaches_every_service(self, one: Topology) -> None:
        url = one.containers.url("console")
        signed_in = one.containers.http.post(
            f"{url}/console/session", json={"key": one.key["X-API-Key"]}, headers={"Origin": url}
        )
        assert signed_in.status_code < 400, signed_in.text
        answer = one.containers.http.get(f"{url}/services/inventory/api/stock?limit=1000")
        assert answer.status_code == 200, answer.text
        assert len(answer.json()["stock"]) == len(DEMO_CATALOGUE)

    def test_services_write_to_no_disk(self, one: Topology) -> None:
        """All of this file ran on a file system that can be read alone, where that can be had."""
        if not one.containers.prefix:
            missing = "a read-only file system needs Linux, its root, and `unshare` of util-linux"
            pytest.fail(missing) if os.environ.get("CI") == "true" else pytest.skip(missing)
        assert one.place()["status"] == "CONFIRMED"


def check_health(port: str) -> int:
    """Run the command of a health check as the image has it."""
    command = ["python3", "-IS", str(TOP / "deploy" / "healthy.py"), port]
    return subprocess.run(command, capture_output=True, timeout=10, check=False).returncode


class TestRedpanda:
    def test_an_order_is_confirmed_by_its_services(
        self, read: Reading, ready: Checkout, template_dsn: str, tmp_path: Path
    ) -> None:
        with running("redpanda", read, ready, template_dsn, tmp_path) as topology:
            assert topology.place()["status"] == "CONFIRMED"


@pytest.mark.chaos  # Three brokers and ten services take half a minute of two cores.
class TestCluster:
    def test_an_order_is_confirmed_and_every_topic_has_three_copies(
        self, read: Reading, ready: Checkout, template_dsn: str, tmp_path: Path
    ) -> None:
        with running("cluster", read, ready, template_dsn, tmp_path) as topology:
            assert topology.place()["status"] == "CONFIRMED"
            admin = Admin({"bootstrap.servers": topology.places["kafka-1:19092"]})
            made = [topic for topic in admin.describe() if topic.name.startswith(("order", "inv"))]
            assert len(made) > 10
            for topic in made:
                config = {entry["name"]: entry["value"] for entry in admin.config_of(topic.name)}
                in_sync = config["min.insync.replicas"]
                assert (topic.replication, in_sync) == (3, "2"), topic.name
            for stage in STAGES:  # Both workers take part.
                assert len(admin.members(f"orderstream-{stage}")) == 2, stage
