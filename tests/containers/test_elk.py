"""Logs in Kibana: the setup asks what it must, and the files fit one another and what is logged."""

import http.server
import json
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
import yaml

from tests.containers.compose import ELK, PLAIN
from tests.containers.image import TOP

FOLDER = TOP / "deploy" / "elk"
FIELD = re.compile(r"\b(?:log|service|labels|trace|error|orderstream)\.\w+|@timestamp\b")


class _Servers(http.server.BaseHTTPRequestHandler):
    """Answers as Elasticsearch and Kibana do, once both are up: after two questions each."""

    asked: ClassVar[list[tuple[str, str, bytes]]] = []
    not_yet: ClassVar[dict[str, int]] = {}
    answer: ClassVar[bytes] = b'{"success":true,"successCount":6}'

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def do_PUT(self) -> None:
        self._answer()

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.asked.append((self.command, self.path, body))
        path = self.path.partition("?")[0]
        left = self.not_yet.get(path, 0)
        self.not_yet[path] = left - 1
        refused = 401 if self.headers["Authorization"] != "Basic ZWxhc3RpYzplbGFz" else 200
        self.send_response(503 if left > 0 else refused)
        self.end_headers()
        self.wfile.write(self.answer)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def servers() -> Iterator[str]:
    _Servers.asked = []
    _Servers.not_yet = {"/_cluster/health": 2, "/api/status": 2}
    _Servers.answer = b'{"success":true,"successCount":6}'
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Servers)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def set_up(at: str, password: str = "elas") -> subprocess.CompletedProcess[str]:
    own = {"ELASTICSEARCH": at, "KIBANA": at, "EVERY_S": "0"}
    own |= {"ELASTIC_PASSWORD": password, "KIBANA_PASSWORD": "kiba"}
    return subprocess.run(
        ["bash", FOLDER / "setup.sh"],
        env=PLAIN | own,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


class TestSetup:
    def test_waits_and_says_all_there_is_to_say(self, servers: str) -> None:
        done = set_up(servers)
        assert done.returncode == 0, done.stderr
        told = [(how, path.partition("?")[0], body) for how, path, body in _Servers.asked]
        health, status = ("GET", "/_cluster/health", b""), ("GET", "/api/status", b"")
        assert (told.count(health), told.count(status)) == (3, 3)
        rest = [request for request in told if request not in (health, status)]
        assert rest[0] == (
            *("POST", "/_security/user/kibana_system/_password"),
            b'{"password":"kiba"}',
        )
        templates = sorted((FOLDER / "templates").glob("*.json"))
        assert [(how, path) for how, path, _ in rest[1:-1]] == [
            ("PUT", f"/_index_template/{template.stem}") for template in templates
        ]
        how, path, body = rest[-1]
        assert (how, path) == ("POST", "/api/saved_objects/_import")
        assert (FOLDER / "kibana.ndjson").read_bytes() in body

    def test_fails_where_kibana_does_not_take_it(self, servers: str) -> None:
        _Servers.answer = b'{"success":false,"errors":[]}'
        done = set_up(servers)
        assert done.returncode == 1
        assert "did not take" in done.stderr


def saved_objects() -> list[dict[str, Any]]:
    lines = (FOLDER / "kibana.ndjson").read_text("utf-8").splitlines()
    return [json.loads(line) for line in lines]


def logged() -> set[str]:
    """Return the names of what a service logs as ECS JSON."""
    script = (
        "from orderstream.runtime.logs import configure_logs; import structlog;"
        "configure_logs('order', 'INFO', human=False);"
        "structlog.get_logger('orderstream.x').info('said', order_id='1')"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True
    )
    line = json.loads(done.stdout)
    assert line["service.name"].startswith("orderstream-")
    return set(line) | {f"labels.{name}" for name in line.get("labels", ())}


class TestSavedObjects:
    def test_refer_to_one_another(self) -> None:
        found = saved_objects()
        there = {(one["type"], one["id"]) for one in found}
        assert len(there) == len(found)
        assert {kind for kind, _ in there} == {"index-pattern", "lens", "search", "dashboard"}
        for one in found:
            for reference in one["references"]:
                assert (reference["type"], reference["id"]) in there, one["id"]

    def test_the_dashboard_shows_all_of_them(self) -> None:
        found = saved_objects()
        (dashboard,) = (one for one in found if one["type"] == "dashboard")
        panels = json.loads(dashboard["attributes"]["panelsJSON"])
        named = {reference["name"]: reference["id"] for reference in dashboard["references"]}
        shown = {named[f"{panel['panelIndex']}:{panel['panelRefName']}"] for panel in panels}
        assert shown == {one["id"] for one in found if one["type"] in ("lens", "search")}

    def test_look_where_filebeat_writes_and_for_what_is_logged(self) -> None:
        filebeat = yaml.safe_load((FOLDER / "filebeat.yml").read_text("utf-8"))
        index = filebeat["output.elasticsearch"]["index"]
        (view,) = (one for one in saved_objects() if one["type"] == "index-pattern")
        assert re.fullmatch(view["attributes"]["title"].replace("*", ".*"), index)
        used = set(FIELD.findall((FOLDER / "kibana.ndjson").read_text("utf-8")))
        assert {"@timestamp", "log.level", "service.name", "orderstream.order_id"} <= used
        assert used - {"trace.id"} <= logged()  # Only where there is a trace.


class TestFilebeat:
    def test_has_no_password_and_reads_what_is_mounted(self) -> None:
        filebeat = yaml.safe_load((FOLDER / "filebeat.yml").read_text("utf-8"))
        assert filebeat["output.elasticsearch"]["password"] == "${ELASTIC_PASSWORD}"
        file = yaml.safe_load((TOP / ELK).read_text("utf-8"))["services"]["filebeat"]
        mounted = [volume.split(":") for volume in file["volumes"]]
        (source,) = filebeat["filebeat.inputs"]
        for path in source["paths"]:
            assert any(path.startswith(f"{there}/") for _, there, *_ in mounted), path
        for host, there, *how in mounted:
            if "/" in host:  # What is the user's is only read.
                assert how == ["ro"], there
        assert (TOP / "deploy/elk/filebeat.yml").exists()

    def test_the_images_are_of_one_version(self) -> None:
        found = yaml.safe_load((TOP / ELK).read_text("utf-8"))["services"]
        assert len({service["image"].partition(":")[2] for service in found.values()}) == 1


def test_what_is_written_of_it_is_there() -> None:
    page = (TOP / "docs" / "containers.md").read_text("utf-8")
    for path in re.findall(r"`((?:deploy/|docker-compose[.-])[\w./-]*)`", page):
        assert Path(TOP / path).exists(), path
