"""A record of Kafka as people and JSON are shown it."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from orderstream.contract.envelope import rfc3339

if TYPE_CHECKING:
    from orderstream.runtime.stage import Record

NUMBER_BYTES_MAX = 8
# Spring Kafka's binary headers (runtime/failure.py writes the same): big-endian integers.
_NUMBERS = frozenset(
    {
        "kafka_dlt-original-partition",
        "kafka_dlt-original-offset",
        "kafka_dlt-original-timestamp",
        "kafka_original-partition",
        "kafka_original-offset",
        "kafka_original-timestamp",
        "retry_topic-attempts",
        "retry_topic-backoff-timestamp",
        "retry_topic-original-timestamp",
    }
)


def as_document(message: "Record") -> dict[str, Any]:
    """Return a record as JSON shows it; bytes that are no text as `keyHex` and `valueHex`."""
    return {
        "topic": message.topic(),
        "partition": message.partition(),
        "offset": message.offset(),
        "time": time_of(message),
        **_exact("key", message.key()),
        **_exact("value", message.value()),
        "headers": [
            {"name": name, "value": header_value(name, value)}
            for name, value in message.headers() or ()
        ],
    }


def header_value(name: str, value: str | bytes | None) -> int | str | None:
    """Decode a header: the numbers among Spring Kafka's as numbers, other bytes as text or hex."""
    if not isinstance(value, bytes):
        return value
    if name in _NUMBERS and 0 < len(value) <= NUMBER_BYTES_MAX:
        return int.from_bytes(value, "big", signed=True)
    return shown(value)


def shown(value: str | bytes | None) -> str:
    """Write bytes as the text that they are, or else as hex; `-` when there are none."""
    if value is None:
        return "-"
    if isinstance(value, str):
        return value
    try:
        return value.decode()
    except UnicodeDecodeError:
        return f"0x{value.hex()}"


def _exact(name: str, value: str | bytes | None) -> dict[str, str | None]:
    if isinstance(value, bytes):
        try:
            return {name: value.decode()}
        except UnicodeDecodeError:
            return {f"{name}Hex": value.hex()}
    return {name: value}


def time_of(message: "Record") -> str | None:
    kind, time_ms = message.timestamp()
    return rfc3339(datetime.fromtimestamp(time_ms / 1000, UTC)) if kind else None
