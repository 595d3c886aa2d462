"""What is known of dead letters: all that a list shows, kept in memory, each read from Kafka once.

A question reads only what came since the one before. The first one reads all there are, and what
it keeps takes some 0.4 kB for each, until Kafka deletes the record itself.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from heapq import merge
from itertools import islice
from threading import Lock
from typing import Any, NamedTuple

import msgspec
from confluent_kafka import IsolationLevel
from confluent_kafka.admin import (
    OffsetSpec,  # pyright: ignore[reportPrivateImportUsage]
)

from orderstream.contract.errors import Malformed
from orderstream.contract.topics import Topics
from orderstream.dead_letters.rules import (
    Brief,
    Handled,
    Place,
    Wanted,
    parse_place,
    read,
    text,
)
from orderstream.runtime.clients import Asker
from orderstream.runtime.log_reader import LogReader
from orderstream.runtime.stage import Partition, Positions, Record

TIMEOUT_S = 10.0

_pack = msgspec.msgpack.Encoder().encode
_brief = msgspec.msgpack.Decoder(Brief).decode
_handled = msgspec.json.Decoder(Handled).decode


class Spot(NamedTuple):
    """Where one stands in a list. Of one partition's no later one has an earlier time."""

    at_ms: int
    place: Place


class Listed(NamedTuple):
    """A dead letter as lists know it, and what was done with it: None while it is open."""

    spot: Spot
    letter: Brief
    handled: Handled | None


class Cause(NamedTuple):
    """Dead letters of one cause: how many, and when the first and the last came."""

    cause: str
    number: int
    first_ms: int
    last_ms: int


class _Kept(NamedTuple):
    at_ms: int
    cause: int  # Its place in the list of causes.
    packed: bytes


