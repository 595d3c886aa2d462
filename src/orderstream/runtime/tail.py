"""Follows topics as they grow, for whoever looks on: no group is joined, nothing is committed."""

import threading
from collections.abc import Callable, Sequence
from contextlib import closing
from typing import Any

import structlog
from confluent_kafka import Consumer, KafkaException, TopicPartition

from orderstream.runtime.broker_kafka import error_of
from orderstream.runtime.log_reader import LogReader
from orderstream.runtime.stage import Positions, Record

BATCH_RECORDS = 1_000
WAIT_S = 0.1
STOP_WITHIN_S = 2.0

log = structlog.get_logger("orderstream.tail")

OnRecords = Callable[[Sequence[Record]], None]


class Tail:
    """Reads committed records from where the topics ended when it began, in a thread of its own.

    `on_records` is called there. A broker that is away is waited for; nothing is skipped.
    """

    def __init__(
        self, config: dict[str, Any], group: str, topics: Sequence[str], on_records: OnRecords
    ) -> None:
        self._config = config
        self._group = group
        self._topics = topics
        self._on_records = on_records
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="tail", daemon=True)
        self._begins: Positions = {}

    def start(self) -> Positions:
        """Begin, and return where. Raises Unavailable."""
        with closing(LogReader(self._config, self._group)) as reader:
            self._begins = reader.ends(reader.partitions(self._topics))
        self._thread.start()
        return dict(self._begins)

    def stop(self) -> None:
        """End it, and wait for that."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(STOP_WITHIN_S)

    def _run(self) -> None:
        consumer = Consumer(
            self._config
            | {
                "group.id": self._group,
                "isolation.level": "read_committed",
                "enable.auto.commit": False,
                "enable.auto.offset.store": False,
                "auto.offset.reset": "earliest",
                "fetch.wait.max.ms": 100,
                "queued.max.messages.kbytes": 16_384,
                "log_level": 2,
            }
        )
        try:
            consumer.assign([TopicPartition(*p, offset) for p, offset in self._begins.items()])
            while not self._stopping.is_set():
                messages = consumer.consume(BATCH_RECORDS, WAIT_S)
                records = [message for message in messages if message.error() is None]
                if records:
                    self._on_records(records)
        except KafkaException as error:
            log.error("lookers-on hear no more", reason=error_of(error).str())
        finally:
            consumer.close()


def between(
    config: dict[str, Any], group: str, begins: Positions, ends: Positions, on_records: OnRecords
) -> None:
    """Read what stands between two places, partition by partition in order. Raises Unavailable."""
    later = {p: end for p, end in ends.items() if begins.get(p, end) < end}
    if not later:
        return
    with closing(LogReader(config, group)) as reader:
        for batch in reader.read(later, begins):
            inside = [
                message
                for message in batch
                if (message.offset() or 0) < later[message.topic() or "", message.partition() or 0]
            ]
            if inside:
                on_records(inside)
