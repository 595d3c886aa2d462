"""The log as facts: one short row per record, in temporary tables of one database session.

Rows go there by COPY, some thousands at a time, so memory stays the same for any length of log.
A topic is a number here, its place in `topics_read`; `log_topic` has the names.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType
from psycopg import Connection, sql

from orderstream.contract.envelope import CE_ID, Headers, header
from orderstream.contract.errors import Malformed
from orderstream.contract.events import (
    InventoryRejected,
    decode_cancelled,
    decode_fulfilled,
    decode_rejected,
    decode_released,
    decode_reserved,
)
from orderstream.contract.formats import ReadOrder
from orderstream.contract.topics import Topics
from orderstream.contract.values import ID_LENGTH_MAX, Line, text_fault
from orderstream.runtime.clock import from_epoch_ms
from orderstream.runtime.stage import Positions, Record

FLUSH_ROWS = 5_000

# Spring Kafka's names; partitions are int32 and offsets int64, big-endian.
_RETRY_ATTEMPTS = "retry_topic-attempts"
_RETRY_ORIGIN = "kafka_original-"
_DEAD_ORIGIN = "kafka_dlt-original-"

TABLES = """
    CREATE TEMP TABLE log_topic (topic smallint, name text);
    -- The states of an order (spec.md section 4), as the view numbers them.
    CREATE TEMP TABLE log_status (status int, name text);
    INSERT INTO log_status
        VALUES (0, 'PENDING'), (10, 'FAILED'), (20, 'CONFIRMED'), (21, 'REJECTED'),
            (30, 'EXPIRED'), (31, 'CANCELLED'), (32, 'FULFILLED');
    -- What analytics counts of an order, as it numbers it.
    CREATE TEMP TABLE log_fact (fact int, name text);
    INSERT INTO log_fact VALUES (1, 'FAILED'), (2, 'CONFIRMED'), (4, 'REJECTED'), (8, 'EXPIRED'),
        (16, 'CANCELLED'), (32, 'FULFILLED'), (64, 'RELEASED'), (128, 'ACCEPTED');
    CREATE FUNCTION pg_temp.log_facts(facts int) RETURNS text LANGUAGE sql AS
        $$ SELECT string_agg(name, ', ' ORDER BY fact) FROM log_fact WHERE fact & facts <> 0 $$;
    -- Marks on the log: where it ended before the stores were looked at (`early`), and up to where
    -- inventory had answered, looked up after that (`answered`).
    CREATE TEMP TABLE log_mark (topic smallint, partition int, early bigint, answered bigint);
    -- An order as it was put in: `fresh` unless it is another try of a record counted already.
    CREATE TEMP TABLE log_input (
        order_id text, topic smallint, partition int, "offset" bigint,
        at timestamptz, fresh boolean, quantities jsonb,
        owner text  -- The API key that it came with; null where none was needed.
    );
    CREATE TEMP TABLE log_outcome (
        order_id text, topic smallint, partition int, "offset" bigint,
        event_id text, reserved boolean, ordered_at timestamptz, decided_at timestamptz,
        quantities jsonb, reason text, short jsonb, owner text,
        redriven boolean  -- Said before: a projection failed on it, and it was put back for that.
    );
    -- What became of an order afterwards: it was CANCELLED, EXPIRED or FULFILLED (a person or a
    -- system said so), or RELEASED (inventory said so).
    CREATE TEMP TABLE log_change (
        order_id text, topic smallint, partition int, "offset" bigint,
        becomes text, at timestamptz, quantities jsonb,
        redriven boolean  -- As above.
    );
    -- A dead letter. `order_id` is null where the key is no order id. `fails` unless another
    -- consumer gave up on the record than the one that decides on orders: the order is fine then.
    CREATE TEMP TABLE log_dead (
        order_id text, topic smallint, partition int, "offset" bigint,
        at timestamptz, origin_topic text, origin_partition int, origin_offset bigint,
        fails boolean, parked_by text
    );
    -- A record that is no event. Its origin is its own place, or that of its first try.
    CREATE TEMP TABLE log_unreadable (
        order_id text, topic smallint, partition int, "offset" bigint,
        origin_topic text, origin_partition int, origin_offset bigint, why text
    );
