"""What an operator does with dead letters, on Kafka alone.

A dead letter cannot be deleted. What was done with it is a record in a compacted topic, under the
dead letter's place, written in the Kafka transaction of the record that is tried again. All who do
so share one transactional id: whoever begins fences the others first, and then reads what they
have done. So a redrive that crashed and is repeated, or two at once, double nothing
(docs/decisions/0008).
"""

import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from itertools import islice
from threading import Lock
from typing import Any

import msgspec

from orderstream.contract.errors import (
    Fenced,
    OrderstreamError,
    OutcomeUnknown,
    TransactionAborted,
    Unavailable,
)
from orderstream.contract.topics import Topics, retry_topic_of
from orderstream.dead_letters.ledger import Ledger
from orderstream.dead_letters.rules import (
    DeadLetter,
    Handled,
    Place,
    Wanted,
    headers_again,
    read,
)
from orderstream.runtime.admin import Admin
from orderstream.runtime.broker_kafka import KafkaSink
from orderstream.runtime.clock import Clock
from orderstream.runtime.log_reader import LogReader
from orderstream.runtime.stage import Output, Positions

AT_ONCE = 500  # Dead letters in one transaction.
TRIES = 3
SPRINGS_SUFFIXES = (".DLT", "-dlt")

_QUIET = logging.getLogger(__name__)
_QUIET.addHandler(logging.NullHandler())
_QUIET.propagate = False


class Unknown(OrderstreamError):
    """There is no dead letter at this place, or none of that topic."""


class Busy(OrderstreamError):
    """Somebody else began to redrive or discard; what is not done yet is still open."""


class Nowhere(OrderstreamError):
    """There is no topic to put it back to: it names none, or one that is not there."""


@dataclass(frozen=True)
class Found:
    """A dead letter, and what was done with it: None while it is open."""

    letter: DeadLetter
    handled: Handled | None


@dataclass(frozen=True)
class Change:
    """What is to be done with dead letters; without `to` each goes where it came from.

    `value` replaces the payload: for one dead letter only.
    """

    by: str
    note: str = ""
    to: str | None = None
    value: bytes | None = None
    discard: bool = False


@dataclass
class Done:
    """How many were handled now and before, and which have no topic to be put back to."""

    now: int = 0
    before: int = 0
    nowhere: list[Place] = field(default_factory=list[Place])

    def rest(self) -> dict[str, object]:
        """Return what was not handled now, as HTTP and command line show it."""
        return {"before": self.before, "nowhere": [str(place) for place in self.nowhere]}


