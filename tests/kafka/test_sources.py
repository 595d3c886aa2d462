"""What a member of a group does with partitions that are on hold, taken away, or at rest."""

from collections.abc import Iterable, Iterator
from contextlib import closing
from typing import Any

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition

from orderstream.contract.errors import PartitionsGone
from orderstream.runtime.admin import Admin
from orderstream.runtime.broker_kafka import KafkaSource
from orderstream.runtime.settings import Settings
from orderstream.runtime.stage import Partition, Positions, Record
from tests.conftest import SettingsOf
from tests.waiting import until

GROUP = "holders"
PARTITIONS = 2


class Reader:
    """A source, and what it has read."""

    def __init__(self, source: KafkaSource) -> None:
        self.source = source
        self.read: list[Record] = []

    def partitions(self) -> set[Partition]:
        """Poll once, and return the partitions that records came from by now."""
        self.read += self.source.poll(100, 0.05, 0.0)
        return {(record.topic() or "", record.partition() or 0) for record in self.read}


@pytest.fixture
def topic(settings_of: SettingsOf) -> tuple[Settings, str]:
    settings = settings_of()
    name = settings.topics.order_created_retry
    Admin(settings.kafka()).create([name], PARTITIONS)
    return settings, name


@pytest.fixture(params=["earliest", "latest"])
def reader(request: pytest.FixtureRequest, topic: tuple[Settings, str]) -> Iterator[Reader]:
    """Where a new group begins decides on how partitions that come are taken."""
    settings, name = topic
    source = KafkaSource(settings.kafka(), f"{name}-{GROUP}", 0, [name], offset_reset=request.param)
    with closing(source):
        yield Reader(source)


def put(settings: Settings, topic: str, value: bytes, each: int = 1) -> None:
    """Write so many records to each partition."""
    producer = Producer(settings.kafka())
    for _ in range(each):
        for partition in range(PARTITIONS):
            producer.produce(topic, value, partition=partition)
    assert producer.flush(10) == 0


def taken_for_a_while(settings: Settings, topic: str, reader: Reader) -> set[Partition]:
    """Have another member take what is its share, and leave; return what that was."""
    config = settings.kafka() | {
        "group.id": f"{topic}-{GROUP}",
        "partition.assignment.strategy": "cooperative-sticky",
        "enable.auto.commit": False,
    }
    other = Consumer(config)
    other.subscribe([topic])

    def has_its_share() -> set[Partition]:
        reader.partitions()
        other.poll(0.05)
        return {(p.topic, p.partition) for p in other.assignment()}

    try:
        return until(has_its_share, what="another member has a partition")
    finally:
        other.close()  # It has no instance id: the group hears at once that it left.


class TestAPartitionOnHold:
    def test_is_read_when_it_comes_back(self, topic: tuple[Settings, str], reader: Reader) -> None:
        settings, name = topic

        def begins() -> bool:
            put(settings, name, b"before")
            return len(reader.partitions()) == PARTITIONS

        until(begins, what="the first records")
        for partition in reader.partitions():
            reader.source.hold(partition, 0)
        taken = taken_for_a_while(settings, name, reader)
        assert len(taken) == 1
        reader.source.rewind()  # As after a fault: the loop then knows of nothing on hold.
        reader.read.clear()
        put(settings, name, b"after")
        until(lambda: taken & reader.partitions(), what="the partition that came back is read")


class TestWaitingForAFullerBatch:
    """While it is asleep, nothing more is fetched than what came first."""

    @pytest.fixture
    def asleep_s(self, monkeypatch: pytest.MonkeyPatch) -> list[float]:
        """How long it was asleep, which it is not here."""
        asleep_s: list[float] = []
        monkeypatch.setattr("orderstream.runtime.broker_kafka.time.sleep", asleep_s.append)
        return asleep_s

    @pytest.mark.parametrize(("each", "expected"), [(1, [0.8]), (1_500, [])])
    def test_is_not_for_a_batch_that_is_on_the_log_already(
        self, topic: tuple[Settings, str], asleep_s: list[float], each: int, expected: list[float]
    ) -> None:
        settings, name = topic
        put(settings, name, bytes(2_000), each)  # Several fetches, where it is many.
        source = KafkaSource(settings.kafka(), f"{name}-{GROUP}", 0, [name])
        with closing(source):
            assert until(lambda: source.poll(1_000, 0.2, 1.0), what="a batch")
        assert asleep_s == expected


