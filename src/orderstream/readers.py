"""Which groups read the log, and where each of them is, wherever it keeps that."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from psycopg import Connection

from orderstream.extension.registry import Registered, registered
from orderstream.flow import SCHEMAS, flow
from orderstream.runtime.admin import Admin, Lag
from orderstream.runtime.log_reader import LogReader
from orderstream.runtime.positions import positions_in
from orderstream.runtime.settings import Settings
from orderstream.runtime.stage import Partition, Positions

DECIDES = "inventory"  # The service whose offsets are Kafka's, with its results.


@dataclass(frozen=True)
class Reader:
    """One service: its group, the topics it reads, and its schema."""

    service: str
    group: str
    reads: tuple[str, ...]
    schema: str


def readers(settings: Settings) -> list[Reader]:
    """Return every service that reads the log."""
    return [
        Reader(step.service, settings.group(step.service), step.reads, SCHEMAS[step.service])
        for step in flow(settings.topics, settings.notify_received)
        if step.reads
    ]


def own_consumers(settings: Settings) -> dict[str, Registered]:
    """Return the consumers of a user's own that ever started under this group prefix, by name.

    Raises Unavailable.
    """
    return {
        found.name: found
        for found in registered(settings.dsn())
        if found.group == settings.group(found.name)
    }


def positions(reader: Reader, admin: Admin, connection: Connection) -> Positions:
    """Return where a service will read on, as far as it has read at all. Raises Unavailable."""
    if reader.service == DECIDES:
        lags = admin.lag(reader.group, reader.reads)
        return {(at.topic, at.partition): at.committed for at in lags if at.committed is not None}
    return positions_in(connection, reader.schema, "position")


def past_markers(lags: Sequence[Lag], reader: LogReader, near: int | None = None) -> list[Lag]:
    """Return the lags with those told apart of which only the ends of transactions are left.

    They may be of several groups. With `near` no partition is looked at that is further behind: it
    costs a read of each.
    """
    ends = {(lag.topic, lag.partition): lag.end for lag in lags}
    starts: dict[Partition, list[int]] = {}
    for at, start in sorted(
        {
            ((lag.topic, lag.partition), lag.committed or 0)
            for lag in lags
            if near is None or lag.behind <= near
        }
    ):
        starts.setdefault(at, []).append(start)
    silent_from: Positions = {}
    # From where the furthest behind stands; where that has a record, from where the next one does.
    while starts:
        first = {at: own[0] for at, own in starts.items()}
        unread = reader.unread(first, {at: ends[at] for at in first})
        silent_from |= {at: start for at, start in first.items() if at not in unread}
        starts = {at: own[1:] for at, own in starts.items() if at in unread and own[1:]}
    return [
        replace(lag, all_read=silent is not None and (lag.committed or 0) >= silent)
        for lag in lags
        for silent in (silent_from.get((lag.topic, lag.partition)),)
    ]


def lags(
    settings: Settings,
    admin: Admin,
    log: LogReader,
    near: int | None = None,
    own: Sequence[Registered] = (),
) -> list[tuple[str, list[Lag]]]:
    """Return how far each service is behind in every partition that it reads, and each consumer."""
    every = [(reader.service, reader.group, reader.reads) for reader in readers(settings)]
    every += [(consumer.name, consumer.group, consumer.reads) for consumer in own]
    return [
        (name, past_markers(admin.lag(group, reads), log, near)) for name, group, reads in every
    ]
