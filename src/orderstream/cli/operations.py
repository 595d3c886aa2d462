"""`lag`, `flow` and `config`: what is behind, who reads and writes what, and what is set."""

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer
from pydantic import SecretStr

from orderstream.cli import settings
from orderstream.cli.app import app
from orderstream.cli.output import (
    AsJson,
    hint,
    on_terminal,
    print_json_lines,
    print_table,
    rich_table,
)
from orderstream.cli.topics import admin_of
from orderstream.contract.errors import ConfigurationError, Unavailable

if TYPE_CHECKING:
    from orderstream.extension.registry import Registered
    from orderstream.flow import Step
    from orderstream.runtime.admin import Admin, Lag
    from orderstream.runtime.log_reader import LogReader
    from orderstream.runtime.settings import Settings

REFRESH_S = 1.0
HIDDEN = "******"


# lag ---------------------------------------------------------------------------------------


@app.command()
def lag(
    by_partition: Annotated[
        bool, typer.Option("--partitions", help="One line for each partition, not their sum.")
    ] = False,
    watch: Annotated[
        bool, typer.Option("--watch", help="Look again each second, until Ctrl-C.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show how far each service is behind in the topics it reads, and each consumer of your own.

    0 is exact. Of what is not read yet, the end of each transaction counts too.
    """
    current = settings.load_resolved(database=False)
    from orderstream.readers import lags
    from orderstream.runtime.log_reader import LogReader

    admin, own = admin_of(current), _own_consumers()
    with closing(LogReader(current.kafka(), current.group("lag"))) as reader:
        if watch and on_terminal() and not as_json:
            _watch_live(admin, reader, current, by_partition, own)
            return
        while True:
            rows = lag_rows(lags(current, admin, reader, own=own), by_partition)
            if as_json:
                print_json_lines(rows)
            else:
                print_table(_headings(by_partition), [tuple(row.values()) for row in rows])
            sys.stdout.flush()
            if not watch:
                return
            time.sleep(REFRESH_S)


def _own_consumers() -> "Sequence[Registered]":
    """Return the consumers of a user's own; none, with a hint, while PostgreSQL is away."""
    from orderstream.readers import own_consumers

    try:
        return list(own_consumers(settings.load_resolved(kafka=False)).values())
    except (ConfigurationError, Unavailable) as error:
        hint(f"consumers of your own are not shown: {error}")
        return ()


def _watch_live(
    admin: "Admin",
    reader: "LogReader",
    current: "Settings",
    by_partition: bool,
    own: "Sequence[Registered]",
) -> None:
    from rich.live import Live

    from orderstream.readers import lags

    with Live(auto_refresh=False) as live:
        while True:
            rows = lag_rows(lags(current, admin, reader, own=own), by_partition)
            values = [tuple(row.values()) for row in rows]
            live.update(rich_table(_headings(by_partition), values), refresh=True)
            time.sleep(REFRESH_S)


def lag_rows(
    lags: Sequence[tuple[str, Sequence["Lag"]]], by_partition: bool
) -> list[dict[str, object]]:
    """Return a row for each service and topic, or for each partition of them."""
    return [
        row
        for service, found in lags
        for row in (
            (_partition_row(service, lag) for lag in found)
            if by_partition
            else _topic_rows(service, found)
        )
    ]


def _partition_row(service: str, lag: "Lag") -> dict[str, object]:
    return {
        "service": service,
        "topic": lag.topic,
        "partition": lag.partition,
        "committed": lag.committed,
        "end": lag.end,
        "behind": lag.behind,
    }


def _topic_rows(service: str, found: Sequence["Lag"]) -> Iterator[dict[str, object]]:
    for topic in dict.fromkeys(lag.topic for lag in found):
        of_topic = [lag for lag in found if lag.topic == topic]
        yield {
            "service": service,
            "topic": topic,
            "partitions": len(of_topic),
            "behind": sum(lag.behind for lag in of_topic),
        }


def _headings(by_partition: bool) -> tuple[str, ...]:
    if by_partition:
        return ("service", "topic", "partition", "committed", "end", "behind")
    return ("service", "topic", "partitions", "behind")


# flow --------------------------------------------------------------------------------------


@app.command("flow")
def show_flow(as_json: AsJson = False) -> None:
    """Print the map: each service, what it reads and writes, and where its code is.

    Needs no server; the topics have the names that are set.
    """
    from orderstream.flow import flow

    current = settings.load()
    steps = flow(current.topics, current.notify_received)
    if as_json:
        print_json_lines(asdict(step) for step in steps)
        return
    for line in flow_lines(steps):
        print(line)


def flow_lines(steps: Sequence["Step"]) -> Iterator[str]:
    """Draw the steps, each with its topics one below the other."""
    for step in steps:
        yield f"{step.service}: {step.does}  ({step.code})"
        for topic in step.reads:
            yield f"  ◀── {topic}"
        for topic in step.writes:
            readers = [reader.service for reader in steps if topic in reader.reads]
            to = f"  ──▶ {', '.join(readers)}" if readers else ""
            yield f"  ──▶ {topic}{to}"
        if step.offsets:
            yield f"      offsets: {step.offsets}"
        yield ""


# config ------------------------------------------------------------------------------------


@app.command()
def config(as_json: AsJson = False) -> None:
    """List every setting: its value in force, where that comes from, and what it means.

    Passwords are never shown. `local` is the address of a server of `orderstream up`.
    """
    rows = config_rows(settings.load())
    if as_json:
        print_json_lines(rows)
    else:
        names = ("name", "value", "source", "meaning")
        print_table(names, [tuple(row.values()) for row in rows])


def config_rows(current: "Settings") -> list[dict[str, str | None]]:
    """Return each setting as it is shown."""
    local = _local_addresses(current)
    rows: list[dict[str, str | None]] = []
    for field, info in type(current).model_fields.items():
        name = str(info.validation_alias)
        value: object = getattr(current, field)
        source = settings.source_of(name)
        if value is None and name in local:
            value, source = local[name], "local"
        rows.append(
            {
                "name": name,
                "value": shown_setting(name, value),
                "source": source,
                "meaning": info.description,
            }
        )
    return rows


def _local_addresses(current: "Settings") -> dict[str, object]:
    """Return the addresses of the local servers that are in use, by setting."""
    from orderstream.local import kafka, postgres

    found: dict[str, object] = {}
    broker = kafka.status(current.home)
    if broker.running:
        found["KAFKA_BOOTSTRAP_SERVERS"] = broker.bootstrap_servers
    database = postgres.status(current.home)
    if database.running:
        found["DATABASE_URL"] = SecretStr(database.dsn)
    return found


def shown_setting(name: str, value: object) -> str | None:
    """Write a value so that no password is in it; None when it is not set."""
    if value is None:
        return None
    if isinstance(value, SecretStr):
        return _hidden(name, value.get_secret_value())
    return str(value)


def _hidden(name: str, secret: str) -> str:
    if name == "DATABASE_URL":
        return database_text(secret)
    if name == "ORDERSTREAM_API_KEYS":
        from orderstream.runtime.keys import parse_keys

        callers = (entry.caller for entry in parse_keys(secret))
        return ",".join(f"{caller.name}:{caller.role}:{HIDDEN}" for caller in callers)
    return HIDDEN


def database_text(dsn: str) -> str:
    """Say which database it is, naming only parts that are never secret."""
    from psycopg.conninfo import make_conninfo

    from orderstream.runtime.setting_values import parts_of_dsn

    parts = parts_of_dsn(dsn)
    if parts is None:
        return HIDDEN
    harmless = ("host", "hostaddr", "port", "dbname", "user", "sslmode", "sslrootcert")
    known: dict[str, Any] = {name: parts[name] for name in harmless if name in parts}
    if "password" in parts:
        known["password"] = HIDDEN
    return make_conninfo(**known)
