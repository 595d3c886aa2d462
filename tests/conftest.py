"""Servers for the tests: real ones, on free ports, in folders of their own, ended afterwards."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from orderstream import wiring
from orderstream.local import postgres
from orderstream.runtime.migrations import migrate

_numbers = itertools.count()


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder for this test run's servers."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="session")
def template_dsn(home: Path) -> Iterator[str]:
    """A database with every schema set up, that each test gets a copy of."""
    status = postgres.start(home)
    try:
        migrate(status.dsn, wiring.migrations())
        yield status.dsn
    finally:
        postgres.stop(home)


@pytest.fixture
def dsn(template_dsn: str) -> Iterator[str]:
    """A database of the test's own."""
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