class DeadLetters:
    """The dead letters of one cluster. Any thread may call; every call may raise Unavailable."""

    def __init__(
        self, config: Mapping[str, Any], topics: Topics, group_prefix: str, clock: Clock
    ) -> None:
        self._config = {**config, "logger": _QUIET}  # What librdkafka says, we raise.
        self._topics = topics
        self._name = f"{group_prefix}-dead-letters"
        self._clock = clock
        self._one_at_a_time = Lock()
        self.ledger = Ledger(self._config, topics, self._name, self._chosen)

    def find(
        self, wanted: Wanted, topic: str | None = None, *, handled: bool = False
    ) -> Iterator[Found]:
        """Give the dead letters that fit and are open, or all that fit, as they stand in the log.

        Looks in the topics of the flow, or else in the dead letters of `topic`. What comes after
        the first was asked for is left out. Reads all of it: who asks again and again asks the
        ledger. Raises Unknown.
        """
        with closing(LogReader(self._config, self._name)) as log:
            chosen = self._chosen(topic, lambda name: bool(log.partitions([name])))
            ends = log.ends(log.partitions(chosen))
            self.ledger.read_marks()
            for letter in self._letters(log, ends):
                done = self.ledger.handled(letter.place)
                if (handled or done is None) and wanted.fits(letter):
                    yield Found(letter, done)

    def get(self, place: Place) -> Found:
        """Return one. Raises Unknown."""
        partition = (place.topic, place.partition)
        with closing(LogReader(self._config, self._name)) as log:
            there = log.partitions([place.topic]) if self._is_of_dead_letters(place.topic) else ()
            ends = log.ends(p for p in there if p == partition)
            if place.offset < ends.get(partition, 0):
                begins = {partition: place.offset}
                for letter in self._letters(log, {partition: place.offset + 1}, begins):
                    if letter.place == place:
                        self.ledger.read_marks()
                        return Found(letter, self.ledger.handled(place))
        raise Unknown(f"there is no dead letter at {place}")

    def read(self, places: Collection[Place]) -> list[DeadLetter]:
        """Return the dead letters at these places that are still there, as they stand in the log.

        Reads each partition from the first of its places to the last.
        """
        ends: Positions = {}
        begins: Positions = {}
        for topic, number, offset in places:
            at = topic, number
            ends[at] = max(ends.get(at, 0), offset + 1)
            begins[at] = min(begins.get(at, offset), offset)
        wanted = frozenset(places)
        with closing(LogReader(self._config, self._name)) as log:
            return [one for one in self._letters(log, ends, begins) if one.place in wanted]

    def handle(
        self,
        letters: Iterable[DeadLetter],
        change: Change,
        progress: Callable[[int], None] = lambda _: None,
    ) -> Done:
        """Redrive or discard, each once, whoever else is at it and whatever was done before.

        Some hundred are done in one transaction. Whatever this raises, those reported to
        `progress` are done, and it may be called again. One that has no topic to be put back to is
        left open, and named in the answer. Raises Busy, and Nowhere if `change.to` is no topic.
        """
        rest = iter(letters)
        done = Done()
        known: frozenset[Place] | None = None
        with self._one_at_a_time, closing(KafkaSink(self._config, self._name, _no_group)) as sink:
            topics = self._destinations(change)
            while batch := list(islice(rest, AT_ONCE)):
                outputs: dict[Place, list[Output]] = {}
                for letter in batch:
                    if (to := _destination(letter, change, topics)) is None:
                        done.nowhere.append(letter.place)
                    else:
                        outputs[letter.place] = self._outputs(letter, change, to)
                known = self._commit(sink, known, outputs, done)
                progress(done.now + done.before + len(done.nowhere))
        return done

    def look(self, letters: Iterable[DeadLetter], change: Change) -> Done:
        """Say what `handle` would do now, and do nothing. Raises Nowhere as it does."""
        done = Done()
        topics = self._destinations(change)
        self.ledger.read_marks()
        seen: set[Place] = set()
        for letter in letters:
            if letter.place in seen:
                continue
            seen.add(letter.place)
            if _destination(letter, change, topics) is None:
                done.nowhere.append(letter.place)
            elif self.ledger.handled(letter.place) is not None:
                done.before += 1
            else:
                done.now += 1
        return done

    def _destinations(self, change: Change) -> Collection[str]:
        topics = Admin(self._config).partitions().keys()
        if change.to is not None and change.to not in topics:
            raise Nowhere(f"there is no topic {change.to}")
        return topics

    def _commit(
        self,
        sink: KafkaSink,
        known: frozenset[Place] | None,
        outputs: dict[Place, list[Output]],
        done: Done,
    ) -> frozenset[Place]:
        """Write what is to be written for those still open.

        Returns what was handled since it was read what had been: `known` the time before, and
        None where it is to be read.
        """
        for tried in range(1, TRIES + 1):
            try:
                if known is None:
                    sink.ready()  # From here on nobody else can commit: what is read stays true.
                    self.ledger.read_marks()
                    known = frozenset()
                still_open = [
                    place
                    for place in outputs
                    if place not in known and self.ledger.handled(place) is None
                ]
                if still_open:
                    sink.begin()
                    for place in still_open:
                        for output in outputs[place]:
                            sink.produce(output)
                    sink.commit()
            except Fenced as error:
                raise Busy(
                    "somebody else began to redrive or discard dead letters meanwhile; what is not"
                    " done yet is still open: look, and do it again"
                ) from error
            except (TransactionAborted, OutcomeUnknown) as error:
                if tried == TRIES:
                    raise Unavailable(f"Kafka did not commit: {error}") from error
                known = None  # An unknown commit may have happened: what is handled will tell.
            else:
                done.now += len(still_open)
                done.before += len(outputs) - len(still_open)
                return known.union(still_open)
        raise AssertionError

    def _outputs(self, letter: DeadLetter, change: Change, to: str) -> list[Output]:
        """Return the record to be tried again, if any, and the mark that says so."""
        mark = Handled(
            action="discarded" if change.discard else "redriven",
            by=change.by,
            at=self._clock(),
            note=change.note,
            to=to,
            edited=change.value not in (None, letter.value),
        )
        key = str(letter.place).encode()
        marking = Output(self._topics.dead_letters_handled, key, msgspec.json.encode(mark), [])
        if change.discard:
            return [marking]
        value = letter.value if change.value is None else change.value
        return [Output(to, letter.key, value, headers_again(letter.headers)), marking]

    def _letters(
        self, log: LogReader, ends: Positions, begins: Positions | None = None
    ) -> Iterator[DeadLetter]:
        for records in log.read(ends, begins):
            for record in records:
                partition = (record.topic() or "", record.partition() or 0)
                if (record.offset() or 0) < ends.get(partition, 0):
                    yield read(record)

    def _chosen(self, asked: str | None, there: Callable[[str], bool]) -> list[str]:
        """Return the dead letter topics: those of the flow, or the one that is asked for."""
        if asked is None:
            return [topic for topic in self._topics.all() if self._is_of_dead_letters(topic)]
        for name in (self._topics.dead_letter(asked), asked):
            if self._is_of_dead_letters(name) and there(name):
                return [name]
        raise Unknown(f"there is no dead letter topic {asked} or {self._topics.dead_letter(asked)}")

    def _is_of_dead_letters(self, topic: str) -> bool:
        return topic.endswith((self._topics.dead_letter_suffix, *SPRINGS_SUFFIXES))


def _destination(letter: DeadLetter, change: Change, topics: Collection[str]) -> str | None:
    """Return the topic that it is to be put back to: "" for none, None where that is not there."""
    if change.discard:
        return ""
    to = change.to or _home(letter, topics)
    return to if to in topics else None


def _home(letter: DeadLetter, topics: Collection[str]) -> str | None:
    """Return where it came from: for a consumer of a user's own, back to that consumer alone."""
    origin = letter.origin
    own = retry_topic_of(origin.topic or "", origin.group or "")
    return own if own in topics else origin.topic


def _no_group() -> None:
    """Stand for the generation of a consumer: there is none, and no offsets are committed."""
