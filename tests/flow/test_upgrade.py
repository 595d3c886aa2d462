"""A version replaced by the next one, service by service, under load: no order is lost or doubled.

The old version is the last release, or, where there is none, what was there before the last
migration: so new migrations always run under old code (docs/operations.md, expand and contract).
"""

import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from orderstream.audit.verify import verify
from orderstream.runtime.migrations import migrate, pending
from orderstream.runtime.settings import Settings
from orderstream.wiring.setup import migrations
from tests.conftest import own_settings
from tests.flow.installation import SERVICES, Load
from tests.kafka.topics import decided, keys, read
from tests.orders.service import environment
from tests.ports import own_port
from tests.waiting import until

TOP = Path(__file__).parents[2]
CLIENTS = 4
EVERY_S = 0.015  # Services start meanwhile: they are to have some of the machine, too.
DATABASE = "upgraded"


@pytest.fixture(scope="module")
def old_source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source of the version before this one, out of git."""
    commit = git("describe", "--tags", "--abbrev=0", "HEAD^")
    if commit is None:
        changed = git("log", "-1", "--format=%H", "--", "src/orderstream/*/migrations/*.sql")
        commit = changed and git("rev-parse", "--verify", "--quiet", f"{changed}^")
    if not commit:
        pytest.skip("no git history here: clone it whole (git fetch --unshallow)")
    folder = tmp_path_factory.mktemp("old")
    archive = subprocess.run(
        ["git", "archive", commit, "src"], cwd=TOP, capture_output=True, check=True
    )
    subprocess.run(["tar", "-x"], cwd=folder, input=archive.stdout, check=True)
    source = folder / "src"
    where = "import orderstream; print(orderstream.__file__)"
    found = subprocess.run(
        [sys.executable, "-c", where],
        env=os.environ | {"PYTHONPATH": str(source)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout.startswith(str(source))
    return source


def git(*words: str) -> str | None:
    """Return what git says; None where it is not there, or says no."""
    with suppress(FileNotFoundError):
        done = subprocess.run(["git", *words], cwd=TOP, capture_output=True, text=True, check=False)
        return done.stdout.strip() if done.returncode == 0 else None
    return None


@pytest.fixture
def settings(kafka: str, template_dsn: str) -> Iterator[Settings]:
    """A database with nothing in it: the old version makes it."""
    name = sql.Identifier(DATABASE)
    with psycopg.connect(make_conninfo(template_dsn, dbname="postgres"), autocommit=True) as admin:
        admin.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(name))
        yield own_settings(kafka, make_conninfo(template_dsn, dbname=DATABASE))
        admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name))


class Service:
    """One worker of one version."""

    def __init__(
        self, name: str, settings: Settings, folder: Path, source: Path | None, worker: int
    ) -> None:
        self.name = name
        self.url = f"http://127.0.0.1:{(port := own_port())}"
        self._log = folder / f"{name}-{worker}.log"
        env = os.environ | environment(settings)
        env |= {f"ORDERSTREAM_PORT_{name.upper()}": str(port), "ORDERSTREAM_WORKER": str(worker)}
        if source is not None:
            env["PYTHONPATH"] = str(source)
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "orderstream", "serve", name],
                env=env,
                cwd=folder,
                stdout=log,
                stderr=log,
            )

    def wait(self) -> None:
        """Return once it is ready."""
        until(self._is_ready, what=f"{self.name} is ready")

    def _is_ready(self) -> bool:
        assert self._process.poll() is None, self._log.read_text()
        with suppress(httpx.TransportError):
            return httpx.get(f"{self.url}/readyz", trust_env=False).status_code == 200
        return False

    def end(self) -> None:
        """End it as a supervisor does."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            assert self._process.wait(20) == 0, self._log.read_text()


@pytest.mark.parametrize("orders", [100, pytest.param(3_000, marks=pytest.mark.chaos)])
def test_each_service_is_replaced_under_load(
    settings: Settings, old_source: Path, tmp_path: Path, orders: int
) -> None:
    here: dict[str, Service] = {}
    every: list[Service] = []

    def start(name: str, source: Path | None, worker: int) -> Service:
        every.append(Service(name, settings, tmp_path, source, worker))
        return every[-1]

    try:
        here |= {name: start(name, old_source, 0) for name in SERVICES}
        for service in here.values():
            service.wait()
        stock = {"onHand": orders * 3 // 2}  # Fewer than will be asked for of some.
        for number in range(7):
            put = httpx.put(f"{here['inventory'].url}/api/stock/P-{number}", json=stock)
            assert put.status_code == 200
        with Load(here["order"].url, clients=CLIENTS, products=7, pause_s=EVERY_S) as clients:
            clients.more(orders)
            migrate(settings.dsn(), migrations())  # All that is new, under code that is old.
            assert pending(settings.dsn(), migrations()) == []
            clients.more(2 * orders)
            for name in SERVICES:
                new = start(name, None, 1)
                new.wait()
                if name == "order":
                    clients.urls.append(new.url)
                clients.more(orders)  # Old and new, side by side.
                if name == "order":
                    clients.urls.remove(here[name].url)
                here[name].end()
                clients.more(orders)
        report = verify(settings, wait_s=60, progress=None)
        assert (report.violations, report.behind) == ([], [])
        assert clients.strange == []
        placed = keys(read(settings, settings.topics.order_created))
        assert {*clients.accepted} <= {*placed}
        assert max(Counter(decided(settings)).values()) == 1
        assert report.outcomes["PENDING"] == 0
    finally:
        for service in every:
            service.end()