class NothingStored:
    """The positions of a store that has none."""

    def load(self, partitions: Iterable[Partition]) -> Positions:  # noqa: ARG002
        return {}

    def begin(self, positions: Positions) -> None:
        raise AssertionError(f"a group that starts at the beginning has none to keep: {positions}")


@pytest.fixture
def stored(topic: tuple[Settings, str]) -> Iterator[Reader]:
    """It has read all that there is, of a stage that keeps its offsets in its store."""
    settings, name = topic
    put(settings, name, b"before")
    source = KafkaSource(settings.kafka(), f"{name}-{GROUP}", 0, [name], starts=NothingStored())
    with closing(source):
        reader = Reader(source)
        until(lambda: len(reader.partitions()) == PARTITIONS, what="both partitions are read")
        yield reader


def shown(settings: Settings, topic: str) -> list[int | None]:
    """Return what Kafka has heard of each partition."""
    lags = Admin(settings.kafka()).lag(f"{topic}-{GROUP}", [topic])
    return [lag.committed for lag in lags]


class TestAStageThatKeepsItsOffsetsInItsStore:
    def test_is_told_that_partitions_were_taken_away(
        self, topic: tuple[Settings, str], stored: Reader
    ) -> None:
        with pytest.raises(PartitionsGone, match=r"taken away$"):
            taken_for_a_while(*topic, stored)

    def test_waits_for_the_leader_of_a_partition_that_was_made_a_moment_ago(
        self, topic: tuple[Settings, str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        settings, name = topic
        put(settings, name, b"first")
        not_yet = [KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.LEADER_NOT_AVAILABLE]

        class Hasty(Consumer):
            def get_watermark_offsets(self, *args: Any, **options: Any) -> Any:
                if not_yet:
                    raise KafkaException(KafkaError(not_yet.pop()))
                return super().get_watermark_offsets(*args, **options)

        monkeypatch.setattr("orderstream.runtime.broker_kafka.Consumer", Hasty)
        source = KafkaSource(settings.kafka(), f"{name}-{GROUP}", 0, [name], starts=NothingStored())
        with closing(source):
            until(lambda: source.poll(100, 0.2, 0.0), what="what is there is read")
        assert not_yet == []

    def test_shows_kafka_the_last_of_them_once_nothing_more_comes(
        self, topic: tuple[Settings, str], stored: Reader
    ) -> None:
        _, name = topic
        for partition in range(PARTITIONS):  # The second so soon after the first that it waits.
            stored.source.show_progress({(name, partition): 1})
        assert stored.source.poll(100, 0.05, 0.0) == ()
        until(lambda: shown(*topic) == [1, 1], what="the second is shown")

    def test_shows_kafka_no_older_one_when_that_is_refused_late(
        self, topic: tuple[Settings, str], stored: Reader
    ) -> None:
        _, name = topic
        stored.source.show_progress({(name, partition): 1 for partition in range(PARTITIONS)})
        stored.source.show_progress({(name, 0): 2})
        stored.source.poll(100, 0.05, 0.0)
        until(lambda: shown(*topic) == [2, 1], what="the newer one is shown")
        stored.source._committed(
            KafkaError(KafkaError.ILLEGAL_GENERATION), [TopicPartition(name, 0, 1)]
        )
        stored.source.show_progress({(name, 1): 2})
        stored.source.poll(100, 0.05, 0.0)
        until(lambda: shown(*topic)[1] == 2, what="all is shown")
        assert shown(*topic) == [2, 2]
