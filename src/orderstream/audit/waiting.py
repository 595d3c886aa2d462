"""Waits until the services have read what there is, and says what they have not."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from psycopg import Connection, sql

from orderstream.audit.checks import PROJECTIONS
from orderstream.audit.report import Behind
from orderstream.flow import flow
from orderstream.runtime.admin import Admin
from orderstream.runtime.clock import monotonic
from orderstream.runtime.log_reader import LogReader
from orderstream.runtime.settings import Settings
from orderstream.runtime.stage import Positions

PAUSE_S = 0.2
ROUNDS_MAX = 12  # An order passes fewer topics than this, its retries included, by far.

Progress = Callable[[str, int, int], None]

_SCHEMA_OF = {"view": "order_view", "notification": "notification", "analytics": "analytics"}
assert set(_SCHEMA_OF.values()) == set(PROJECTIONS)


@dataclass(frozen=True)
class Reader:
    """One service's group: what it reads, and the schema with its positions, if not Kafka."""

    group: str
    reads: tuple[str, ...]
    schema: str | None


def readers(settings: Settings) -> list[Reader]:
    """Return every service that reads the log."""
    return [
        Reader(settings.group(step.service), step.reads, _SCHEMA_OF.get(step.service))
        for step in flow(settings.topics)
        if step.reads
    ]


def positions(reader: Reader, admin: Admin, connection: Connection) -> Positions:
    """Return where a service will read on, from where it keeps that. Raises Unavailable."""
    if reader.schema is None:
        lags = admin.lag(reader.group, reader.reads)
        return {(lag.topic, lag.partition): lag.committed or 0 for lag in lags}
    table = sql.Identifier(reader.schema, "position")
    query = sql.SQL("SELECT topic, partition, next FROM {}").format(table)
    return {(topic, number): at for topic, number, at in connection.execute(query)}


def wait_until_read(
    settings: Settings,
    log: LogReader,
    connection: Connection,
    wait_s: float,
    progress: Progress,
) -> list[Behind]:
    """Wait until every service has read all there is, and what came of it, and so on.

    It ends where the log ends that stood there when a round began, so orders that keep coming do
    not keep it waiting. Returns what is unread when `wait_s` is over; `connection` must not be in
    a transaction.
    """
    admin = Admin(settings.kafka())
    every = readers(settings)
    topics = {topic for reader in every for topic in reader.reads}
    deadline = monotonic() + wait_s
    ends: Positions = {}
    most = 1
    for _ in range(ROUNDS_MAX):
        before, ends = ends, log.ends(log.partitions(sorted(topics)))
        if ends == before:
            break
        while behind := _behind(every, admin, log, connection, ends):
            left = sum(entry.offsets for entry in behind)
            most = max(most, left)
            progress("waiting for the services", most - left, most)
            if monotonic() >= deadline:
                return behind
            time.sleep(PAUSE_S)
    return []


def _behind(
    every: list[Reader], admin: Admin, log: LogReader, connection: Connection, ends: Positions
) -> list[Behind]:
    found: list[Behind] = []
    for reader in every:
        at = positions(reader, admin, connection)
        of_reader = {p: end for p, end in ends.items() if p[0] in reader.reads}
        for partition in sorted(log.unread(at, of_reader)):
            start = at.get(partition, 0)
            found.append(Behind(reader.group, *partition, start, ends[partition] - start))
    return found
