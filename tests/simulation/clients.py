"""What librdkafka does, as far as runtime/broker_kafka.py uses it, against the simulated cluster.

The adapter itself is the real one: these stand for confluent_kafka's Consumer and Producer, and
report each fault with the error code and flags that librdkafka gives it.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Message, TopicPartition

from orderstream.runtime.stage import Output, Partition
from tests.simulation.cluster import Cluster, Refused, Transaction
from tests.simulation.groups import Group, Ticket
from tests.simulation.schedule import Fate, Process, here

_ABORTABLE = {
    "GENERATION": KafkaError.ILLEGAL_GENERATION,
    "MEMBER": KafkaError.UNKNOWN_MEMBER_ID,
    "INSTANCE": KafkaError.FENCED_INSTANCE_ID,
}


class Consumer:
    """A member of a group; `cluster` comes with the configuration, as servers' addresses would."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.instance: str = config["group.instance.id"]
        self.process: Process = here()
        self._cluster: Cluster = config["bootstrap.servers"]
        self._group: Group = self._cluster.groups[config["group.id"]]
        self._session_s: float = config["session.timeout.ms"] / 1000
        self._heartbeat_s: float = config["heartbeat.interval.ms"] / 1000
        self._committed: bool = config["isolation.level"] == "read_committed"
        self._at: dict[Partition, int | None] = {}  # None: where the group's offset says.
        self._paused: set[Partition] = set()
        self._served = -1
        self._silent_s = 0.0
        self._closed = False

    def subscribe(
        self,
        topics: Sequence[str],
        on_assign: Callable[..., None],
        on_revoke: Callable[..., None],
        on_lost: Callable[..., None],
    ) -> None:
        assert topics
        self._on_assign, self._on_revoke, self._on_lost = on_assign, on_revoke, on_lost
        self._group.join(self)
        self._cluster.schedule.after(self._heartbeat_s, self._heartbeat)

    def _heartbeat(self) -> None:
        if self._group.members.get(self.instance) is self:
            gone = self._closed or self.process.dead or self.process.paused
            self._silent_s = self._silent_s + self._heartbeat_s if gone else 0.0
            if self._silent_s >= self._session_s:
                self._cluster.schedule.fault("coordinator", f"{self.instance}: session timed out")
                self._group.leave(self.instance)
                self._silent_s = 0.0
        if not self.process.dead:
            self._cluster.schedule.after(self._heartbeat_s, self._heartbeat)

    def _serve(self) -> bool:
        """Make the callbacks that are due; False when another has this member's place."""
        group = self._group
        member = group.members.get(self.instance)
        if member is None:
            lost = list(self._at)
            self._at.clear()
            if lost:
                self._on_lost(self, _named(lost))
            group.join(self)
        elif member is not self:
            return False
        if self._served == group.generation:
            return True
        self._served = group.generation
        revoked = [at for at in self._at if group.target.get(at) != self.instance]
        if revoked:
            self.process.schedule.note(self.process.name, f"revoked {revoked}")
            self._on_revoke(self, _named(revoked))
            group.gave_up(revoked)
        came = [
            at
            for at, who in group.target.items()
            if who == self.instance
            and at not in self._at
            and group.owner.get(at, self.instance) == self.instance
        ]
        if came:
            self.process.schedule.note(self.process.name, f"assigned {came}")
            for at in came:
                group.owner[at] = self.instance
            self._on_assign(self, _named(came))
        return True

    def poll(self, timeout: float) -> Message | None:
        process, cluster = self.process, self._cluster
        process.point("poll")
        if process.fate("fetch") is not Fate.DONE:
            process.sleep(timeout)
            return Message(error=KafkaError(KafkaError._TRANSPORT, "simulated"))
        if not self._serve():
            return Message(error=KafkaError(KafkaError._FATAL, "instance fenced", True))
        found = self._fetch(1)
        if not found:
            seen = -1

            def is_time() -> bool:
                nonlocal seen
                if self._served != self._group.generation:
                    return True
                if seen == cluster.version:
                    return False
                seen = cluster.version
                return self._has_records()

            # A poll that returns later than asked does no harm, and costs fewer turns.
            process.wait(
                is_time, timeout if timeout < 0.2 else 0.2 + 2.0 * cluster.schedule.chance()
            )
            if not self._serve():
                return Message(error=KafkaError(KafkaError._FATAL, "instance fenced", True))
            found = self._fetch(1)
        return found[0] if found else None

    def consume(self, num_messages: int, timeout: float) -> list[Message]:
        assert timeout >= 0
        process = self.process
        process.point("consume")
        if process.schedule.chance() < 0.3:
            self._serve()
        return self._fetch(int(process.schedule.chance() * (num_messages + 1)))

    def _fetch(self, records_max: int) -> list[Message]:
        found: list[Message] = []
        partitions = list(self._at)
        first = int(self._cluster.schedule.chance() * len(partitions))
        for at in partitions[first:] + partitions[:first]:
            if len(found) >= records_max:
                break
            start = self._place(at)
            if start is None:
                continue
            records, self._at[at] = self._cluster.read(
                at, start, records_max - len(found), committed=self._committed
            )
            found += records
        return found

    def _place(self, at: Partition) -> int | None:
        if at in self._paused:
            return None
        offset = self._at[at]
        if offset is None and self._group.is_stable(at):
            offset = self._at[at] = self._group.committed.get(at, 0)
        return offset

    def _has_records(self) -> bool:
        for at in self._at:
            start = self._place(at)
            if start is not None and len(self._cluster.logs.get(at, ())) > start:
                found, after = self._cluster.read(at, start, 1, committed=self._committed)
                if found:
                    return True
                self._at[at] = after
        return False

    def consumer_group_metadata(self) -> Ticket:
        return self._group.ticket(self)

    def assignment(self) -> list[TopicPartition]:
        return _named(self._at)

    def incremental_assign(self, partitions: Sequence[TopicPartition]) -> None:
        for p in partitions:
            self._at[p.topic, p.partition] = p.offset if p.offset >= 0 else None

    def incremental_unassign(self, partitions: Sequence[TopicPartition]) -> None:
        for p in partitions:
            self._at.pop((p.topic, p.partition), None)

    def pause(self, partitions: Sequence[TopicPartition]) -> None:
        self._paused.update((p.topic, p.partition) for p in partitions)

    def resume(self, partitions: Sequence[TopicPartition]) -> None:
        self._paused.difference_update((p.topic, p.partition) for p in partitions)

    def seek(self, partition: TopicPartition) -> None:
        at = (partition.topic, partition.partition)
        if at not in self._at:
            raise KafkaException(KafkaError(KafkaError._STATE, "not assigned"))
        self._at[at] = partition.offset

    def committed(self, partitions: Sequence[TopicPartition], timeout: float) -> list[Any]:
        self.process.point("committed")
        wanted = [(p.topic, p.partition) for p in partitions]

        def are_stable() -> bool:
            return all(self._group.is_stable(at) for at in wanted)

        if self.process.fate("committed") is not Fate.DONE or not self.process.wait(
            are_stable, timeout
        ):
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT, "committed"))
        return [TopicPartition(*at, self._group.committed.get(at, -1001)) for at in wanted]

    def get_watermark_offsets(self, partition: TopicPartition, timeout: float) -> tuple[int, int]:
        assert timeout
        return 0, len(self._cluster.logs.get((partition.topic, partition.partition), ()))

    def commit(self, offsets: Sequence[TopicPartition], asynchronous: bool) -> None:
        assert asynchronous
        if self._group.objection(self._group.ticket(self)) is None:
            for p in offsets:
                self._group.commit((p.topic, p.partition), p.offset)

    def close(self) -> None:
        self._closed = True  # A static member stays in the group until its session times out.