"""

Row = tuple[object, ...]


def topics_read(topics: Topics) -> tuple[str, ...]:
    """Return the topics that an audit reads; statements know the first, 0, and the second, 1."""
    return (
        topics.order_created,
        topics.order_created_retry,
        topics.inventory_reserved,
        topics.inventory_rejected,
        topics.order_created_dead,
        topics.order_cancelled,
        topics.order_fulfilled,
        topics.inventory_released,
    )


class Facts:
    """Writes records of the flow's topics down as facts; `decides` is inventory's group."""

    def __init__(self, connection: Connection, topics: Topics, decides: str) -> None:
        self._connection = connection
        self._decides = decides
        self._topics = topics
        self._read_order = topics.read_order
        self._number = {name: number for number, name in enumerate(topics_read(topics))}
        self._rows: dict[str, list[Row]] = {}
        self.records = 0

    @property
    def names(self) -> dict[int, str]:
        """The topics' names by their numbers."""
        return {number: name for name, number in self._number.items()}

    def create_tables(self) -> None:
        """Make the tables, empty."""
        self._connection.execute(TABLES)
        self._copy("log_topic", [(number, name) for name, number in self._number.items()])

    def mark(self, early: Positions, answered: Positions) -> None:
        """Set the marks on the log (see TABLES)."""
        self._copy(
            "log_mark",
            [
                (self._number[topic], partition, end, answered.get((topic, partition), 0))
                for (topic, partition), end in early.items()
            ],
        )

    def add(self, record: Record) -> None:
        """Write down one record; visible in the tables after `flush` at the latest."""
        self.records += 1
        table, row = self._fact(record)
        rows = self._rows.setdefault(table, [])
        rows.append(row)
        if len(rows) >= FLUSH_ROWS:
            self._copy(table, rows)
            rows.clear()

    def flush(self) -> None:
        """Write what is in hand."""
        for table, rows in self._rows.items():
            self._copy(table, rows)
        self._rows.clear()

    def analyze(self) -> None:
        """Tell PostgreSQL how large the tables became."""
        for table in (
            "log_topic",
            "log_status",
            "log_input",
            "log_outcome",
            "log_change",
            "log_dead",
            "log_unreadable",
        ):
            self._connection.execute(sql.SQL("ANALYZE {}").format(sql.Identifier(table)))

    def _copy(self, table: str, rows: list[Row]) -> None:
        statement = sql.SQL("COPY {} FROM STDIN").format(sql.Identifier(table))
        with self._connection.cursor() as cursor, cursor.copy(statement) as copy:
            for row in rows:
                copy.write_row(row)

    def _fact(self, record: Record) -> tuple[str, Row]:
        name = record.topic() or ""
        place = (self._number[name], record.partition() or 0, record.offset() or 0)
        topics = self._topics
        if name == topics.order_created_dead:
            return "log_dead", _dead(record, place, self._decides, self._read_order)
        try:
            if b"\\u0000" in (record.value() or b""):
                raise Malformed("holds a character that no store takes")
            if name == topics.order_created:
                return "log_input", _input(record, place, self._read_order, fresh=True)
            if name == topics.order_created_retry:
                again = header(record.headers(), _RETRY_ATTEMPTS) is not None
                return "log_input", _input(record, place, self._read_order, fresh=not again)
            if name in (topics.inventory_reserved, topics.inventory_rejected):
                return "log_outcome", _outcome(record, place, name == topics.inventory_reserved)
            return "log_change", _change(record, place, topics)
        except Malformed as error:
            return "log_unreadable", _unreadable(record, place, error)


