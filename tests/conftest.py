"""Servers for the tests: real ones, on free ports, in folders of their own, ended afterwards."""

import itertools
import signal
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import psycopg
import pytest
import structlog
from hypothesis import HealthCheck, settings
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from orderstream.local import kafka as local_kafka
from orderstream.local import postgres
from orderstream.local.guard import Guard
from orderstream.runtime.migrations import migrate
from orderstream.runtime.settings import Settings
from orderstream.wiring.setup import migrations
from tests.homes import own_home
from tests.ports import own_port

_numbers = itertools.count()


def _drop(_logger: object, _method: str, _event: object) -> NoReturn:
    raise structlog.DropEvent


# What is logged on purpose is no news; structlog's own way draws each exception with its locals.
structlog.configure(processors=[_drop])


# How fast a machine is, is no fault of what is tested. The rest is as Hypothesis has it, in CI too.
settings.register_profile(
    "any-machine",
    parent=settings(),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("any-machine")


def pytest_configure() -> None:
    """A run that is told to end ends its servers first."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)


@pytest.fixture(scope="session")
def guard() -> Iterator[Guard]:
    """Ends the servers of a run that is killed outright."""
    guard = Guard()
    yield guard
    guard.close()


@pytest.fixture(scope="session")
def home() -> Iterator[Path]:
    """A data folder for this test run's servers."""
    with own_home() as home:
        yield home


@pytest.fixture(scope="session")
def template_dsn(home: Path, guard: Guard) -> Iterator[str]:
    """A database with every schema set up, that each test gets a copy of."""
    status = postgres.start(home)
    try:
        if status.pid is not None:
            guard.watch(status.pid, signal.SIGINT)
        migrate(status.dsn, migrations())
        yield status.dsn
    finally:
        postgres.stop(home)


@pytest.fixture
def dsn(template_dsn: str) -> Iterator[str]:
    """A database of the test's own."""
    with database_copy(template_dsn) as dsn:
        yield dsn


@contextmanager
def database_copy(template_dsn: str) -> Generator[str]:
    """Make a database with every schema and nothing in it, and drop it afterwards."""
    name = f"test_{next(_numbers)}"
    template = conninfo_to_dict(template_dsn)["dbname"]
    admin_dsn = make_conninfo(template_dsn, dbname="postgres")
    with psycopg.connect(admin_dsn, autocommit=True) as admin:
        admin.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(
                sql.Identifier(name), sql.Identifier(str(template))
            )
        )
    yield make_conninfo(template_dsn, dbname=name)
    with psycopg.connect(admin_dsn, autocommit=True) as admin:
        admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture(scope="session")
def kafka(home: Path, guard: Guard) -> Iterator[str]:
    """The bootstrap servers of a real broker that all tests share; topics are the test's own."""
    status = local_kafka.start(home, port=own_port())
    try:
        for pid in status.pids:
            guard.watch(pid)
        yield status.bootstrap_servers
    finally:
        local_kafka.stop(home)


SettingsOf = Callable[..., Settings]


def own_settings(kafka: str, dsn: str, **more: str) -> Settings:
    """Return settings with topics and consumer groups that nobody else has."""
    prefix = f"t{next(_numbers)}."
    return Settings.load(
        {
            "KAFKA_BOOTSTRAP_SERVERS": kafka,
            "DATABASE_URL": dsn,
            "KAFKA_GROUP_ID": f"{prefix}orderstream",
            "ORDERSTREAM_TOPIC_ORDER_CREATED": f"{prefix}order.created",
            "ORDERSTREAM_TOPIC_ORDER_CREATED_RETRY": f"{prefix}order.created.retry",
            "ORDERSTREAM_TOPIC_INVENTORY_RESERVED": f"{prefix}inventory.reserved",
            "ORDERSTREAM_TOPIC_INVENTORY_REJECTED": f"{prefix}inventory.rejected",
            "ORDERSTREAM_TOPIC_DEAD_LETTERS_HANDLED": f"{prefix}dead-letters.handled",
            "ORDERSTREAM_TOPIC_ORDER_CANCELLED": f"{prefix}order.cancelled",
            "ORDERSTREAM_TOPIC_ORDER_FULFILLED": f"{prefix}order.fulfilled",
            "ORDERSTREAM_TOPIC_INVENTORY_RELEASED": f"{prefix}inventory.released",
            "ORDERSTREAM_TOPIC_AUDIT": f"{prefix}console.audit",
            "ORDERSTREAM_PARTITIONS": "2",
            "ORDERSTREAM_RETRY_BACKOFF": "0.1",
            **more,
        }
    )


@pytest.fixture
def settings_of(kafka: str, dsn: str) -> SettingsOf:
    """Returns settings for the test's own topics, groups and database, with changes if given."""
    return lambda **more: own_settings(kafka, dsn, **more)
