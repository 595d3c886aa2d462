"""Topics, groups and lag, by Kafka's admin protocol."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from threading import Lock
from time import monotonic, sleep
from typing import Any

from confluent_kafka import (
    Consumer,
    ConsumerGroupTopicPartitions,
    IsolationLevel,
    KafkaError,
    KafkaException,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import (
    AlterConfigOpType,  # pyright: ignore[reportPrivateImportUsage]
    ConfigEntry,  # pyright: ignore[reportPrivateImportUsage]
    ConfigResource,  # pyright: ignore[reportPrivateImportUsage]
    ConfigSource,  # pyright: ignore[reportPrivateImportUsage]
    NewPartitions,  # pyright: ignore[reportPrivateImportUsage]
    NewTopic,  # pyright: ignore[reportPrivateImportUsage]
    OffsetSpec,  # pyright: ignore[reportPrivateImportUsage]
)

from orderstream.contract.errors import Unavailable
from orderstream.runtime.broker_kafka import error_of
from orderstream.runtime.clients import ASK_AGAIN_S, Asker, asked_again, made
from orderstream.runtime.stage import Partition, Positions
from orderstream.runtime.topic_settings import Wanted

TIMEOUT_S = 10.0
REACH_TIMEOUT_S = 1.0
REACH_FRESH_S = 1.0
_COORDINATOR_COMES = frozenset(
    {
        KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
        KafkaError.COORDINATOR_NOT_AVAILABLE,
        KafkaError.NOT_COORDINATOR,
        KafkaError._WAIT_COORD,
    }
)
RECORD_BYTES_MAX = 2_097_152  # Twice Kafka's default: a dead letter is a record with more headers.


@dataclass(frozen=True)
class TopicInfo:
    """A topic's size and settings that differ from the broker's."""

    name: str
    partitions: int
    replication: int
    records: int


@dataclass(frozen=True)
class Lag:
    """How far a group is behind in one partition.

    A transaction ends with a marker that takes an offset, so of what is not read yet `behind`
    counts one too many for each. Where only markers are left (`all_read`), it is 0.
    """

    group: str
    topic: str
    partition: int
    committed: int | None
    end: int
    all_read: bool = False

    @property
    def behind(self) -> int:
        """Offsets between what is committed and the end; 0 when none of them is a record."""
        return 0 if self.all_read else self.end - (self.committed or 0)


class Reach:
    """Whether Kafka answers: asked at most once a second, however many want to know.

    A consumer does not tell: one that hears nothing has nothing to do, or nobody to hear from.
    """

    def __init__(self, config: dict[str, Any]) -> None:
        # Kafka that is back is to be found within a second; librdkafka would wait up to ten.
        self._asker = Asker(config | {"log_level": 2, "reconnect.backoff.max.ms": 500})
        self._lock = Lock()
        self._asked_at = -REACH_FRESH_S
        self._fault: str | None = None

    def check(self) -> None:
        """Raise Unavailable while Kafka does not answer; takes a second at most."""
        with self._lock:
            if monotonic() - self._asked_at >= REACH_FRESH_S:
                self._fault = self._ask()
                self._asked_at = monotonic()
        if self._fault is not None:
            raise Unavailable(self._fault)

    def _ask(self) -> str | None:
        try:
            self._asker.cluster(REACH_TIMEOUT_S)
        except Unavailable as error:
            return str(error)
        return None


class Admin:
    """One cluster. Every method raises Unavailable when it does not answer."""

    def __init__(self, config: dict[str, Any]) -> None:
        self._config = config | {"log_level": 2}
        self._asker = Asker(self._config)
        self._client: Any = self._asker.client  # Its stubs are incomplete.
        self._asking: dict[str, Consumer] = {}  # By group: `lag` may be asked many times a second.

    def brokers(self) -> list[str]:
        """Return the brokers' addresses."""
        found = self._asker.cluster(TIMEOUT_S)
        return [f"{b.host}:{b.port}" for b in found.brokers.values()]

    def partitions(self) -> dict[str, int]:
        """Return every topic's number of partitions, internal topics left out."""
        return {name: len(topic) for name, topic in self._topics().items()}

    def _topics(self) -> dict[str, dict[int, int]]:
        found = self._asker.cluster(TIMEOUT_S)
        return {
            name: {number: len(p.replicas) for number, p in topic.partitions.items()}
            for name, topic in found.topics.items()
            if not name.startswith("__")
        }

    def create(
        self, topics: Iterable[str], partitions: int, replicas: int | None = None
    ) -> list[str]:
        """As `create_wanted`, with nothing wanted but so many partitions."""
        return self.create_wanted([Wanted(topic, partitions, {}) for topic in topics], replicas)

    def create_wanted(self, topics: Iterable[Wanted], replicas: int | None = None) -> list[str]:
        """Create the topics that are missing, on three brokers with two that must confirm.

        Returns those created, once the broker that we ask tells of them. Without `replicas`, on
        fewer than three brokers each has as many as there are brokers just now: a cluster that
        starts may have but one. With it, Unavailable is raised until there are so many. Safe to
        call at the same time from several processes.
        """
        there = self.partitions()
        missing = [topic for topic in topics if topic.topic not in there]
        if not missing:
            return []
        if replicas is None:
            replicas = min(3, len(self.brokers()))
        config = {
            "min.insync.replicas": "2" if replicas >= 3 else "1",
            "max.message.bytes": str(RECORD_BYTES_MAX),
        }
        futures = self._client.create_topics(
            [
                NewTopic(
                    topic.topic,
                    num_partitions=topic.partitions,
                    replication_factor=replicas,
                    config=config | dict(topic.config),
                )
                for topic in missing
            ],
            operation_timeout=TIMEOUT_S,
        )
        for name, future in futures.items():
            try:
                future.result()
            except KafkaException as error:
                if error_of(error).code() != KafkaError.TOPIC_ALREADY_EXISTS:
                    raise Unavailable(f"{name}: {error_of(error).str()}") from error
        self._await({topic.topic: 0 for topic in missing})  # All of them come at once.
        return [topic.topic for topic in missing]

    def _await(self, partitions: Mapping[str, int]) -> None:
        """Return once the broker that we ask tells of each topic's partition, and its leader.

        A broker says that a topic is made before it knows of it itself. Raises Unavailable.
        """
        deadline = monotonic() + TIMEOUT_S
        while True:
            led = {
                (name, number)
                for name, topic in self._asker.cluster(TIMEOUT_S).topics.items()
                for number, partition in topic.partitions.items()
                if partition.leader >= 0
            }
            late = partitions.items() - led
            if not late:
                return
            if monotonic() > deadline:
                raise Unavailable(f"topic {min(late)[0]}: it is made, and Kafka gives it no leader")
            sleep(ASK_AGAIN_S)

    def topic_ids(self, topics: Iterable[str]) -> dict[str, str]:
        """Return the ids of those of the topics that exist: one made anew has another.

        None where Kafka is older than 2.8 and gives none.
        """
        there = self.partitions()
        asked = TopicCollection([topic for topic in topics if topic in there])

        def ask() -> dict[str, Any]:
            futures = self._client.describe_topics(asked, request_timeout=TIMEOUT_S)
            return {topic: future.result() for topic, future in futures.items()}

        # A broker may not have heard yet of a topic that another one tells of.
        found = asked_again(ask, {KafkaError.UNKNOWN_TOPIC_OR_PART}, TIMEOUT_S, "topics")
        return {
            name: str(topic.topic_id)
            for name, topic in found.items()
            if topic.topic_id.get_least_significant_bits()
            or topic.topic_id.get_most_significant_bits()
        }

    def grow(self, topics: Iterable[str], partitions: int) -> list[str]:
        """Give the topics so many partitions; return those that had fewer, once all are there.

        Safe to repeat.
        """
        there = self.partitions()
        fewer = [topic for topic in topics if there.get(topic, partitions) < partitions]
        if fewer:
            futures = self._client.create_partitions(
                [NewPartitions(topic, partitions) for topic in fewer], operation_timeout=TIMEOUT_S
            )
            for topic, future in futures.items():
                self._answered(future, f"topic {topic}")
            self._await(dict.fromkeys(fewer, partitions - 1))
        return fewer

    def describe(self) -> list[TopicInfo]:
        """Return every topic and the number of offsets in it."""
        topics = self._topics()
        partitions = [(name, number) for name, numbers in topics.items() for number in numbers]
        first = self._offsets(partitions, OffsetSpec.earliest())
        end = self.ends(partitions)
        return [
            TopicInfo(
                name,
                len(numbers),
                max(numbers.values(), default=0),
                sum(end[name, n] - first[name, n] for n in numbers),
            )
            for name, numbers in sorted(topics.items())
        ]

    def ends(self, partitions: Iterable[tuple[str, int]]) -> dict[tuple[str, int], int]:
        """Return the offset behind the last committed record of each partition."""
        return self._offsets(partitions, OffsetSpec.latest())

    def _offsets(
        self, partitions: Iterable[tuple[str, int]], spec: OffsetSpec | None
    ) -> dict[tuple[str, int], int]:
        return self._asker.offsets(partitions, spec, IsolationLevel.READ_COMMITTED, TIMEOUT_S)

    def begins(self, partitions: Iterable[tuple[str, int]]) -> dict[tuple[str, int], int]:
        """Return the first offset of each partition; above 0, something was deleted."""
        return self._offsets(partitions, OffsetSpec.earliest())

    def at_time(
        self, partitions: Iterable[tuple[str, int]], time_ms: int
    ) -> dict[tuple[str, int], int]:
        """Return the offset of the first record from this time on; left out where none is."""
        found = self._offsets(partitions, OffsetSpec.for_timestamp(time_ms))
        return {at: offset for at, offset in found.items() if offset >= 0}

    def replicas(self, topic: str) -> list[dict[str, Any]]:
        """Return each partition's leader, replicas and in-sync replicas; none without the topic."""
        found = self._asker.cluster(TIMEOUT_S).topics.get(topic)
        partitions: dict[int, Any] = {} if found is None else found.partitions
        return [
            {"partition": n, "leader": p.leader, "replicas": p.replicas, "inSync": p.isrs}
            for n, p in sorted(partitions.items())
        ]

    def config_of(self, topic: str) -> list[dict[str, Any]]:
        """Return a topic's settings; `own` are those that the topic itself has."""
        resource = ConfigResource(ConfigResource.Type.TOPIC, topic)
        futures = self._client.describe_configs([resource], request_timeout=TIMEOUT_S)
        found = self._answered(futures[resource], f"topic {topic}")
        own = ConfigSource.DYNAMIC_TOPIC_CONFIG.value
        return [
            {"name": entry.name, "value": entry.value, "own": entry.source == own}
            for entry in sorted(found.values(), key=lambda entry: entry.name)
            if not entry.is_sensitive
        ]

    def set_config(self, topic: str, values: Mapping[str, str]) -> None:
        """Set some of a topic's settings; the others stay as they are."""
        resource = ConfigResource(ConfigResource.Type.TOPIC, topic)
        for name, value in values.items():
            operation = AlterConfigOpType.SET
            resource.add_incremental_config(
                ConfigEntry(name, value, incremental_operation=operation)
            )
        futures = self._client.incremental_alter_configs([resource], request_timeout=TIMEOUT_S)
        self._answered(futures[resource], f"topic {topic}")

    def groups(self) -> list[str]:
        """Return every consumer group."""
        found = self._answered(
            self._client.list_consumer_groups(request_timeout=TIMEOUT_S), "groups"
        )
        if found.errors and not found.valid:
            raise Unavailable(f"groups: {error_of(found.errors[0]).str()}")
        return [group.group_id for group in found.valid]

    def group(self, group: str) -> tuple[str, list[dict[str, Any]]]:
        """Return a consumer group's state and its members; `NONE` where there is no such group."""
        found = self.describe_groups([group])[group]
        if isinstance(found, Unavailable):
            raise found
        return found

    def describe_groups(
        self, groups: Collection[str]
    ) -> dict[str, tuple[str, list[dict[str, Any]]] | Unavailable]:
        """Return each group's state and members, all of them asked for at once.

        One that Kafka does not tell of hides no other: why not stands in its place.
        """
        if not groups:
            return {}
        futures = self._client.describe_consumer_groups(list(groups), request_timeout=TIMEOUT_S)
        return {group: _described(group, future) for group, future in futures.items()}

    def members(self, group: str) -> list[str]:
        """Return who is in a consumer group, as `client (host)`; nobody where there is none."""
        return [f"{member['client']} ({member['host']})" for member in self.group(group)[1]]

    def committed(self, group: str, topics: Collection[str] | None = None) -> Positions:
        """Return where a group reads on, in every partition of which it has committed anything.

        Of these topics only, where they are named.
        """
        every = [
            (t, n) for t, ns in self._topics().items() for n in ns if topics is None or t in topics
        ]
        with closing(made(Consumer, self._config | {"group.id": group})) as asking:
            return _committed(asking, group, every)

    def _answered(self, future: Any, what: str) -> Any:
        try:
            return future.result()
        except KafkaException as error:
            raise Unavailable(f"{what}: {error_of(error).str()}") from error

    def set_committed(self, group: str, positions: dict[tuple[str, int], int]) -> None:
        """Set where a group reads on; refused by Kafka while anybody is in it."""
        offsets = [TopicPartition(*at, offset) for at, offset in positions.items()]
        if not offsets:
            return
        try:
            futures = self._client.alter_consumer_group_offsets(
                [ConsumerGroupTopicPartitions(group, offsets)], request_timeout=TIMEOUT_S
            )
            for partition in futures[group].result().topic_partitions:
                if partition.error is not None:
                    raise KafkaException(partition.error)
        except KafkaException as error:
            raise Unavailable(f"group {group}: {error_of(error).str()}") from error

    def lag(self, group: str, topics: Sequence[str]) -> list[Lag]:
        """Return a group's lag in every partition of these topics."""
        counts = self.partitions()
        partitions = [(t, n) for t in topics for n in range(counts.get(t, 0))]
        if not partitions:
            return []
        committed = self._committed(group, partitions)
        ends = self.ends(partitions)
        return [Lag(group, t, n, committed.get((t, n)), ends[t, n]) for t, n in partitions]

    def _committed(self, group: str, partitions: Sequence[Partition]) -> Positions:
        """Return what a group has committed, by a consumer that joins nothing.

        Asked while its coordinator is still loading, as in a new Kafka, the admin client of
        librdkafka 2.x waits in vain, or fails in a way that ended processes.
        """
        if group not in self._asking:
            self._asking[group] = made(Consumer, self._config | {"group.id": group})
        return _committed(self._asking[group], group, partitions)


def _described(group: str, future: Any) -> tuple[str, list[dict[str, Any]]] | Unavailable:
    try:
        found = future.result()
    except KafkaException as error:
        if error_of(error).code() == KafkaError.GROUP_ID_NOT_FOUND:
            return "NONE", []
        return Unavailable(f"group {group}: {error_of(error).str()}")
    return found.state.name, [
        {
            "client": member.client_id,
            "host": member.host,
            "partitions": [
                (at.topic, at.partition)
                for at in (member.assignment.topic_partitions if member.assignment else ())
            ],
        }
        for member in found.members
    ]


def _committed(asking: Consumer, group: str, partitions: Sequence[Partition]) -> Positions:
    def ask() -> Positions:
        found = asking.committed([TopicPartition(*p) for p in partitions], timeout=TIMEOUT_S)
        for partition in found:
            if partition.error is not None:
                raise KafkaException(partition.error)
        return {(p.topic, p.partition): p.offset for p in found if p.offset >= 0}

    return asked_again(ask, _COORDINATOR_COMES, TIMEOUT_S, f"group {group}")
