"""A real Kafka: the same brokers for all who ask, and no acknowledged record is lost."""

import os
import signal
import socket
from pathlib import Path

import pytest
from confluent_kafka import Consumer, KafkaException, Producer
from confluent_kafka.admin import (
    AdminClient,
    ConfigResource,  # pyright: ignore[reportPrivateImportUsage]
    NewTopic,  # pyright: ignore[reportPrivateImportUsage]
)

from orderstream.contract.errors import ConfigurationError
from orderstream.local import kafka
from orderstream.local.processes import ProcessId, wait_until
from tests.ports import own_port


def written(servers: str, topic: str, text: bytes) -> None:
    faults: list[object] = []
    producer = Producer({"bootstrap.servers": servers, "acks": "all", "log_level": 0})
    producer.produce(topic, text, on_delivery=lambda error, _: faults.append(error))
    assert producer.flush(15) == 0
    assert faults == [None]


def read(servers: str, topic: str, count: int) -> list[bytes | None]:
    consumer = Consumer(
        {
            "bootstrap.servers": servers,
            "group.id": "reader",
            "auto.offset.reset": "earliest",
            "log_level": 0,
        }
    )
    try:
        consumer.subscribe([topic])
        found: list[bytes | None] = []
        assert wait_until(
            lambda: (
                found.extend(record.value() for record in consumer.consume(10, 0.2))
                or len(found) >= count
            ),
            30,
        )
        return found
    finally:
        consumer.close()


def killed(pids: tuple[int, ...]) -> None:
    processes = [process for pid in pids if (process := ProcessId.of(pid))]
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    assert wait_until(lambda: not any(process.alive() for process in processes), 30)


def admin(servers: str) -> AdminClient:
    return AdminClient({"bootstrap.servers": servers, "log_level": 0})


class TestOneBroker:
    def test_start_stop_and_status_may_be_repeated_and_the_log_outlives_stop_and_kill(
        self, home: Path
    ) -> None:
        assert not kafka.status(home).running
        assert not kafka.stop(home)
        port = own_port()
        first = kafka.start(home, port=port)
        assert first.running
        assert len(first.pids) == first.brokers == 1
        assert first == kafka.start(home, port=port) == kafka.status(home)
        servers = first.bootstrap_servers
        client = admin(servers)
        client.create_topics([NewTopic("t", 1, 1)])["t"].result(10)
        written(servers, "t", b"before stop")
        assert kafka.stop(home)
        assert not kafka.stop(home)
        assert not kafka.status(home).running

        second = kafka.start(home, port=port)
        assert second.bootstrap_servers == servers
        written(servers, "t", b"before kill")
        killed(second.pids)
        assert not kafka.status(home).running

        third = kafka.start(home, port=port)
        assert third.bootstrap_servers == servers
        assert read(servers, "t", 2) == [b"before stop", b"before kill"]

    def test_another_home_takes_the_next_free_ports_and_refuses_other_counts(
        self, home: Path
    ) -> None:
        port = own_port()
        with socket.create_server(("127.0.0.1", port)):
            status = kafka.start(home, port=port)
        assert status.bootstrap_servers == f"127.0.0.1:{port + 1}"
        with pytest.raises(ConfigurationError, match=r"1 broker\(s\), not 3"):
            kafka.start(home, brokers=3, port=port)
        with pytest.raises(ConfigurationError, match="1 or 3"):
            kafka.start(home, brokers=2, port=port)
        # A number that has gone to a stranger is neither taken for a broker nor ended.
        kafka.stop(home)
        state = home / "kafka" / "state.json"
        stranger = f'[{{"pid": {os.getpid()}, "created": 1.0}}]'
        text = state.read_text("utf-8")
        head, _, tail = text.partition('"servers": [')
        state.write_text(f'{head}"servers": {stranger}{tail.partition("]")[2]}', "utf-8")
        assert not kafka.status(home).running
        assert not kafka.stop(home)


class TestThreeBrokers:
    def test_records_have_three_copies_and_a_killed_broker_comes_back_alone(
        self, home: Path
    ) -> None:
        port = own_port()
        status = kafka.start(home, brokers=3, port=port)
        servers = status.bootstrap_servers
        assert len(set(status.pids)) == 3
        client = admin(servers)
        client.create_topics([NewTopic("t", 1)])["t"].result(15)

        def copies() -> list[int]:
            partitions = client.list_topics("t", timeout=10).topics["t"].partitions
            return sorted(partitions[0].replicas) if partitions else []

        def in_sync_at_least() -> str | None:
            resource = ConfigResource(ConfigResource.Type.TOPIC, "t")
            try:
                found = client.describe_configs([resource])[resource].result(10)
            except KafkaException:
                return None
            return found["min.insync.replicas"].value

        # Each broker learns it by itself, and which of them is asked is chance.
        assert wait_until(lambda: copies() == [1, 2, 3], 30)
        assert wait_until(lambda: in_sync_at_least() == "2", 30)

        killed(status.pids[:1])
        assert not kafka.status(home).running
        written(servers, "t", b"two of three")
        again = kafka.start(home, brokers=3, port=port)
        assert again.running
        assert again.bootstrap_servers == servers
        assert again.pids[1:] == status.pids[1:]
        assert read(servers, "t", 1) == [b"two of three"]