class Ledger:
    """The dead letters of one cluster. Any thread may call; every call may raise Unavailable."""

    def __init__(
        self,
        config: Mapping[str, Any],
        topics: Topics,
        group: str,
        chosen: Callable[[str | None, Callable[[str], bool]], list[str]],
    ) -> None:
        """`chosen` names the dead letter topics meant by one asked for, or by none."""
        self._config = dict(config)
        self._marks_topic = topics.dead_letters_handled
        self._group = group
        self._chosen = chosen
        self._asker = Asker(self._config | {"log_level": 2})
        self._lock = Lock()
        self._next: Positions = {}
        self._letters: dict[Partition, dict[int, _Kept]] = {}
        self._marks: dict[Partition, dict[int, bytes]] = {}
        self._causes: list[str] = []
        self._cause_of: dict[str, int] = {}

    def newest(
        self, wanted: Wanted, topic: str | None, limit: int, *, handled: bool, before: Spot | None
    ) -> list[Listed]:
        """Return so many of those that fit, the newest first, from behind a spot. Raises Unknown.

        Open ones, or with `handled` the others too.
        """
        with self._lock:
            found = self._find(self._read_on(topic), wanted, handled=handled, before=before)
            return list(islice(found, limit))

    def oldest(self, wanted: Wanted, topic: str | None, limit: int) -> list[Place]:
        """Return the places of so many open ones that fit, the oldest first. Raises Unknown."""
        with self._lock:
            found = self._find(self._read_on(topic), wanted, newest_first=False)
            return [one.spot.place for one in islice(found, limit)]

    def causes(self, wanted: Wanted, topic: str | None, *, handled: bool) -> list[Cause]:
        """Return of what causes those that fit are, the most frequent first. Raises Unknown."""
        counts: Counter[int] = Counter()
        first: dict[int, int] = {}
        last: dict[int, int] = {}
        with self._lock:
            for at in self._read_on(topic):
                marks = self._marks.get(at, {})
                for offset, kept in self._letters[at].items():
                    if not handled and offset in marks:
                        continue
                    if wanted != Wanted() and not wanted.fits(_brief(kept.packed)):
                        continue
                    counts[kept.cause] += 1
                    first[kept.cause] = min(first.get(kept.cause, kept.at_ms), kept.at_ms)
                    last[kept.cause] = max(last.get(kept.cause, kept.at_ms), kept.at_ms)
            return [
                Cause(self._causes[cause], count, first[cause], last[cause])
                for cause, count in counts.most_common()
            ]

    def read_marks(self) -> None:
        """Read what was done with dead letters until now, by whomever."""
        with self._lock:
            self._read([self._marks_topic], self._asker.cluster(TIMEOUT_S).topics)

    def handled(self, place: Place) -> Handled | None:
        """Return what was done with one, as far as that was read."""
        mark = self._marks.get((place.topic, place.partition), {}).get(place.offset)
        return None if mark is None else _handled(mark)

    def _find(
        self,
        partitions: list[Partition],
        wanted: Wanted,
        *,
        handled: bool = False,
        before: Spot | None = None,
        newest_first: bool = True,
    ) -> Iterator[Listed]:
        def of(at: Partition) -> Iterator[tuple[Spot, _Kept]]:
            letters, marks = self._letters[at], self._marks.get(at, {})
            for offset in reversed(letters) if newest_first else letters:
                if handled or offset not in marks:
                    yield Spot(letters[offset].at_ms, Place(*at, offset)), letters[offset]

        every = merge(*map(of, partitions), key=lambda one: one[0], reverse=newest_first)
        for spot, kept in every:
            if before is None or spot < before:
                letter = _brief(kept.packed)
                if wanted.fits(letter):
                    yield Listed(spot, letter, self.handled(spot.place))

    def _read_on(self, topic: str | None) -> list[Partition]:
        """Read what came since; return the partitions of the dead letters that are meant."""
        there = self._asker.cluster(TIMEOUT_S).topics
        letters = self._chosen(topic, there.__contains__)
        self._read([self._marks_topic, *letters], there)
        return [at for at in self._letters if at[0] in letters]

    def _read(self, topics: list[str], there: Mapping[str, Any]) -> None:
        partitions = [(t, n) for t in topics if t in there for n in there[t].partitions]
        begins = self._offsets(partitions, OffsetSpec.earliest())
        ends = self._offsets(partitions, OffsetSpec.latest())
        for at in partitions:
            if at[0] != self._marks_topic:
                self._forget(at, begins[at], ends[at])
        unread = {at: end for at, end in ends.items() if self._next.get(at, 0) < end}
        if not unread:
            return
        starts = {at: max(self._next.get(at, 0), begins[at]) for at in unread}
        with closing(LogReader(self._config, self._group)) as log:
            for records in log.read(unread, starts):
                for record in records:
                    self._take(record)
        self._next |= {at: max(end, self._next.get(at, 0)) for at, end in unread.items()}

    def _offsets(self, partitions: list[Partition], spec: OffsetSpec | None) -> Positions:
        # Behind transactions still open: what is asked for after a redrive has seen it.
        isolation = IsolationLevel.READ_UNCOMMITTED
        return self._asker.offsets(partitions, spec, isolation, TIMEOUT_S)

    def _forget(self, at: Partition, begin: int, end: int) -> None:
        """Let go of what Kafka has deleted."""
        kept = self._letters.setdefault(at, {})
        if end < self._next.get(at, 0):  # Another topic of that name.
            kept.clear()
            self._next[at] = 0
        while kept and (oldest := next(iter(kept))) < begin:
            del kept[oldest]
            self._marks.get(at, {}).pop(oldest, None)

    def _take(self, record: Record) -> None:
        at = record.topic() or "", record.partition() or 0
        offset = record.offset() or 0
        if offset < self._next.get(at, 0):
            return
        self._next[at] = offset + 1
        if at[0] == self._marks_topic:
            self._take_mark(record)
            return
        letter = read(record).brief
        said = letter.cause
        kept = self._letters[at]
        before = kept[next(reversed(kept))].at_ms if kept else 0
        cause = self._cause_of.setdefault(said, len(self._causes))
        if cause == len(self._causes):
            self._causes.append(said)
        kept[offset] = _Kept(max(before, letter.parked_ms), cause, _pack(letter))

    def _take_mark(self, record: Record) -> None:
        """Keep what was done with one: the first mark of it counts."""
        value = record.value() or b""
        try:
            place = parse_place(text(_bytes(record.key())))
            _handled(value)
        except (Malformed, msgspec.DecodeError, UnicodeDecodeError):
            return  # Not ours: anybody may write to a topic.
        marks = self._marks.setdefault((place.topic, place.partition), {})
        marks.setdefault(place.offset, _bytes(value))


def _bytes(said: str | bytes | None) -> bytes:
    return said.encode() if isinstance(said, str) else said or b""
