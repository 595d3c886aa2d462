"""The services as the manifests start them: their commands, environment, rights, probes and ends.

Kafka grants what the KafkaUsers say and nothing else, both servers want TLS, and the database's
owner is no superuser.
"""

import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from confluent_kafka import KafkaError, Producer
from psycopg.conninfo import conninfo_to_dict

from orderstream.flow import PROGRAMS
from orderstream.runtime.keys import new_key
from tests.homes import own_home
from tests.kubernetes.manifests import Pod, pods
from tests.kubernetes.rights import PROPERTIES, grant, make_topics, password_of
from tests.ports import own_port
from tests.security.brokers import SecureKafka
from tests.security.certificates import Certificates
from tests.security.databases import secure_postgres
from tests.security.running import environment
from tests.waiting import until

PARTITIONS = 2
KEY, ENTRY = new_key("desk", "operator")


@dataclass
class Cluster:
    """The pods, each one process on this machine."""

    kafka: SecureKafka
    root: Path
    environments: dict[str, dict[str, str]]
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    http: httpx.Client = field(
        default_factory=lambda: httpx.Client(
            timeout=30, trust_env=False, headers={"authorization": f"Bearer {KEY}"}
        )
    )

    def start(self, name: str, pod: Pod) -> None:
        program, *arguments = pod.container["command"]
        assert program == "orderstream"
        with self.log(name).open("wb") as log:
            self.processes[name] = subprocess.Popen(
                [sys.executable, "-m", program, *arguments],
                env=environment(self.environments[name]),
                cwd=self.root,
                stdout=log,
                stderr=log,
            )

    def log(self, name: str) -> Path:
        return self.root / f"{name}.log"

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.environments[name][f'ORDERSTREAM_PORT_{name.upper()}']}"

    def ask(self, name: str, path: str) -> Any:
        return self.http.get(self.url(name) + path).raise_for_status().json()

    def probe(self, name: str, probe: str) -> int:
        """Return what the kubelet is answered; 0 while nobody listens."""
        path = pods()[name].container[probe]["httpGet"]["path"]
        try:
            return httpx.get(self.url(name) + path, timeout=5, trust_env=False).status_code
        except httpx.TransportError:
            return 0


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    found = pods()
    root = tmp_path_factory.mktemp("root")
    certificates = Certificates.make(tmp_path_factory.mktemp("certificates"))
    for name in ("kafka", "postgres"):
        folder = root / "etc/orderstream" / name
        folder.mkdir(parents=True)
        shutil.copy(certificates.authority, folder / "ca.crt")
    broker = SecureKafka(tmp_path_factory.mktemp("kafka"), certificates, PROPERTIES)
    with own_home() as home, broker.running() as kafka, secure_postgres(home, certificates) as dsn:
        grant(kafka.admin)
        make_topics(kafka.admin, PARTITIONS)
        at = conninfo_to_dict(dsn)
        uri = f"postgresql://{at['user']}:{quote(str(at['password']))}@{at['host']}:{at['port']}"
        secrets = {
            ("orderstream-db-app", "uri"): f"{uri}/{at['dbname']}",
            ("orderstream-keys", "entries"): str(ENTRY),
            ("orderstream-keys", "console"): KEY,
            **{(f"orderstream-{n}", "password"): password_of(f"orderstream-{n}") for n in found},
        }
        # What is another than in a cluster: where the servers are, and a port for each service.
        first = own_port()
        here = {
            "KAFKA_BOOTSTRAP_SERVERS": kafka.settings("scram")["KAFKA_BOOTSTRAP_SERVERS"],
            "ORDERSTREAM_SERVICES_AT": "",
            "ORDERSTREAM_PARTITIONS": str(PARTITIONS),
            **{f"ORDERSTREAM_PORT_{n.upper()}": str(first + i) for i, n in enumerate(PROGRAMS)},
        }
        running = Cluster(
            kafka, root, {n: pod.environment(secrets, 0, root) | here for n, pod in found.items()}
        )
        try:
            for name, pod in found.items():
                running.start(name, pod)
            for name in found:
                until(
                    lambda name=name: running.probe(name, "readinessProbe") == 200,
                    what=f"{name} is ready: {running.log(name).read_text()[-2000:]}",
                )
            yield running
        finally:
            running.http.close()
            for process in running.processes.values():
                process.kill()
                process.wait(20)


