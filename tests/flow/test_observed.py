"""A whole installation as operators see it: its log lines under faults, and a real Prometheus."""

import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from orderstream.contract.envelope import Headers
from orderstream.local.processes import free_port
from orderstream.runtime.stage import Output
from tests.flow.installation import Installation, Load, installation
from tests.flow.test_own_consumers import own, settings_of
from tests.kafka.topics import put
from tests.observability.lines import parsed
from tests.observability.opensearch import STREAM, OpenSearch, opensearch
from tests.ports import own_port
from tests.programs import program
from tests.waiting import until

DEPLOY = Path(__file__).parents[2] / "deploy"

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TRACED = {"traceparent": f"00-{TRACE}-{SPAN}-01"}
CONTACT = {"email": "ada.lovelace@example.com", "phone": "+4915112345678"}
NOTE = "spoke with Ms Lovelace"
PRIVATE = ("lovelace", "4915112345678")
DRILLS = 10
NOSY = """
from orderstream import consumer

@consumer("nosy", topics=["order.created"], retries=0)
def look(batch, tx):
    for each in batch:
        raise ValueError(f"what to do with {each!r}?")
"""


@pytest.fixture(scope="module")
def running() -> Iterator[Installation]:
    closed = free_port(own_port())  # Where nobody takes a webhook.
    with installation(
        *("--quiet", "--workers", "inventory=2"),
        ORDERSTREAM_RETRY_BACKOFF="0.1",
        ORDERSTREAM_LOG_REPEATS="3",
        ORDERSTREAM_WEBHOOK_URLS=f"http://127.0.0.1:{closed}/",
        ORDERSTREAM_WEBHOOK_SECRET="whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD",
        ORDERSTREAM_WEBHOOK_ALLOW_PRIVATE="1",
    ) as running:
        yield running


def place(running: Installation, order_id: str, sku: str = "P-1") -> None:
    order = {"orderId": order_id, "productId": sku, "quantity": 1, "notify": CONTACT}
    until(lambda: running.place(order, **TRACED).status_code == 202, what=f"{order_id} is accepted")


def targets(running: Installation) -> list[str]:
    """Return where each process of it listens."""
    found: list[str] = []
    for process in running.everything():
        with suppress(psutil.Error):
            *_, word, service = process.cmdline()
            if word == "serve":
                port = process.environ()[f"ORDERSTREAM_PORT_{service.upper()}"]
                found.append(f"127.0.0.1:{port}")
    return sorted(found)


class Prometheus:
    """A real one that scrapes each second, with the rules that ship."""

    def __init__(self, url: str) -> None:
        self._http = httpx.Client(base_url=f"{url}/api/v1", timeout=10, trust_env=False)
        self.close = self._http.close

    def ask(self, path: str, **given: str) -> Any:
        try:
            answer = self._http.get(path, params=given)
        except httpx.TransportError:
            return None
        return answer.json()["data"] if answer.status_code == 200 else None  # 503: it starts.

    def query(self, expression: str) -> list[Any]:
        answer = self.ask("/query", query=expression)
        assert answer is not None, expression
        return answer["result"]


@pytest.fixture(scope="module")
def prometheus(running: Installation, tmp_path_factory: Any) -> Iterator[Prometheus]:
    folder: Path = tmp_path_factory.mktemp("prometheus")
    port = own_port()
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(DEPLOY / "prometheus" / "alerts.yml")],
        "scrape_configs": [
            {"job_name": "orderstream", "static_configs": [{"targets": targets(running)}]}
        ],
    }
    (folder / "prometheus.yml").write_text(json.dumps(config))  # Which is YAML.
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [
                program("prometheus"),
                f"--config.file={folder}/prometheus.yml",
                f"--storage.tsdb.path={folder}/data",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdout=log,
            stderr=log,
        )
    try:
        with closing(Prometheus(f"http://127.0.0.1:{port}")) as prometheus:
            yield prometheus
    finally:
        process.terminate()
        process.wait(20)


def named(expression: str) -> set[str]:
    """Return the metrics that an expression names."""
    bare = re.sub(r"\{[^}]*\}|\b(?:by|on|group_left) \([^)]*\)", "", expression)
    return set(re.findall(r"\b(?:(?:orderstream|kafka|http|process)_\w+|up)\b", bare))


def panels() -> list[dict[str, Any]]:
    return json.loads((DEPLOY / "grafana" / "orderstream.json").read_text("utf-8"))["panels"]


