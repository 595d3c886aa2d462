"""Follows topics as they grow, for whoever looks on: no group is joined, nothing is committed."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from typing import Any

from confluent_kafka import Consumer, KafkaException, TopicPartition

from orderstream.contract.errors import Unavailable
from orderstream.runtime.broker_kafka import error_of
from orderstream.runtime.log_reader import LogReader, reported
from orderstream.runtime.stage import Positions, Record, positions_after

BATCH_RECORDS = 1_000
WAIT_S = 0.1

Followed = Iterator[tuple[Positions, Sequence[Record]]]


def follow(
    config: Mapping[str, Any],
    group: str,
    topics: Sequence[str],
    *,
    is_over: Callable[[], bool] = lambda: False,
    ahead_kbytes: int = 16_384,
) -> Followed:
    """Give where the topics end, and from then on what comes and where that ends, until it is over.

    `ahead_kbytes` is as much as is read before it is wanted.

    Committed records only, each partition in order. A broker that is away is waited for; nothing is
    skipped. Raises Unavailable when Kafka is away at the beginning, or refuses us.
    """
    with closing(LogReader(config, group)) as reader:
        at = reader.stable_ends(reader.partitions(topics))
    consumer = Consumer(
        dict(config)
        | {
            "group.id": group,  # Required; nothing is joined or committed.
            "isolation.level": "read_committed",
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "auto.offset.reset": "earliest",
            "fetch.wait.max.ms": 100,  # Ten fetches a second of all there is, and not thousands.
            "fetch.min.bytes": 1 << 20,
            "queued.max.messages.kbytes": ahead_kbytes,
            "log_level": 2,
        }
    )
    with closing(consumer):
        consumer.assign([TopicPartition(*p, offset) for p, offset in at.items()])
        yield at, ()
        while not is_over():
            try:
                messages = consumer.consume(BATCH_RECORDS, WAIT_S)
            except KafkaException as error:
                raise Unavailable(f"the log cannot be read: {error_of(error).str()}") from error
            records: list[Record] = []
            for message in messages:
                if (error := message.error()) is None:
                    records.append(message)
                else:
                    reported(error)
            if records:
                at |= positions_after(records)
                yield at, records


def between(config: Mapping[str, Any], group: str, begins: Positions, ends: Positions) -> Followed:
    """Give what stands between two places, partition by partition in order. Raises Unavailable."""
    at = {p: begins.get(p, end) for p, end in ends.items()}
    later = {p: end for p, end in ends.items() if at[p] < end}
    yield at, ()
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
                at |= positions_after(inside)
                yield at, inside
