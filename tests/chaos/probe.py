"""Reads along, as any consumer would, and knows when the flow stood still."""

import threading
import time
from typing import Any

from confluent_kafka import Consumer, TopicPartition

CREATED = "order.created"
RESERVED = "inventory.reserved"
BATCH = 500


class Probe:
    """Follows accepted and confirmed orders, partition by partition, from the beginning."""

    def __init__(self, bootstrap: str, partitions: int) -> None:
        self._consumer = Consumer(
            {
                "bootstrap.servers": bootstrap,
                "group.id": "chaos-probe",  # It never joins: nothing is subscribed or committed.
                "enable.auto.commit": False,
                "isolation.level": "read_committed",
                "fetch.wait.max.ms": 20,
                "fetch.error.backoff.ms": 50,
                "socket.timeout.ms": 6_000,
                "reconnect.backoff.max.ms": 200,
                "topic.metadata.refresh.interval.ms": 1_000,
                "log_level": 0,
            }
        )
        numbers = range(partitions)
        self._consumer.assign(
            [TopicPartition(topic, n, 0) for topic in (CREATED, RESERVED) for n in numbers]
        )
        self._lock = threading.Lock()
        self._seen_at = dict.fromkeys(numbers, time.monotonic())
        self._gap = dict.fromkeys(numbers, 0.0)
        self._newest = dict.fromkeys(numbers, 0.0)  # When its newest confirmed order was created.
        self._created_at: dict[bytes, float] = {}  # Of those not confirmed yet.
        self.created: set[bytes] = set()
        self.confirmed = 0
        self.slowest_s = 0.0  # From POST to confirmed.
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._follow)

    def __enter__(self) -> "Probe":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()
        self._consumer.close()

    def _follow(self) -> None:
        while not self._stopping.is_set():
            records = self._consumer.consume(BATCH, 0.05)
            with self._lock:
                for record in records:
                    if record.error() is None:
                        self._take(record)

    def _take(self, record: Any) -> None:
        key, at_s = record.key() or b"", record.timestamp()[1] / 1000
        if record.topic() == CREATED:
            self.created.add(key)
            self._created_at[key] = at_s
            return
        partition, now = record.partition(), time.monotonic()
        self.confirmed += 1
        self._gap[partition] = max(self._gap[partition], now - self._seen_at[partition])
        self._seen_at[partition] = now
        created_s = self._created_at.pop(key, None)
        if created_s is not None:
            self._newest[partition] = max(self._newest[partition], created_s)
            self.slowest_s = max(self.slowest_s, at_s - created_s)

    def begin(self) -> None:
        """Forget the pauses so far."""
        with self._lock:
            self._gap = dict.fromkeys(self._gap, 0.0)

    def pause_s(self) -> float:
        """Return the longest time since `begin` that any partition had no order confirmed."""
        with self._lock:
            now = time.monotonic()
            return max(max(self._gap[n], now - at) for n, at in self._seen_at.items())

    def flows_since(self, at_s: float) -> bool:
        """Whether every partition has confirmed an order that was placed after this time (epoch).

        Orders of a partition are decided in turn, so what waited before is done then.
        """
        with self._lock:
            return min(self._newest.values()) > at_s
