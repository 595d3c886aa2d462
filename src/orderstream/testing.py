"""Runs a consumer of your own in a test: the same loop as in earnest, crashed where you like.

The broker is one in memory that keeps Kafka's rules for groups and transactions. The database is a
real PostgreSQL, in a folder of its own, that the first run of a process starts (0.6 s) and the end
of the process ends. Records that fail are tried again at once rather than after their back-off.
"""

import atexit
import functools
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import psycopg
import structlog
from psycopg import sql

from orderstream.contract.envelope import Envelope, Headers
from orderstream.contract.events import EVENTS, Event, encode
from orderstream.contract.topics import Topics
from orderstream.extension.definition import Definition, definition_of
from orderstream.extension.stage import SaidBefore, consumer_stage
from orderstream.extension.tables import make_tables, set_up
from orderstream.local import postgres
from orderstream.local.guard import Guard
from orderstream.runtime.broker_memory import MemoryBroker, MemorySource
from orderstream.runtime.crashing import (
    Crash,
    Script,
    ScriptedDatabase,
    ScriptedSink,
    ScriptedSource,
    run_until_idle,
)
from orderstream.runtime.failure import RetryPolicy
from orderstream.runtime.loop import Loop
from orderstream.runtime.observe import StageMetrics
from orderstream.runtime.said import Said
from orderstream.runtime.stage import Output

NOON = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)  # The time that every batch has.
RETRIES = 2
_PLAIN = [
    structlog.stdlib.add_log_level,
    structlog.processors.format_exc_info,
    structlog.dev.ConsoleRenderer(colors=False),
]
TOPICS = Topics()
_TOPIC_OF = {kind: topic for topic, kind in EVENTS.items()}

# An event of ours, or topic, key and value, and headers if there are any.
Given = Event | tuple[Any, ...]
Consumer = Callable[..., Any]


@dataclass(frozen=True)
class Published:
    """A record as its readers see it, once its transaction is committed."""

    key: str | None
    value: bytes | None
    headers: dict[str, bytes]

    @property
    def json(self) -> Any:
        """What its value says."""
        return msgspec.json.decode(self.value or b"")


@dataclass(frozen=True)
class Parked:
    """A dead letter: its topic without the suffix, and why it is one."""

    topic: str
    key: str | None
    value: bytes | None
    reason: str


class Outcome:
    """What a run left behind: until the next run of any consumer in this process."""

    def __init__(self, broker: MemoryBroker, definition: Definition, calls: Sequence[str]) -> None:
        self._broker = broker
        self._definition = definition
        self._run = _Runs.number
        self.calls = tuple(calls)  # What the loop asked of broker and database, in order.

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """Return what a query finds in the consumer's own schema."""
        if self._run != _Runs.number:
            raise RuntimeError("another run has begun: its tables are those that are there now")
        with _connect(self._definition) as connection:
            return connection.execute(query.encode()).fetchall()

    def published(self, topic: str) -> list[Published]:
        """Return what stands in a topic, as a reader of committed records sees it."""
        return [
            Published(
                _text(record.key()),
                record.value(),
                {name: value or b"" for name, value in _headers(record)},
            )
            for record in self._broker.log(topic)
        ]

    @property
    def parked(self) -> list[Parked]:
        """The dead letters, by topic in the order of the decorator."""
        return [
            Parked(topic, found.key, found.value, found.headers[_REASON].decode())
            for topic in self._definition.topics
            for found in self.published(TOPICS.dead_letter(topic))
            if _REASON in found.headers
        ]


def run(
    consumer: Consumer,
    records: Iterable[Given],
    *,
    crash: int | None = None,
    after: bool = False,
    fault: type[BaseException] = Crash,
    batch: int | None = None,
    partitions: int = 1,
) -> Outcome:
    """Have a consumer read records that are there already, until it has read everything.

    `crash` kills it before its so manieth call to broker or database, or `after` it, and it is
    started again; `Outcome.calls` of a run without a crash names the calls. With another `fault`,
    `Unavailable` say, that call fails so instead. `batch` is how many records it is given at once,
    if not as many as its decorator says. Raises AssertionError when it does not get on, as with
    SQL that is wrong, with the fault for its cause.
    """
    return _run(
        definition_of(consumer, getattr(consumer, "__name__", str(consumer))),
        list(records),
        Script(crash, after, fault),
        batch,
        partitions,
    )


def crash_everywhere(
    consumer: Consumer,
    records: Iterable[Given],
    *,
    rows: str | None = None,
    fault: type[BaseException] = Crash,
    batch: int = 3,
) -> int:
    """Run it once, and then once more for each place where it can crash, and compare.

    Compared are the rows that the query `rows` finds (all of all its tables, if none is given:
    name columns instead where they have the time of the write or a number of a sequence), what is
    published and what is parked. Raises AssertionError at the first difference, naming the crash;
    returns how many there were.
    """
    definition = definition_of(consumer, getattr(consumer, "__name__", str(consumer)))
    given = list(records)
    smooth = _run(definition, given, Script(), batch, 1)
    expected = _seen(smooth, definition, rows)
    crashes = 0
    for number, name in enumerate(smooth.calls):
        for after in (False, True):
            outcome = _run(definition, given, Script(number, after, fault), batch, 1)
            found = _seen(outcome, definition, rows)
            where = f"crashed {'after' if after else 'before'} call {number}, {name}"
            assert found == expected, f"{where}: {found} instead of {expected}"
            crashes += 1
    return crashes


