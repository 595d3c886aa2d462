"""Topics and their records, for who looks into them; nothing is joined, nothing is committed."""

import asyncio
import re
import threading
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import Any

import structlog

from orderstream.console.cluster import Cluster
from orderstream.contract.errors import Malformed, OrderstreamError, Unavailable
from orderstream.runtime.admin import Admin
from orderstream.runtime.clock import monotonic
from orderstream.runtime.documents import as_document
from orderstream.runtime.log_reader import LogReader
from orderstream.runtime.sender import Sender
from orderstream.runtime.stage import Partition, Positions, Record
from orderstream.runtime.tail import follow

SHOWN_MAX = 500
LOOKS_S = 8.0  # A search that finds little ends after this, and says how far it came.
STEP_MAX = 50_000  # Offsets of a partition that are looked at in one go: a second or two.
WAIT_S = 0.2
HEARTBEAT_S = 15.0
TAILS_MAX = 20  # Each is a thread and a consumer.
TAIL_KBYTES = 4_096

log = structlog.get_logger("orderstream.console")


class UnknownTopic(OrderstreamError):
    """There is no such topic."""


@dataclass(frozen=True)
class Wanted:
    """Which records: from where on, of which partition, and what must be in them."""

    start: str = "newest"  # newest, beginning, end, an offset, or a time in ms as `@1700000000000`.
    partition: int | None = None
    key: str = ""
    text: str = ""
    header: str = ""
    limit: int = 50

    def fits(self, record: Record) -> bool:
        """Return whether a record has what was asked for; case counts in the key alone."""
        key, value = _bytes(record.key()), _bytes(record.value())
        if self.key and self.key.encode() not in key:
            return False
        if self.text and self.text.lower() not in value.decode("utf-8", "replace").lower():
            return False
        if not self.header:
            return True
        name, _, wanted = self.header.lower().partition("=")
        return any(
            name in found.lower() and wanted in _bytes(said).decode("utf-8", "replace").lower()
            for found, said in record.headers() or ()
        )


@dataclass(frozen=True)
class Browsed:
    """What was found; `looked` records were looked at. `whole` unless more may stand there."""

    records: list[dict[str, Any]]
    looked: int
    whole: bool


