"""What becomes of a record that cannot be processed: the decision, and the record that says it.

Header names and binary types are Spring Kafka's, so that its users' tools read ours and ours read
theirs (KafkaHeaders.java, DeadLetterPublishingRecoverer.java, RetryTopicHeaders.java): partitions
and attempts are int32, offsets and timestamps int64, all big-endian; the due time of a retry is
a minimal-length big-endian integer of milliseconds since 1970.
"""

import traceback
from dataclasses import dataclass

from orderstream.contract.envelope import Headers, header
from orderstream.runtime.stage import Output, Record

ATTEMPTS = "retry_topic-attempts"
DUE = "retry_topic-backoff-timestamp"
FIRST_SEEN = "retry_topic-original-timestamp"
_ORIGIN = ("topic", "partition", "offset", "timestamp", "timestamp-type", "consumer-group")
_RETRY_ORIGIN = "kafka_original-"
_DEAD = "kafka_dlt-"
_STACK_BYTES_MAX = 16_384


@dataclass(frozen=True)
class RetryPolicy:
    """`attempts` tries after the first one, `backoff_ms` apart."""

    attempts: int
    backoff_ms: int


@dataclass(frozen=True)
class Retry:
    """Try again, as this attempt, at this time (ms since 1970)."""

    attempt: int
    due_ms: int


@dataclass(frozen=True)
class Park:
    """Give up: to the dead letters."""


def after_failure(tries: int, now_ms: int, policy: RetryPolicy) -> Retry | Park:
    """Decide what follows the `tries`-th failed try (1 = the first)."""
    if tries > policy.attempts:
        return Park()
    return Retry(tries, now_ms + policy.backoff_ms)


def tries_before(record: Record) -> int:
    """Count the tries that this record has behind it; 0 for one that is new."""
    return max(_number(record, ATTEMPTS, 4), 0)


def seen_ms(record: Record) -> int:
    """Return the time (ms since 1970) of a record, or of the one that it is another try of."""
    return _number(record, FIRST_SEEN, 8) or record.timestamp()[1]


def wait_ms(record: Record, now_ms: int, policy: RetryPolicy) -> int:
    """Return how long a retry has to wait yet; 0 when it is due.

    A due time further off than the back-off is none of ours, or from a clock that has jumped: it
    would hold up everything behind it, so it is not waited for.
    """
    left = _number(record, DUE, 8) - now_ms
    return left if 0 < left <= policy.backoff_ms else 0


def retry_output(record: Record, topic: str, retry: Retry, group: str) -> Output:
    """Return the record that comes back when it is due, with its origin and history kept."""
    kept = [h for h in _headers(record) if h[0] not in (ATTEMPTS, DUE)]
    if header(kept, _RETRY_ORIGIN + "topic") is None:
        kept += [(_RETRY_ORIGIN + name, value) for name, value in _origin(record, group)]
        kept.append((FIRST_SEEN, _minimal_bytes(record.timestamp()[1])))
    kept.append((ATTEMPTS, retry.attempt.to_bytes(4, "big")))
    kept.append((DUE, _minimal_bytes(retry.due_ms)))
    return Output(topic, record.key(), record.value(), kept)


def dead_letter_output(record: Record, topic: str, error: Exception, group: str) -> Output:
    """Return the dead letter: the record unchanged, where it came from, and why it failed.

    The topic is the stage's and never the record's own word, which may be anything. A record that
    was redriven and fails again has its new origin appended; the exception is replaced (Spring's
    rule).
    """
    before = _headers(record)
    origin = {name: header(before, _RETRY_ORIGIN + name) for name in _ORIGIN}
    if origin["topic"] is None:
        origin = dict(_origin(record, group))
    kept = [
        h
        for h in before
        if not h[0].startswith((_RETRY_ORIGIN, "retry_topic-", _DEAD + "exception-"))
    ]
    kept += [(_DEAD + "original-" + name, value) for name, value in origin.items() if value]
    cause = error.__cause__ or error
    stack = "".join(traceback.format_exception(error)).encode(errors="replace")
    kept += [
        (_DEAD + "exception-fqcn", _class_name(error)),
        (_DEAD + "exception-cause-fqcn", _class_name(cause)),
        (_DEAD + "exception-message", str(error).encode(errors="replace")),
        (_DEAD + "exception-stacktrace", stack[-_STACK_BYTES_MAX:]),
    ]
    return Output(topic, record.key(), record.value(), kept)


@dataclass(frozen=True)
class DeadLetter:
    """What a dead letter says of itself; the group is None where its writer named none."""

    group: str | None
    reason: str


def read_dead_letter(record: Record) -> DeadLetter:
    """Read who parked the record, the last time, and why."""
    group = header(record.headers(), _DEAD + "original-consumer-group")
    reason = header(record.headers(), _DEAD + "exception-message") or b""
    return DeadLetter(
        None if group is None else group.decode(errors="replace"), reason.decode(errors="replace")
    )


Origin = tuple[str, int, int]  # Topic, partition, offset.


def origin_of(record: Record) -> Origin:
    """Return where a record stood when it was first tried: there, or before its retries."""
    return _origin_named(record, _RETRY_ORIGIN) or (
        record.topic() or "",
        record.partition() or 0,
        record.offset() or 0,
    )


def parked_from(record: Record, group: str) -> Origin | None:
    """Return where a dead letter stood when this group gave up on it, or None if it did not."""
    by = header(record.headers(), _DEAD + "original-consumer-group")
    return _origin_named(record, _DEAD + "original-") if by == group.encode() else None


def _origin_named(record: Record, prefix: str) -> Origin | None:
    found = [header(record.headers(), prefix + name) for name in ("topic", "partition", "offset")]
    topic, partition, offset = found
    if topic is None or partition is None or offset is None:
        return None
    numbers = int.from_bytes(partition[:4], "big"), int.from_bytes(offset[:8], "big")
    return (topic.decode(errors="replace"), *numbers)


def _origin(record: Record, group: str) -> list[tuple[str, bytes]]:
    return [
        ("topic", (record.topic() or "").encode()),
        ("partition", (record.partition() or 0).to_bytes(4, "big")),
        ("offset", (record.offset() or 0).to_bytes(8, "big")),
        ("timestamp", record.timestamp()[1].to_bytes(8, "big", signed=True)),
        ("timestamp-type", b"LogAppendTime" if record.timestamp()[0] == 2 else b"CreateTime"),
        ("consumer-group", group.encode()),
    ]


def _number(record: Record, name: str, bytes_max: int) -> int:
    value = header(record.headers(), name) or b""
    return int.from_bytes(value, "big", signed=True) if len(value) <= bytes_max else 0


def _headers(record: Record) -> Headers:
    return [(name, value or b"") for name, value in record.headers() or ()]


def _minimal_bytes(number: int) -> bytes:
    return number.to_bytes(number.bit_length() // 8 + 1, "big", signed=True)


def _class_name(error: BaseException) -> bytes:
    return f"{type(error).__module__}.{type(error).__qualname__}".encode()