class TestServices:
    def test_answer_the_probes(self, cluster: Cluster) -> None:
        for name in PROGRAMS:
            for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
                assert cluster.probe(name, probe) == 200, (name, probe)

    def test_take_an_order_from_the_first_to_the_last(self, cluster: Cluster) -> None:
        stock = f"{cluster.url('inventory')}/api/stock/MUG"
        cluster.http.put(stock, json={"onHand": 3}).raise_for_status()
        order = {"orderId": "k-1", "userId": 1, "items": [{"sku": "MUG", "qty": 2}]}
        orders = f"{cluster.url('order')}/api/orders"
        answer = cluster.http.post(orders, json=order, headers={"prefer": "wait=20"})
        assert (answer.status_code, answer.json()["status"]) == (200, "CONFIRMED")
        cancelled = cluster.http.post(f"{orders}/k-1/cancel", json={"reason": "a test"})
        assert cancelled.status_code == 200, cancelled.text
        until(lambda: cluster.ask("inventory", "/api/stock/MUG")["available"] == 3, what="released")
        told = "/api/notifications?orderId=k-1"
        until(lambda: len(cluster.ask("notification", told)["notifications"]) == 2, what="told")
        counted = "/api/analytics/summary"
        until(lambda: cluster.ask("analytics", counted)["outcomes"]["CANCELLED"], what="counted")

    def test_park_what_cannot_be_read_and_give_it_up(self, cluster: Cluster) -> None:
        producer = Producer({"bootstrap.servers": cluster.kafka.admin})
        producer.produce("order.created", b"no order", "k-2")
        assert producer.flush(30) == 0
        listed = "/api/dead-letters"
        until(lambda: cluster.ask("order", listed)["deadLetters"], what="parked")
        done = cluster.http.post(f"{cluster.url('order')}{listed}:redrive", json={"order": "k-2"})
        assert (done.status_code, done.json()["redriven"]) == (200, 1), done.text

    def test_are_seen_by_the_console(self, cluster: Cluster) -> None:
        signed = cluster.http.post(f"{cluster.url('console')}/console/session", json={"key": KEY})
        assert signed.is_success, signed.text
        assert len(cluster.ask("console", "/console/topics")["topics"]) == 15
        groups = {g["group"] for g in cluster.ask("console", "/console/groups")["groups"]}
        assert {f"orderstream-{n}" for n in ("inventory", "view")} <= groups
        assert cluster.ask("console", "/console/topics/order.created")
        assert cluster.ask("console", "/services/inventory/api/stock/MUG")["onHand"] == 3
        record = {"key": "k-3", "value": "by hand", "headers": {}}
        written = cluster.http.post(
            f"{cluster.url('console')}/console/topics/order.created/records", json=record
        )
        assert written.status_code == 201, written.text
        entries = cluster.ask("console", "/console/audit")["entries"]
        assert [entry["result"] for entry in entries] == ["done", "asked"]

    def test_are_refused_what_is_not_theirs(self, cluster: Cluster) -> None:
        given = cluster.environments["analytics"]
        faults: list[KafkaError | None] = []
        producer = Producer(
            {
                "bootstrap.servers": given["KAFKA_BOOTSTRAP_SERVERS"],
                "security.protocol": given["KAFKA_SECURITY_PROTOCOL"],
                "sasl.mechanism": given["KAFKA_SASL_MECHANISM"],
                "sasl.username": given["KAFKA_SASL_USERNAME"],
                "sasl.password": given["KAFKA_SASL_PASSWORD"],
                "ssl.ca.location": given["KAFKA_SSL_CA_LOCATION"],
                "log_level": 0,
            }
        )
        producer.produce("order.created", b"{}", on_delivery=lambda error, _: faults.append(error))
        assert producer.flush(30) == 0
        assert [error and error.code() for error in faults] == [
            KafkaError.TOPIC_AUTHORIZATION_FAILED
        ]

    def test_stop_within_the_time_that_they_are_given(self, cluster: Cluster) -> None:
        """The last test here: nothing runs after it."""
        for process in cluster.processes.values():
            process.send_signal(signal.SIGTERM)
        for name, process in cluster.processes.items():
            spec = pods()[name].spec
            (hook,) = spec["containers"][0]["lifecycle"]["preStop"].values()
            left = spec["terminationGracePeriodSeconds"] - hook["seconds"]
            assert process.wait(left) == 0, cluster.log(name).read_text()[-2000:]
        for name in PROGRAMS:
            assert "uthoriz" not in cluster.log(name).read_text()