class TestRules:
    def test_are_sound_and_do_what_they_say(self) -> None:
        for arguments in (
            ("check", "config", "prometheus.yml"),
            ("test", "rules", "alerts_test.yml"),
        ):
            done = subprocess.run(
                [program("promtool", "prometheus"), *arguments],
                cwd=DEPLOY / "prometheus",
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
            assert done.returncode == 0, done.stdout + done.stderr

    def test_are_each_tested(self) -> None:
        rules, tests = (
            (DEPLOY / "prometheus" / name).read_text("utf-8")
            for name in ("alerts.yml", "alerts_test.yml")
        )
        for alert in re.findall(r"- alert: (\w+)", rules):
            assert re.search(rf"alertname: {alert}\n\s+exp_alerts:\n", tests), alert


class TestDashboard:
    def test_has_each_panel_once_in_a_place_of_its_own(self) -> None:
        taken: set[tuple[int, int]] = set()
        for panel in panels():
            at = panel["gridPos"]
            assert at["x"] + at["w"] <= 24
            cells = {
                (x, y)
                for x in range(at["x"], at["x"] + at["w"])
                for y in range(at["y"], at["y"] + at["h"])
            }
            assert not cells & taken, panel["title"]
            taken |= cells
        assert len({panel["id"] for panel in panels()}) == len(panels())


class TestPrometheus:
    def test_finds_all_that_the_dashboard_and_the_alerts_ask_for(
        self, running: Installation, prometheus: Prometheus
    ) -> None:
        count = len(targets(running))
        assert count == 7  # Six services, and one of them twice.
        until(lambda: prometheus.ask("/status/config"), what="Prometheus is there")
        until(
            lambda: prometheus.query(f"sum(up) == {count}"), what="Prometheus has scraped them all"
        )
        place(running, "watched")
        for number in range(DRILLS):
            place(running, f"drill-{number}", "FAIL")
        running.decided("drill-0")

        asked = [
            target["expr"].replace("$__rate_interval", "1m")
            for panel in panels()
            for target in panel["targets"]
        ]
        for expression in asked:
            until(lambda e=expression: prometheus.query(e), what=f"something of {expression}")
        groups = prometheus.ask("/rules")["groups"]
        rules = [rule for group in groups for rule in group["rules"]]
        there = set(prometheus.ask("/label/__name__/values"))
        for expression in (*asked, *(rule["query"] for rule in rules)):
            assert named(expression), expression
            assert named(expression) <= there, named(expression) - there

        assert {rule["health"] for rule in rules} == {"ok"}
        firing = until(
            lambda: [r["labels"] for r in prometheus.ask("/alerts")["alerts"]],
            what="a dead letter is told of",
        )
        told = {labels["alertname"] for labels in firing}
        # Nobody takes its webhooks, which is seen sooner or later.
        assert told - {"OrderstreamMessagesFail"} == {"OrderstreamDeadLetters"}

        workers = prometheus.query('orderstream_stage_running{stage="inventory"} == 1')
        assert len({worker["metric"]["instance"] for worker in workers}) == 2


def written(running: Installation) -> dict[str, str]:
    """Return what each process has logged."""
    return {path.name: path.read_text("utf-8") for path in (running.home / "logs").glob("*.log")}


def parsed_lines(logs: dict[str, str]) -> list[dict[str, Any]]:
    return [parsed(line) for text in logs.values() for line in text.splitlines() if line]


def test_services_that_fail_log_lines_that_can_be_mapped_and_nothing_private(
    running: Installation, tmp_path: Path
) -> None:
    place(running, "sound")
    for number in range(DRILLS):  # Again, and others: it does not matter.
        place(running, f"drill-{number}", "FAIL")
    settings = settings_of(running)
    unreadable = json.dumps({"orderId": "unreadable", "items": CONTACT, "note": NOTE}).encode()
    traced: Headers = [("traceparent", TRACED["traceparent"].encode())]
    put(settings, Output("order.created", b"unreadable", unreadable, traced))
    (tmp_path / "nosy.py").write_text(NOSY)
    with own(running, "nosy:look", tmp_path):
        nosy = running.home / "nosy.log"
        until(lambda: "parked as a dead letter" in nosy.read_text(), what="it failed")
    running.decided("drill-0")
    counted = [running.http.get(f"http://{at}/metrics").text for at in targets(running)]
    assert any("orderstream_log_suppressed_total{" in text for text in counted)
    listed = running.run("dlt", "list", "--json")
    place_of = json.loads(listed.stdout.splitlines()[0])["place"]
    assert running.run("dlt", "discard", place_of, "--note", NOTE, "--yes").returncode == 0

    with Load(running.url("order"), clients=2):
        os.kill(running.pid_of_postgres(), signal.SIGKILL)
        until(lambda: "paused until" in "".join(written(running).values()), what="a stage waits")
        os.kill(running.pid_of_kafka(), signal.SIGKILL)
        until(
            lambda: '"orderstream.librdkafka"' in "".join(written(running).values()),
            what="Kafka's client has noticed",
        )
    place(running, "afterwards")
    running.decided("afterwards")

    logs = written(running)
    logs["nosy.log"] = nosy.read_text().partition("\n")[2]  # Behind what `run` tells a person.
    lines = parsed_lines(logs)
    for name, text in logs.items():
        for private in PRIVATE:
            assert private not in text.lower(), name

    levels = {line["log.level"] for line in lines}
    assert {"info", "warning", "error"} <= levels <= {"info", "warning", "error", "critical"}
    loggers = {line["log.logger"] for line in lines}
    assert {"orderstream.loop", "orderstream.librdkafka", "orderstream.notify"} <= loggers

    of_records = [line for line in lines if "kafka.offset" in line]
    assert len(of_records) > DRILLS
    for line in of_records:
        assert line.keys() >= {"kafka.topic", "kafka.partition", "orderstream.order_id"}, line
        if not line["orderstream.order_id"].startswith("load-"):  # Those come without a trace.
            assert (line["trace.id"], line["span.id"]) == (TRACE, SPAN), line
    told = {line["orderstream.order_id"] for line in of_records}
    assert {"unreadable", "sound", "drill-0"} <= told
    (of_nosy, *_) = [line for line in of_records if line["service.name"] == "orderstream-nosy"]
    assert of_nosy["error.type"] == "ValueError"
    assert "nosy.py" in of_nosy["error.stack_trace"]


def test_what_they_log_is_indexed_and_found_by_the_template_that_ships(
    running: Installation, tmp_path: Path
) -> None:
    place(running, "to-be-found")
    place(running, "to-be-parked", "FAIL")
    running.decided("to-be-parked")

    def both_told() -> list[dict[str, Any]] | None:
        whole = {name: text[: text.rfind("\n") + 1] for name, text in written(running).items()}
        found = parsed_lines(whole)
        told = {line.get("orderstream.order_id") for line in found}
        return found if {"to-be-found", "to-be-parked"} <= told else None

    lines = until(both_told, what="both are told of")
    with opensearch(tmp_path) as server:
        assert server.index(lines) == []
        assert server.count({"match_all": {}}) == len(lines)
        assert server.count({"exists": {"field": "_ignored"}}) == 0
        for name, value in (
            ("trace.id", TRACE),
            ("orderstream.order_id", "to-be-parked"),
            ("log.level", "error"),
            ("kafka.topic", "inventory.reserved"),
        ):
            found = server.count({"term": {name: value}})
            assert found == sum(line.get(name) == value for line in lines) > 0, name
        on_the_log = {"range": {"kafka.offset": {"gte": 0}}}
        assert server.count(on_the_log) == sum("kafka.offset" in line for line in lines)
        parked = {"match_phrase": {"message": "parked as a dead letter"}}
        assert server.count(parked) == sum(
            line["message"].startswith("parked as a dead letter") for line in lines
        )
        trace = {"wildcard": {"error.stack_trace": "*DrillFailure*"}}
        assert server.count(trace) > 0
        tried = {"tries": {"terms": {"field": "labels.tries"}}}
        buckets = server.search(parked, aggs=tried)["aggregations"]["tries"]["buckets"]
        assert sum(bucket["doc_count"] for bucket in buckets) == server.count(parked)
        assert unmapped_in(server) == []


def unmapped_in(server: OpenSearch) -> list[str]:
    """Return the labels that were not mapped as the template's dynamic part says."""
    ((_, found),) = server.ask("GET", f"/{STREAM}/_mapping").items()
    labels = found["mappings"]["properties"]["labels"]["properties"]
    return [name for name, kind in labels.items() if kind["type"] != "keyword"]