class Producer:
    """With or without transactions."""

    def __init__(self, config: dict[str, Any]) -> None:
        self._cluster: Cluster = config["bootstrap.servers"]
        self._id: str = config.get("transactional.id", "")
        self._timeout_s: float = config.get("transaction.timeout.ms", 0) / 1000
        self._epoch = -1
        self._transaction: Transaction | None = None
        self._queue: list[Output] = []
        self._told: list[Callable[..., None]] = []
        self._carried_out = 0

    def init_transactions(self, timeout: float) -> None:
        def take() -> None:
            self._epoch = self._cluster.take_seat(self._id)

        self._request("InitProducerId", take, timeout)

    def begin_transaction(self) -> None:
        here().point("begin")

    def produce(
        self,
        topic: str,
        value: bytes | None,
        key: bytes | None,
        on_delivery: Callable[..., None] | None = None,
        headers: Any = (),
    ) -> None:
        process = here()
        process.point(f"produce {topic}")
        self._queue.append(Output(topic, key, value, list(headers)))
        if on_delivery is not None:
            self._told.append(on_delivery)
        if self._id and process.schedule.chance() < 0.5:
            with suppress(Refused):  # It is said by the call that follows.
                self._send()

    def send_offsets_to_transaction(
        self, positions: Sequence[TopicPartition], metadata: Ticket, timeout: float
    ) -> None:
        group = next(g for g in self._cluster.groups.values() if self._id.startswith(g.name))
        offsets = {(p.topic, p.partition): p.offset for p in positions}
        begun = self._transaction

        def add() -> None:
            if begun is self._transaction:
                self._open()
            self._cluster.add_offsets(self._id, self._epoch, group.name, metadata, offsets)

        self._request(f"TxnOffsetCommit {offsets}", add, timeout)

    def commit_transaction(self, timeout: float) -> None:
        if self._queue:
            self._request(f"Produce {len(self._queue)}", self._send, timeout)
        self._end("committed", timeout)

    def abort_transaction(self, timeout: float) -> None:
        self._queue.clear()
        self._end("aborted", timeout)

    def _end(self, state: str, timeout: float) -> None:
        transaction = self._transaction

        def end() -> None:
            if self._transaction is transaction is not None:
                self._cluster.end(self._id, self._epoch, state)

        self._request(f"EndTxn {state}", end, timeout)
        self._transaction = None

    def poll(self, timeout: float) -> int:
        here().sleep(timeout)
        return 0

    def flush(self, timeout: float) -> int:
        """Send what a producer without transactions has; return how many are unconfirmed."""
        left = len(self._queue)
        try:
            self._request(f"Produce {left}", self._send_plain, timeout)
        except KafkaException:
            return left
        for told in self._told:
            told(None, None)
        self._told.clear()
        return 0

    def _send_plain(self) -> None:
        while self._queue:
            self._cluster.append(self._queue.pop(0))

    def _send(self) -> None:
        if self._queue:
            self._open()
        while self._queue:
            self._cluster.produce(self._id, self._epoch, self._queue[0])
            self._queue.pop(0)

    def _open(self) -> None:
        if self._transaction is None:
            self._transaction = self._cluster.open(self._id, self._epoch, self._timeout_s)

    def _request(self, what: str, carry_out: Callable[[], None], timeout: float) -> None:
        process = here()
        schedule = process.schedule
        process.point(what)
        fate = process.fate(what)
        if fate is Fate.LATE:
            number = self._carried_out

            def late() -> None:
                # Behind a repeat of its own it does nothing: that is Kafka's to see to (KIP-890).
                if number == self._carried_out:
                    with suppress(Refused):
                        carry_out()

            schedule.finish(12.0 * schedule.chance() ** 2, late)
        elif fate is not Fate.LOST:
            self._carry_out(process, carry_out, timeout)
        if fate is not Fate.DONE:
            process.sleep(timeout * schedule.chance())
            raise _timed_out(what)

    def _carry_out(self, process: Process, carry_out: Callable[[], None], timeout: float) -> None:
        for _ in range(2):
            try:
                carry_out()
                self._carried_out += 1
                return
            except Refused as refused:
                if refused.why != "CONCURRENT":
                    raise _error(refused.why) from None
                process.wait(lambda: self._cluster.is_free(self._id), timeout)
        raise _timed_out("the last transaction has not ended everywhere")


def _named(partitions: Any) -> list[TopicPartition]:
    return [TopicPartition(*at) for at in partitions]


def _timed_out(what: str) -> KafkaException:
    return KafkaException(KafkaError(KafkaError._TIMED_OUT, what, False, True, False))


def _error(why: str) -> KafkaException:
    if why == "FENCED":
        return KafkaException(KafkaError(KafkaError._FENCED, why, True, False, False))
    return KafkaException(KafkaError(_ABORTABLE[why], why, False, False, True))
