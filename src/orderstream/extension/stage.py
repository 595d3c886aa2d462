"""A consumer of a user's own as a stage of the one loop."""

from collections.abc import Iterable, Sequence
from functools import partial

import msgspec
from psycopg import Connection

from orderstream.contract.envelope import Headers
from orderstream.contract.errors import Malformed
from orderstream.contract.topics import Topics, retry_topic_of
from orderstream.extension.definition import Definition, Published
from orderstream.extension.events import Decode, Event, Events, decode_of, topic_in_force
from orderstream.runtime.answered import Answered
from orderstream.runtime.failure import origin_of, tries_before
from orderstream.runtime.stage import Batch, Decoder, Keeps, Output, Record, Stage


class SaidBefore(Answered):
    """What a consumer did before a replay: it does it again, and says none of it again.

    Passed over is what comes again by itself: another try (its record is read again, and has all
    its tries anew), and what was given up (a dead letter is put right by a redrive).
    """

    def split(self, records: Sequence[Record]) -> tuple[list[Record], Sequence[Record]]:
        if not self._below:
            return [], records
        return [], [
            record
            for record in records
            if not self._is_below(record)
            or (not tries_before(record) and origin_of(record) not in self._parked)
        ]

    def silences(self, record: Record) -> bool:
        """Tell whether what comes of this record was said already."""
        topic, partition, offset = origin_of(record)
        return offset < self._below.get((topic, partition), 0)

    def _is_below(self, record: Record) -> bool:
        at = (record.topic() or "", record.partition() or 0)
        return (record.offset() or 0) < self._below.get(at, 0)


def consumer_stage(
    definition: Definition, topics: Topics, group: str, before: SaidBefore | None = None
) -> Stage:
    """Return the stage; its loop has to remember what it said (runtime/said.py).

    Each topic has another for retries, which no other group reads. Unreadable records of our own
    topics are parked by our services.
    """
    reads: dict[str, Decoder] = {}
    retries: dict[str, str] = {}
    for written in definition.topics:
        topic = topic_in_force(written, topics)
        read = partial(_read, decode_of(topic, topics), written)
        reads[topic] = read
        if not topic.endswith(topics.dead_letter_suffix):
            retries[topic] = retry_topic_of(topic, group)
            reads[retries[topic]] = read
    publishes = {name: topic_in_force(name, topics) for name in definition.publishes}

    def handle(batch: Batch, tx: Connection) -> Sequence[Output]:
        events = [event for _, event in batch]
        silent = [e for e in events if before and before.silences(e.record)]
        aloud = [e for e in events if not (before and before.silences(e.record))]
        tx.execute("SELECT 1")  # Else the block below would begin the transaction, and commit it.
        with tx.transaction():  # psycopg refuses a commit in here: it would be half of a batch.
            if silent:
                _called(definition, Events(silent, batch.now), tx)
            said = _called(definition, Events(aloud, batch.now), tx) if aloud else ()
            return [_output(one, publishes) for one in said]

    return Stage(
        name=definition.name,
        reads=reads,
        handle=handle,
        keeps=Keeps.OFFSETS_IN_KAFKA,
        parks=frozenset(reads) - {*topics.all()},
        retries=retries,
        linger_s=(0.0, 0.1),
    )


def topics_of(definition: Definition, stage: Stage, topics: Topics) -> list[str]:
    """Return every topic that has to be there."""
    parked = [topics.dead_letter(topic) for topic in stage.retries]
    said = [topic_in_force(name, topics) for name in definition.publishes]
    return list(dict.fromkeys([*stage.reads, *parked, *said]))


def _read(decode: Decode, written: str, record: Record) -> Event:
    return Event(decode(record.value(), record.key()), written, record)


def _called(definition: Definition, events: Events, tx: Connection) -> Iterable[Published]:
    try:
        return list(definition.handle(events, tx) or ())
    except Malformed as error:  # Elsewhere that says that others park the record.
        raise ValueError(str(error)) from error


def _output(said: Published, publishes: dict[str, str]) -> Output:
    if not isinstance(said, tuple) or not 3 <= len(said) <= 4:  # pyright: ignore[reportUnnecessaryIsInstance] - it is a user's
        raise TypeError(f"publish (topic, key, value) or (topic, key, value, headers), not {said}")
    topic, key, value, headers, *_ = (*said, None)
    if topic not in publishes:
        raise ValueError(f"publishes=[...] does not name {topic}")
    named: Headers = [(name, _bytes(one) or b"") for name, one in dict(headers or {}).items()]
    return Output(publishes[topic], _bytes(key), _payload(value), named)


def _payload(value: object) -> bytes | None:
    if value is None or isinstance(value, str | bytes):
        return _bytes(value)
    return msgspec.json.encode(value)


def _bytes(value: object) -> bytes | None:
    return value if value is None or isinstance(value, bytes) else str(value).encode()