class TopicDesk:
    """The topics of a cluster. Every method raises Unavailable, and UnknownTopic for a name."""

    def __init__(self, config: Mapping[str, Any], group: str, cluster: Cluster) -> None:
        self._cluster = cluster
        self._config = dict(config)
        self._group = group
        self._admin = Admin(self._config)
        self._sender = Sender(config)
        self._tails = 0

    def every(self) -> list[dict[str, Any]]:
        """Return every topic with its size: offsets, and bytes of one replica of it."""
        bytes_of: dict[str, int] = {}
        for (name, _), size in self._sizes().items():
            bytes_of[name] = bytes_of.get(name, 0) + size
        return [
            {
                "name": topic.name,
                "partitions": topic.partitions,
                "replication": topic.replication,
                "records": topic.records,
                "bytes": bytes_of.get(topic.name),
            }
            for topic in self._admin.describe()
        ]

    def _sizes(self, topic: str | None = None) -> dict[Partition, int]:
        """Return what Kafka says of sizes: nothing to who may not describe the cluster."""
        try:
            return self._cluster.sizes(None if topic is None else [topic])
        except Unavailable as error:
            log.info("sizes are not known", reason=str(error))
            return {}

    def show(self, topic: str) -> dict[str, Any]:
        """Return a topic's partitions, and its settings with where each comes from."""
        partitions = self._admin.replicas(topic)
        if not partitions:
            raise UnknownTopic(f"there is no topic {topic}")
        at = [(topic, one["partition"]) for one in partitions]
        begins, ends, sizes = self._admin.begins(at), self._admin.ends(at), self._sizes(topic)
        for one in partitions:
            place = topic, one["partition"]
            one |= {"begin": begins[place], "end": ends[place], "bytes": sizes.get(place)}
        return {
            "name": topic,
            "partitions": partitions,
            "config": self._admin.config_of(topic),
        }

    def browse(self, topic: str, wanted: Wanted) -> Browsed:
        """Return committed records that fit. Raises Malformed for a place that is none."""
        with closing(LogReader(self._config, self._group)) as reader:
            partitions = [
                at
                for at in reader.partitions([topic])
                if wanted.partition is None or at[1] == wanted.partition
            ]
            if not partitions:
                raise UnknownTopic(f"there is no topic {topic}, or no such partition of it")
            first, ends = reader.begins(partitions), reader.stable_ends(partitions)
            limit = min(wanted.limit, SHOWN_MAX)
            if wanted.start == "newest":
                return self._newest(wanted, first, ends, limit)
            begins = self._begins(wanted.start, first, ends)
            return _read(reader, wanted, begins, ends, limit)

    def _newest(self, wanted: Wanted, first: Positions, ends: Positions, limit: int) -> Browsed:
        """Go back from the end in growing steps, until there are enough or the time is up."""
        found: list[dict[str, Any]] = []
        looked, behind, step, whole = 0, dict(ends), max(limit, 200), True
        deadline = monotonic() + LOOKS_S
        while any(behind[at] > first[at] for at in behind):
            begins = {at: max(first[at], end - step) for at, end in behind.items()}
            # Each stretch by a reader of its own: one goes forward only.
            with closing(LogReader(self._config, self._group)) as stretch:
                stretch.partitions([at[0] for at in behind])
                part = _read(stretch, wanted, begins, behind, SHOWN_MAX * 20, newest=True)
            found += part.records
            looked += part.looked
            whole = part.whole
            behind, step = begins, min(step * 4, STEP_MAX)
            if len(found) >= limit or monotonic() > deadline or not whole:
                break
        found.sort(key=_newest_first)
        whole = whole and all(behind[at] <= first[at] for at in behind) and len(found) <= limit
        return Browsed(found[:limit], looked, whole)

    def _begins(self, start: str, first: Positions, ends: Positions) -> Positions:
        if start == "beginning":
            return first
        if start == "end":
            return dict(ends)
        if start.startswith("@") and start[1:].isdigit():
            found = self._admin.at_time(ends, int(start[1:]))
            return {at: found.get(at, ends[at]) for at in ends}
        if re.fullmatch(r"\d{1,18}", start):
            return {at: max(first[at], int(start)) for at in ends}
        raise Malformed("is newest, beginning, end, an offset, or a time as @MILLISECONDS", "start")

    async def tail(self, topic: str, wanted: Wanted) -> AsyncGenerator[list[dict[str, Any]]]:
        """Give what comes and fits, as it comes, until the one who asks goes; nothing at times.

        Raises Unavailable when too many do.
        """
        if self._tails >= TAILS_MAX:
            raise Unavailable(f"{TAILS_MAX} live tails are open already: close one")
        loop = asyncio.get_running_loop()
        came: asyncio.Queue[list[dict[str, Any]] | Exception] = asyncio.Queue(4)
        over = threading.Event()

        def put(what: list[dict[str, Any]] | Exception) -> None:
            """Wait until there is room: what nobody takes is not read on."""
            with suppress(RuntimeError):  # The loop has ended.
                under_way = asyncio.run_coroutine_threadsafe(came.put(what), loop)
                while not over.is_set():
                    with suppress(TimeoutError):
                        return under_way.result(WAIT_S)
                under_way.cancel()

        def hand_on() -> None:
            try:
                for records in self._follow(topic, wanted, over.is_set):
                    put(records)
            except Exception as error:  # noqa: BLE001 - handed on to the one who asked
                put(error)

        thread = threading.Thread(target=hand_on, daemon=True)
        thread.start()
        self._tails += 1
        try:
            while True:
                try:
                    what = await asyncio.wait_for(came.get(), HEARTBEAT_S)
                except TimeoutError:
                    what = []  # By this it is noticed that a quiet topic's listener has gone.
                if isinstance(what, Exception):
                    raise what
                yield what
        finally:
            self._tails -= 1
            over.set()

    def _follow(
        self, topic: str, wanted: Wanted, is_over: Callable[[], bool]
    ) -> Iterator[list[dict[str, Any]]]:
        coming = follow(
            self._config, self._group, [topic], is_over=is_over, ahead_kbytes=TAIL_KBYTES
        )
        at, _ = next(coming)
        if not at:
            raise UnknownTopic(f"there is no topic {topic}")
        yield []  # From here on nothing is missed.
        for _, records in coming:
            fits = [
                record
                for record in records
                if wanted.partition in (None, record.partition()) and wanted.fits(record)
            ]
            if fits:
                yield [as_document(record) for record in fits[-wanted.limit :]]

    def produce(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        headers: Sequence[tuple[str, bytes]],
        partition: int | None,
    ) -> dict[str, Any]:
        """Write one record; returns where it stands. Raises OutcomeUnknown."""
        there = {one["partition"] for one in self._admin.replicas(topic)}
        if not there:
            raise UnknownTopic(f"there is no topic {topic}")
        if partition is not None and partition not in there:
            raise Malformed(f"{topic} has no partition {partition}", "partition")
        number, offset = self._sender.send(topic, key, value, headers, partition)
        return {"topic": topic, "partition": number, "offset": offset}


def _read(
    reader: LogReader,
    wanted: Wanted,
    begins: Positions,
    ends: Positions,
    limit: int,
    *,
    newest: bool = False,
) -> Browsed:
    """Read forward and keep what fits; of a stretch that is looked at from its end, the last."""
    found: list[dict[str, Any]] = []
    looked = 0
    inside = {at: end for at, end in ends.items() if begins[at] < end}
    deadline = monotonic() + LOOKS_S
    if not inside:
        return Browsed([], 0, whole=True)
    for messages in reader.read(inside, begins):
        for message in messages:
            at = message.topic() or "", message.partition() or 0
            if (message.offset() or 0) >= ends.get(at, 0):
                continue
            looked += 1
            if wanted.fits(message):
                found.append(as_document(message))
        if newest:
            del found[:-limit]
        elif len(found) >= limit:
            return Browsed(found[:limit], looked, whole=False)
        if monotonic() > deadline:
            return Browsed(found, looked, whole=False)
    return Browsed(found, looked, whole=True)


def _newest_first(document: Mapping[str, Any]) -> tuple[float, int, int]:
    """Order by time; of one millisecond's records those further on in their partition first."""
    stamp = str(document["time"] or "")
    return (-_digits(stamp), -int(document["offset"]), int(document["partition"]))


def _digits(stamp: str) -> float:
    return float(re.sub(r"\D", "", stamp) or 0)


def _bytes(said: str | bytes | None) -> bytes:
    return said.encode() if isinstance(said, str) else said or b""