def _input(record: Record, place: Row, read: ReadOrder, *, fresh: bool) -> Row:
    event = read(record.value(), record.key())
    at = event.created_at or _time(record)
    quantities = _quantities(event.items)
    return (event.key, *place, at, fresh, quantities, _owner(event.owner))


def _outcome(record: Record, place: Row, reserved: bool) -> Row:
    event = decode_reserved(record.value()) if reserved else decode_rejected(record.value())
    reason, short = None, None
    if isinstance(event, InventoryRejected):
        reason, short = event.reason, _json(event.short) if event.short else None
    return (
        event.key,
        *place,
        _text(header(record.headers(), CE_ID)),
        reserved,
        event.ordered_at,
        event.decided_at,
        _quantities(event.items),
        reason,
        short,
        _owner(event.owner),
        _redriven(record),
    )


def _change(record: Record, place: Row, topics: Topics) -> Row:
    name, value, redriven = record.topic(), record.value(), _redriven(record)
    if name == topics.order_cancelled:
        cancelled = decode_cancelled(value)
        return (cancelled.key, *place, cancelled.cause, cancelled.cancelled_at, None, redriven)
    if name == topics.order_fulfilled:
        fulfilled = decode_fulfilled(value)
        return (fulfilled.key, *place, "FULFILLED", fulfilled.fulfilled_at, None, redriven)
    released = decode_released(value)
    quantities = _quantities(released.items)
    return (released.key, *place, "RELEASED", released.released_at, quantities, redriven)


def _owner(said: str | UnsetType) -> str | None:
    return None if said is UNSET else said


def _redriven(record: Record) -> bool:
    """Tell whether it was among the dead letters of its own topic, and was put back."""
    origin = header(record.headers(), _DEAD_ORIGIN + "topic")
    return origin is not None and _text(origin) == record.topic()


def _dead(record: Record, place: Row, decides: str, read: ReadOrder) -> Row:
    headers = record.headers()
    parked_by = _text(header(headers, _DEAD_ORIGIN + "consumer-group"))
    fails = parked_by in (None, decides)
    try:
        order = read(record.value(), record.key()).key
    except Malformed:  # Which may be why it is dead.
        order = _key(record)
    return (order, *place, _time(record), *_origin(headers, _DEAD_ORIGIN), fails, parked_by)


def _unreadable(record: Record, place: Row, error: Malformed) -> Row:
    origin = _origin(record.headers(), _RETRY_ORIGIN)
    if origin[0] is None:
        origin = (record.topic(), record.partition(), record.offset())
    return (_key(record), *place, *origin, _printable(str(error)))


def _origin(headers: Headers | None, prefix: str) -> tuple[str | None, int | None, int | None]:
    """Return topic, partition and offset that the headers name; the last pass of several wins."""
    partition = header(headers, prefix + "partition")
    offset = header(headers, prefix + "offset")
    return (
        _text(header(headers, prefix + "topic")),
        int.from_bytes(partition[:4], "big", signed=True) if partition else None,
        int.from_bytes(offset[:8], "big", signed=True) if offset else None,
    )


def _key(record: Record) -> str | None:
    """Return the order that the key names, or None: the value may be what cannot be read."""
    try:
        text = (record.key() or b"").decode()
    except UnicodeDecodeError:
        return None
    return None if text_fault(text, ID_LENGTH_MAX) else text


def _time(record: Record) -> datetime:
    return from_epoch_ms(record.timestamp()[1])


def _text(value: bytes | None) -> str | None:
    return None if value is None else _printable(value.decode(errors="replace"))


def _printable(value: str) -> str:
    return value.replace("\x00", "\ufffd")


def _quantities(items: Iterable[Line]) -> str:
    """Sum up the lines of each SKU; apart from how the services do it, which is to be judged."""
    wanted: dict[str, int] = {}
    for line in items:
        wanted[line.sku] = wanted.get(line.sku, 0) + line.qty
    return _json(wanted)


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()