class _Runs:
    """How many runs there were: the tables are those of the last."""

    number = 0


def _run(
    definition: Definition,
    records: list[Given],
    script: Script,
    batch: int | None,
    partitions: int,
) -> Outcome:
    _Runs.number += 1
    if not structlog.is_configured():  # Its own way draws each exception with all its locals.
        structlog.configure(processors=_PLAIN)
    group = f"testing-{definition.name}"
    _new_tables(definition, group)
    broker = MemoryBroker(partitions)
    for record in records:
        broker.append(_record(record))
    database = ScriptedDatabase(_dsn(), definition.schema)
    before = SaidBefore(database)
    stage = consumer_stage(definition, TOPICS, group, before)
    retries = RETRIES if definition.retries is None else definition.retries

    def make_loop() -> Loop:
        return Loop(
            stage,
            group,
            ScriptedSource(MemorySource(broker, group, stage.reads), script),
            ScriptedSink(broker, group, script),
            database,
            clock=lambda: NOON,
            policy=RetryPolicy(retries, backoff_ms=0),
            dead_letter_suffix=TOPICS.dead_letter_suffix,
            metrics=StageMetrics(definition.name),
            records_max=batch or definition.batch,
            answered=before,
            said=Said(database),
        )

    database.script = script
    try:
        run_until_idle(make_loop, script, rounds_max=200 + 20 * len(records))
    finally:
        database.close()
    return Outcome(broker, definition, script.names)


def _record(given: Given) -> Output:
    if isinstance(given, Event):
        topic, key = _TOPIC_OF[type(given)], given.key.encode()
        return Output(topic, key, encode(given), _envelope(topic).headers(key, NOON))
    topic, key, value, headers, *_ = (*given, None)
    payload = value if value is None or isinstance(value, bytes) else msgspec.json.encode(value)
    named: Headers = [
        (name, said if isinstance(said, bytes) else str(said).encode())
        for name, said in dict(headers or {}).items()
    ]
    return Output(topic, None if key is None else str(key).encode(), payload, named)


@functools.cache
def _envelope(topic: str) -> Envelope:
    return Envelope(topic, "/orderstream/testing")


_REASON = "kafka_dlt-exception-message"


def _seen(outcome: Outcome, definition: Definition, query: str | None) -> dict[str, Any]:
    """Return all that anybody can see of a run."""
    if query is None:
        tables = [name for (name,) in outcome.rows(_TABLES) if name not in _OURS]
        quoted = [(name, name.replace('"', '""')) for name in tables]
        found = {
            name: outcome.rows(f'SELECT to_jsonb(t) FROM "{table}" t ORDER BY to_jsonb(t)::text')
            for name, table in quoted
        }
    else:
        found = {"rows": outcome.rows(query)}
    said = {topic: outcome.published(topic) for topic in definition.publishes}
    return found | said | {"parked": outcome.parked}


def _headers(record: Any) -> Sequence[tuple[str, bytes | None]]:
    return record.headers() or ()


def _text(key: bytes | None) -> str | None:
    return None if key is None else key.decode(errors="replace")


# The database ----------------------------------------------------------------------------------

_OURS = frozenset({"position", "said", "answered", "answered_by_parking"})
_TABLES = """
    SELECT tablename FROM pg_tables
    WHERE schemaname = current_schema() AND tablename NOT LIKE '%yoyo%' ORDER BY tablename
"""
_set_up: dict[str, Definition] = {}


@functools.cache
def _dsn() -> str:
    """Start the process's own PostgreSQL."""
    home = Path(tempfile.mkdtemp(prefix="orderstream-testing-"))
    home.chmod(0o755)  # Root's PostgreSQL runs as another user.
    guard = Guard()
    status = postgres.start(home)
    if status.pid is not None:
        guard.watch(status.pid, signal.SIGINT)
    atexit.register(_end, home, guard)
    return status.dsn


def _end(home: Path, guard: Guard) -> None:
    postgres.stop(home)
    guard.close()
    shutil.rmtree(postgres.status(home).data.parent, ignore_errors=True)
    shutil.rmtree(home, ignore_errors=True)


def _connect(definition: Definition) -> "psycopg.Connection[tuple[Any, ...]]":
    connection = psycopg.connect(_dsn(), autocommit=True)
    connection.execute(sql.SQL("SET search_path = {}").format(sql.Identifier(definition.schema)))
    return connection


def _new_tables(definition: Definition, group: str) -> None:
    """Make its tables, or empty them when they are there already."""
    with _connect(definition) as connection:
        if _set_up.get(definition.name) == definition:
            names = [sql.Identifier(name) for (name,) in connection.execute(_TABLES.encode())]
            listed = sql.SQL(", ").join(names)
            connection.execute(sql.SQL("TRUNCATE {} RESTART IDENTITY CASCADE").format(listed))
            make_tables(connection, definition)
            return
        schema = sql.Identifier(definition.schema)
        connection.execute(sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(schema))
    set_up(_dsn(), definition, TOPICS, group)
    _set_up[definition.name] = definition
