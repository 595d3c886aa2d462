"""`lag`, `doctor`, `config` and `flow`: what is behind, what is wrong, and what is set."""

import os
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from pydantic import SecretStr

from orderstream.cli import settings
from orderstream.cli.app import app
from orderstream.cli.output import (
    AsJson,
    Refused,
    api_of,
    on_terminal,
    print_json_lines,
    print_table,
    printable,
    rich_table,
)
from orderstream.cli.topics import admin_of, kafka_settings
from orderstream.contract.errors import ConfigurationError, Unavailable

if TYPE_CHECKING:
    from orderstream.flow import Step
    from orderstream.runtime.admin import Admin, Lag
    from orderstream.runtime.settings import Settings

PYTHON_MIN = (3, 11)
POSTGRES_MIN = 150_000
DISK_LOW_BYTES = 2 << 30
DISK_OUT_BYTES = 256 << 20
READYZ_TIMEOUT_S = 8.0  # Longer than a service waits for its own Kafka and store.
REFRESH_S = 1.0
NOT_READY = 503
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
    """Show how far each service is behind in the topics it reads.

    The end of a transaction takes an offset too, so a service that has read
    everything may still be `behind` by one in each partition.
    """
    current = kafka_settings()
    admin = admin_of(current)
    if watch and on_terminal() and not as_json:
        _watch_live(admin, current, by_partition)
        return
    while True:
        rows = lag_rows(_lags(admin, current), by_partition)
        if as_json:
            print_json_lines(rows)
        else:
            print_table(_headings(by_partition), [tuple(row.values()) for row in rows])
        sys.stdout.flush()
        if not watch:
            return
        time.sleep(REFRESH_S)


def _watch_live(admin: "Admin", current: "Settings", by_partition: bool) -> None:
    from rich.live import Live

    with Live(auto_refresh=False) as live:
        while True:
            rows = lag_rows(_lags(admin, current), by_partition)
            values = [tuple(row.values()) for row in rows]
            live.update(rich_table(_headings(by_partition), values), refresh=True)
            time.sleep(REFRESH_S)


def _lags(admin: "Admin", current: "Settings") -> list[tuple[str, list["Lag"]]]:
    """Return each reading service's lag in every partition."""
    from orderstream.flow import flow

    return [
        (step.service, admin.lag(current.group(step.service), step.reads))
        for step in flow(current.topics)
        if step.reads
    ]


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

    steps = flow(settings.load().topics)
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
        return database_text(value.get_secret_value()) if name == "DATABASE_URL" else HIDDEN
    return str(value)


def database_text(dsn: str) -> str:
    """Say which database it is, naming only parts that are never secret."""
    import psycopg
    from psycopg.conninfo import conninfo_to_dict, make_conninfo

    try:
        parts = conninfo_to_dict(dsn)
    except psycopg.Error:
        return HIDDEN
    harmless = ("host", "hostaddr", "port", "dbname", "user", "sslmode")
    known: dict[str, Any] = {name: parts[name] for name in harmless if name in parts}
    if "password" in parts:
        known["password"] = HIDDEN
    return make_conninfo(**known)


# doctor ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Finding:
    """What one check found, and what to do about it; nothing when it is well."""

    state: Literal["ok", "warn", "fail"]
    what: str
    said: str
    todo: str = ""


@app.command()
def doctor(as_json: AsJson = False) -> None:
    """Check this machine, Kafka, PostgreSQL and every service, and say what to do.

    Exit 1 when something failed; a warning is no failure.
    """
    findings: list[Finding] = []
    for finding in examine(settings.load()):
        findings.append(finding)
        if as_json:
            print_json_lines([asdict(finding)])
        else:
            _print_finding(finding)
    if any(finding.state == "fail" for finding in findings):
        raise typer.Exit(1)


def examine(current: "Settings") -> Iterator[Finding]:
    """Yield what each check finds, each as soon as it is known."""
    yield check_python(sys.version_info[:3])
    yield check_home(current.home)
    yield check_disk(current.home)
    yield from _check_kafka(current)
    yield from _check_database(current)
    yield from _check_services(current)


def check_python(version: tuple[int, ...]) -> Finding:
    """Check that this Python is new enough."""
    said = ".".join(map(str, version))
    if version < PYTHON_MIN:
        return Finding("fail", "Python", said, "install Python 3.11 or newer")
    return Finding("ok", "Python", said)


def check_home(home: Path) -> Finding:
    """Check that the local servers' folder can be written, or made."""
    there = _nearest(home)
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        todo = "make it writable, or set ORDERSTREAM_HOME to a folder that is"
        return Finding("fail", "home folder", f"{there} cannot be written", todo)
    made = "" if there == home else " (made when it is needed)"
    return Finding("ok", "home folder", f"{home}{made}")


