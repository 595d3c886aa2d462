"""`doctor`: what is wrong with this machine, Kafka, PostgreSQL or a service, and what to do."""

import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import typer

from orderstream.cli import settings
from orderstream.cli.app import app
from orderstream.cli.output import (
    AsJson,
    Refused,
    api_of,
    on_terminal,
    print_json_lines,
    printable,
)
from orderstream.cli.topics import admin_of
from orderstream.contract.errors import ConfigurationError, Unavailable

if TYPE_CHECKING:
    from orderstream.runtime.settings import Settings

PYTHON_MIN = (3, 11)
POSTGRES_MIN = 150_000
DISK_LOW_BYTES = 2 << 30
DISK_OUT_BYTES = 256 << 20
READYZ_TIMEOUT_S = 8.0  # Longer than a service waits for its own Kafka and store.
NOT_READY = 503


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
    yield from check_redis(current)
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
        admin = admin_of(settings.load_resolved(database=False))
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
    from orderstream.wiring.setup import migrations

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


def check_redis(current: "Settings") -> Iterator[Finding]:
    """Check the Redis that is set, if one is; none of its faults is more than a warning."""
    from orderstream.wiring.hints import hints_of

    hints = hints_of(current)
    if hints is None:
        return
    try:
        hints.check()
        yield Finding("ok", "Redis", "answers")
    except Unavailable as error:
        yield Finding("warn", "Redis", str(error), "start it, or check REDIS_URL")


def check_version(version: int) -> Finding:
    """Check PostgreSQL's version, a number such as 180004."""
    said = f"version {version // 10_000}.{version % 10_000}"
    if version < POSTGRES_MIN:
        return Finding("fail", "PostgreSQL", said, "use PostgreSQL 15 or newer")
    return Finding("ok", "PostgreSQL", said)


def _check_services(current: "Settings") -> Iterator[Finding]:
    from concurrent.futures import ThreadPoolExecutor

    from orderstream.flow import PROGRAMS

    with ThreadPoolExecutor(len(PROGRAMS)) as pool:
        yield from pool.map(partial(_check_service, current), PROGRAMS)


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
