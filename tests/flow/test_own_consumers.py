"""Consumers of a user's own beside a whole installation: added while it runs, killed, replayed.

Those are the examples, and the ten lines of docs/consumers.md as they stand there.
"""

import csv
import json
import os
import signal
import subprocess
from collections import Counter
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from orderstream.local import postgres
from orderstream.runtime.settings import Settings
from tests.flow.installation import COMMAND, SERVICES, Installation, Load, installation
from tests.kafka.topics import keys, read
from tests.ports import own_port
from tests.test_documented import DOCS, TOP, code_blocks
from tests.waiting import until

EXAMPLES = TOP / "examples"


@pytest.fixture(scope="module")
def running() -> Iterator[Installation]:
    with installation("--quiet") as running:
        yield running


@dataclass
class OwnConsumer:
    """`orderstream run` in a terminal of its own."""

    running: Installation
    target: str
    folder: Path
    port: int
    env: dict[str, str] = field(default_factory=dict[str, str])
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with (self.running.home / f"{self.target.partition(':')[0]}.log").open("ab") as log:
            self.process = subprocess.Popen(
                [*COMMAND, "run", self.target, "--port", str(self.port)],
                env=self.running.env | self.env,
                cwd=self.folder,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def ready(self) -> bool:
        with suppress(httpx.TransportError):
            answer = self.running.http.get(f"http://127.0.0.1:{self.port}/readyz")
            return answer.status_code == 200
        return False

    def end(self, with_signal: int) -> int:
        assert self.process is not None
        self.process.send_signal(with_signal)
        return self.process.wait(20)


@contextmanager
def own(
    running: Installation, target: str, folder: Path = EXAMPLES, **env: str
) -> Generator[OwnConsumer]:
    one = OwnConsumer(running, target, folder, own_port(), env)
    one.start()
    try:
        until(one.ready, what=f"{target} is ready")
        yield one
    finally:
        if one.process is not None and one.process.poll() is None:
            one.end(signal.SIGKILL)


def settings_of(running: Installation) -> Settings:
    port = running.env["ORDERSTREAM_PORT_KAFKA"]
    return Settings.load({"KAFKA_BOOTSTRAP_SERVERS": f"127.0.0.1:{port}"})


def rows(running: Installation, query: str) -> list[Any]:
    with psycopg.connect(postgres.status(running.home).dsn) as connection:
        return connection.execute(query.encode()).fetchall()


def all_read(running: Installation, *names: str) -> bool:
    listed = running.run("lag", "--json")
    assert listed.returncode == 0, listed.stderr
    lags = [json.loads(line) for line in listed.stdout.splitlines()]
    assert {*names} <= {lag["service"] for lag in lags}
    return not any(lag["behind"] for lag in lags if lag["service"] in names)


def test_the_ten_lines_run_as_they_stand_and_nothing_else_is_restarted(
    running: Installation, tmp_path: Path
) -> None:
    page = (DOCS / "consumers.md").read_text("utf-8")
    ten = code_blocks(page, "python")[0]
    assert len(ten.splitlines()) <= 10
    (tmp_path / "my_module.py").write_text(ten)
    pids = [running.pid_of(service) for service in SERVICES]
    running.place({"orderId": "ten", "productId": "P-1", "quantity": 1})
    with own(running, "my_module:score", tmp_path) as consumer:
        until(lambda: all_read(running, "fraud"), what="it has read the order")
        metrics = running.http.get(f"http://127.0.0.1:{consumer.port}/metrics").text
        assert 'orderstream_stage_records_total{stage="fraud"}' in metrics
        groups = running.http.get(f"{running.url('console')}/console/groups").json()["groups"]
        (group,) = [one for one in groups if one["group"] == "orderstream-fraud"]
        assert (group["service"], group["own"], group["behind"]) == ("fraud", True, 0)
        assert consumer.end(signal.SIGTERM) == 0
    assert [running.pid_of(service) for service in SERVICES] == pids
    with psycopg.connect(postgres.status(running.home).dsn) as connection:
        connection.execute("DROP SCHEMA consumer_fraud CASCADE")  # Of another of this name below.


def test_the_examples_do_everything_once_though_they_are_killed(
    running: Installation, tmp_path: Path
) -> None:
    folder = tmp_path / "csv"
    with (
        own(running, "fraud_score:score") as fraud,
        own(running, "daily_csv:export", DAILY_CSV=str(folder)) as export,
    ):
        with Load(running.url("order")) as load:
            for killed in (fraud, export, fraud, export):
                so_far = len(load.accepted)
                until(lambda so_far=so_far: len(load.accepted) > so_far + 200)
                assert killed.end(signal.SIGKILL) == -signal.SIGKILL
                killed.start()
        assert load.strange == []
        until(lambda: all_read(running, "fraud", "daily-csv", "inventory"), what="all is read")
        settings = settings_of(running)
        orders = Counter(keys(read(settings, "order.created")))
        assert orders.total() == len(orders) > 800
        assert Counter(keys(read(settings, "fraud.scored"))) == orders - Counter(["ten"])
        scored = rows(running, "SELECT order_id FROM consumer_fraud.ordered")
        assert Counter(order_id for (order_id,) in scored) == orders - Counter(["ten"])
        reserved = Counter(keys(read(settings, "inventory.reserved")))
        written = [
            cells["order"]
            for path in folder.glob("*.csv")
            for cells in csv.DictReader(path.read_text("utf-8").splitlines())
        ]
        assert Counter(written) == reserved
        assert running.run("verify", "--wait", "60").returncode == 0


def test_a_replay_is_refused_while_it_runs_and_builds_all_of_it_anew(
    running: Installation,
) -> None:
    replay = ("replay", "fraud", "--to", "beginning")
    query = "SELECT count(*), count(DISTINCT order_id) FROM consumer_fraud.ordered"
    settings = settings_of(running)
    orders = len(read(settings, "order.created"))
    said = keys(read(settings, "fraud.scored"))
    with own(running, "fraud_score:score") as fraud:
        refused = running.run(*replay, "--yes")
        assert (refused.returncode, "fraud runs: " in refused.stderr) == (1, True)
        assert "--restart" not in refused.stderr
        reset = f"{running.url('console')}/console/groups/orderstream-fraud/reset"
        plan = running.http.post(reset, json={"to": "beginning", "dryRun": True}).json()
        assert (plan["service"], plan["rebuild"]) == ("fraud", True)
        answer = running.http.post(reset, json={"to": "beginning", "dryRun": False})
        assert (answer.status_code, "fraud runs: " in answer.json()["detail"]) == (503, True)
        assert fraud.end(signal.SIGINT) == 0
    until(lambda: running.run(*replay, "--yes").returncode == 0, what="Kafka has forgotten it")
    assert rows(running, query) == [(0, 0)]
    with own(running, "fraud_score:score"):
        until(lambda: all_read(running, "fraud"))
        until(lambda: rows(running, query) == [(orders, orders)])
    assert keys(read(settings, "fraud.scored")) == said


class TestCalledWrongly:
    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            (("no_such:thing",), "there is no module no_such here"),
            (("fraud_score:points",), "fraud_score:points is no consumer"),
            (("nobody",), "or the name of an entry point"),
        ],
    )
    def test_it_says_what_is_wrong(
        self, running: Installation, arguments: tuple[str, ...], said: str
    ) -> None:
        done = subprocess.run(
            [*COMMAND, "run", *arguments],
            env=running.env,
            cwd=EXAMPLES,
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, said in done.stderr) == (2, True), done.stderr

    def test_a_port_that_is_taken_is_named(self, running: Installation) -> None:
        taken = running.env["ORDERSTREAM_PORT_ORDER"]
        done = running.run("run", "orderstream.testing:run", "--port", taken)
        assert (done.returncode, "is no consumer" in done.stderr) == (2, True)

    def test_nobody_else_may_be_replayed(self, running: Installation) -> None:
        done = running.run("replay", "nobody", "--to", "beginning")
        assert (done.returncode, "nobody has never read" in done.stderr) == (2, True), done.stderr
        done = running.run("replay", "fraud", "--to", "beginning", "--restart")
        assert (done.returncode, "--restart" in done.stderr) == (2, True), done.stderr

    def test_tables_that_cannot_be_made_end_it(self, running: Installation, tmp_path: Path) -> None:
        (tmp_path / "wrong.py").write_text(
            "from orderstream import consumer\n"
            '@consumer("wrong", topics=["order.created"], tables="CREATE TABEL x ()")\n'
            "def it(batch, tx): ...\n"
        )
        done = subprocess.run(
            [*COMMAND, "run", "wrong:it"],
            env=os.environ | running.env,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert (done.returncode, "wrong: its tables: " in done.stdout) == (1, True), done.stdout
