"""Which groups read the log, and where each of them is, wherever it keeps that."""

from dataclasses import dataclass

from psycopg import Connection, sql

from orderstream.flow import SCHEMAS, flow
from orderstream.runtime.admin import Admin
from orderstream.runtime.settings import Settings
from orderstream.runtime.stage import Positions

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
        for step in flow(settings.topics)
        if step.reads
    ]


def positions(reader: Reader, admin: Admin, connection: Connection) -> Positions:
    """Return where a service will read on, as far as it has read at all. Raises Unavailable."""
    if reader.service == DECIDES:
        lags = admin.lag(reader.group, reader.reads)
        return {(at.topic, at.partition): at.committed for at in lags if at.committed is not None}
    table = sql.Identifier(reader.schema, "position")
    query = sql.SQL("SELECT topic, partition, next FROM {}").format(table)
    return {(topic, number): at for topic, number, at in connection.execute(query)}
