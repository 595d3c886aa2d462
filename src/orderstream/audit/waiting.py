"""Waits until the services have read what there is, and says what they have not."""

import time
from collections.abc import Callable

from psycopg import Connection

from orderstream.audit.report import Behind
from orderstream.readers import Reader, positions, readers
from orderstream.runtime.admin import Admin
from orderstream.runtime.clock import monotonic
from orderstream.runtime.log_reader import LogReader
from orderstream.runtime.settings import Settings
from orderstream.runtime.stage import Positions

PAUSE_S = 0.2
ROUNDS_MAX = 12  # An order passes fewer topics than this, its retries included, by far.

Progress = Callable[[str, int, int], None]


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