def check_disk(home: Path) -> Finding:
    """Check the free space where the local servers keep their data."""
    free = shutil.disk_usage(_nearest(home)).free
    said = f"{free / (1 << 30):.1f} GiB free"
    if free < DISK_OUT_BYTES:
        todo = "make room now, or set ORDERSTREAM_HOME to another disk: Kafka stops when it is full"
        return Finding("fail", "disk", said, todo)
    if free < DISK_LOW_BYTES:
        return Finding("warn", "disk", said, "make room, or set ORDERSTREAM_HOME to another disk")
    return Finding("ok", "disk", said)


def _nearest(folder: Path) -> Path:
    """Return the folder, or the nearest above it that exists."""
    absolute = folder.absolute()
    return next(path for path in (absolute, *absolute.parents) if path.exists())


def _failed(what: str, error: Exception, todo: str = "") -> Finding:
    """Turn an error into a finding; without `todo`, the error's last clause says what to do."""
    said = str(error)
    if not todo:
        said, _, todo = said.rpartition(": ")
    return Finding("fail", what, said, todo)


def _check_kafka(current: "Settings") -> Iterator[Finding]:
    try:
        admin = admin_of(kafka_settings())
        brokers = admin.brokers()
        topics = admin.partitions()
    except (ConfigurationError, Unavailable) as error:
        yield _failed("Kafka", error)
        return
    count = f"{len(brokers)} broker" + ("" if len(brokers) == 1 else "s")
    yield Finding("ok", "Kafka", f"{count}: {', '.join(brokers)}")
    yield check_topics(current.topics.all(), topics)


def check_topics(wanted: Sequence[str], there: dict[str, int]) -> Finding:
    """Check that every topic of the flow exists."""
    missing = [topic for topic in wanted if topic not in there]
    if missing:
        todo = "run `orderstream topics create`; a service makes them when it starts, too"
        return Finding("warn", "topics", f"missing: {', '.join(missing)}", todo)
    return Finding("ok", "topics", f"all {len(wanted)} are there")


def _check_database(current: "Settings") -> Iterator[Finding]:
    try:
        yield from _database_findings(_dsn(current))
    except Unavailable as error:
        todo = "start it with `orderstream up`, or check DATABASE_URL"
        yield _failed("PostgreSQL", error, todo)


def _dsn(current: "Settings") -> str:
    if current.database_url is not None:
        return current.dsn()
    from orderstream.local import postgres

    database = postgres.status(current.home)
    if not database.running:
        raise Unavailable("none is set and none runs here")
    return database.dsn


def _database_findings(dsn: str) -> Iterator[Finding]:
    import psycopg

    from orderstream.runtime.migrations import pending
    from orderstream.wiring import migrations

    try:
        with psycopg.connect(dsn, connect_timeout=5) as connection:
            version = connection.info.server_version
    except psycopg.Error as error:
        raise Unavailable(f"does not answer: {str(error).strip().splitlines()[0]}") from error
    yield check_version(version)
    waiting = pending(dsn, migrations())
    if waiting:
        todo = "run `orderstream db migrate`; a service does it for itself when it starts"
        yield Finding("warn", "migrations", f"to be applied: {', '.join(waiting)}", todo)
    else:
        yield Finding("ok", "migrations", "all are applied")


def check_version(version: int) -> Finding:
    """Check PostgreSQL's version, a number such as 180004."""
    said = f"version {version // 10_000}.{version % 10_000}"
    if version < POSTGRES_MIN:
        return Finding("fail", "PostgreSQL", said, "use PostgreSQL 15 or newer")
    return Finding("ok", "PostgreSQL", said)


def _check_services(current: "Settings") -> Iterator[Finding]:
    from concurrent.futures import ThreadPoolExecutor

    from orderstream.wiring import SERVICES

    with ThreadPoolExecutor(len(SERVICES)) as pool:
        yield from pool.map(partial(_check_service, current), SERVICES)


def _check_service(current: "Settings", service: str) -> Finding:
    what = f"service {service}"
    try:
        with api_of(service, current, READYZ_TIMEOUT_S) as api:
            api.get("/readyz")
    except Refused as error:
        not_ready = error.status == NOT_READY
        todo = "put right what it names; the service then goes on by itself" if not_ready else ""
        return _failed(what, error, todo)
    except Unavailable as error:
        return _failed(what, error)
    return Finding("ok", what, "ready")


def _print_finding(finding: Finding) -> None:
    line = printable(f"{finding.what:<22}{finding.said}")
    if on_terminal():
        from rich.console import Console
        from rich.text import Text

        colour = {"ok": "green", "warn": "yellow", "fail": "bold red"}[finding.state]
        Console().print(Text.assemble((f"{finding.state:<6}", colour), line), soft_wrap=True)
    else:
        print(f"{finding.state:<6}{line}")
    if finding.todo:
        print(f"{'':<28}{printable(finding.todo)}", flush=True)
