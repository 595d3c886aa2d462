"""The bulk route reads no more than it can have placed, and leaves nothing behind."""

import asyncio
import json
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from threading import Thread
from typing import Any, cast

import pytest

from orderstream.local.processes import free_port
from orderstream.orders import api_bulk
from orderstream.orders.api_bulk import BATCH, BATCHES_EACH, PATH, Bulk, bulk_routes
from orderstream.orders.desk import Accepted
from orderstream.orders.desk_bulk import BulkDesk, Outcome
from orderstream.orders.rules import Request
from orderstream.runtime import connection
from orderstream.runtime.keys import Keys, new_key
from orderstream.runtime.server import WebServer, run
from orderstream.runtime.web import web_app
from tests.bulk import Stream, body_of
from tests.ports import own_port
from tests.waiting import until

ORDER = {"userId": 42, "items": [{"sku": "ABC-001", "qty": 2}]}
LINE = body_of([ORDER])
STALL_S = 0.5
PLENTY = 64 << 20  # More than all sockets between two processes hold.
KEY, ENTRY = new_key("shop", "client")


class Desk:
    """Accepts everything, once it is let to."""

    def __init__(self) -> None:
        self.seen: list[Request] = []
        self.open = threading.Event()
        self.open.set()

    async def accept_all(self, requests: Sequence[Request], _trace: object) -> list[Outcome]:
        self.seen += requests
        while not self.open.is_set():
            await asyncio.sleep(0.01)
        if any(request.order_id == "broken" for request in requests):
            raise RuntimeError("broken")
        return [Accepted(number) for number, _ in enumerate(requests)]


class Served:
    def __init__(self, keys: Keys | None) -> None:
        self.desk = Desk()
        self.bulk = Bulk(cast("BulkDesk", self.desk), keys)
        app = web_app("orders", {}, keys=keys)
        app.include_router(bulk_routes(self.bulk))
        port = own_port()
        self.url = f"http://127.0.0.1:{port}"
        self.server = WebServer(app, "127.0.0.1", port, self.bulk.end)
        self.serving = Thread(target=run, args=(self.server.serve,))
        self.serving.start()
        until(lambda: free_port(port) != port, what="it listens")

    def stream(self, headers: str = "") -> Stream:
        return Stream(self.url, headers)

    def end(self) -> None:
        self.desk.open.set()
        self.server.stop()
        self.serving.join(10)
        assert not self.serving.is_alive()
        assert not self.bulk._reading
        assert not self.bulk._placing


@pytest.fixture
def served(request: pytest.FixtureRequest) -> Iterator[Served]:
    served = Served(getattr(request, "param", None))
    yield served
    served.end()


def read_all(stream: Stream, more: Callable[[], Any]) -> list[bytes]:
    """Return all answers, which are read while `more` sends."""
    found: list[bytes] = []
    reading = Thread(target=lambda: found.extend(stream.rest().splitlines()))
    reading.start()
    more()
    stream.send(b"")
    reading.join(60)
    return found


class TestTheWindow:
    def test_holds_so_many_orders_and_no_more_is_read(self, served: Served) -> None:
        served.desk.open.clear()
        with served.stream() as stream:
            pieces = stream.send_until_it_stalls(LINE * 1_000, PLENTY, STALL_S)
            assert pieces * 1_000 * len(LINE) < PLENTY
            assert len(served.desk.seen) <= BATCH * BATCHES_EACH
            served.desk.open.set()
            answers = read_all(stream, lambda: stream.finish_piece())
            assert len(answers) in (pieces * 1_000, (pieces + 1) * 1_000)
            assert len(served.desk.seen) == len(answers)

    def test_is_shut_by_a_client_that_does_not_read(self, served: Served) -> None:
        with served.stream() as stream:
            pieces = stream.send_until_it_stalls(LINE * 1_000, PLENTY, STALL_S)
            assert pieces * 1_000 * len(LINE) < PLENTY
            placed = len(served.desk.seen)
            answers = read_all(stream, lambda: stream.finish_piece())
            assert len(served.desk.seen) == len(answers) > placed


class TestAClient:
    def test_that_is_slow_and_alive_is_waited_for(
        self, served: Served, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(connection, "SILENCE_MAX_S", 0.05)
        with served.stream() as stream:
            for number in range(1, 4):
                stream.send(LINE)
                assert stream.answer()["line"] == number
                threading.Event().wait(1.2)  # Longer than the sweep takes to come round.
            stream.send(b"")
            assert stream.rest() == b""

    def test_that_waits_to_be_asked_for_the_body_is_asked(self, served: Served) -> None:
        with served.stream("Expect: 100-continue\r\n") as stream:
            assert stream.is_asked_to_send()
            stream.send(LINE)
            assert stream.answer()["status"] == 202

    def test_that_is_curl_sends_and_reads_any_length(self, served: Served, tmp_path: Path) -> None:
        curl = shutil.which("curl")
        if curl is None:
            pytest.skip("there is no curl")
        count = 100_000
        file = tmp_path / "orders.ndjson"
        file.write_bytes(LINE * count)
        for how in (["-T", str(file)], ["--data-binary", f"@{file}"]):
            words = [curl, "-sS", "--noproxy", "*", "-X", "POST", *how, served.url + PATH]
            done = subprocess.run(words, capture_output=True, timeout=60)
            assert (done.returncode, done.stderr) == (0, b"")
            lines = done.stdout.splitlines()
            assert [json.loads(line)["line"] for line in lines] == list(range(1, count + 1))

    def test_that_falls_silent_is_told_from_which_line_on(
        self, served: Served, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(api_bulk, "SILENCE_MAX_S", 0.1)
        with served.stream() as stream:
            stream.send(LINE * 2 + LINE[:10])
            assert [stream.answer()["status"] for _ in range(2)] == [202, 202]
            last = stream.answer()
            assert (last["line"], last["status"]) == (3, 408)
            assert stream.rest() == b""
        assert len(served.desk.seen) == 2

    def test_that_goes_leaves_nothing_behind(
        self, served: Served, caplog: pytest.LogCaptureFixture
    ) -> None:
        served.desk.open.clear()
        with served.stream() as stream:
            stream.send(LINE * 3 + LINE[:10])
            until(lambda: len(served.desk.seen) == 3, what="they are being placed")
        served.desk.open.set()
        until(lambda: not (served.bulk._reading or served.bulk._placing), what="all has ended")
        assert len(served.desk.seen) == 3
        assert not caplog.records

    def test_is_told_when_the_service_ends(self, served: Served) -> None:
        with served.stream() as stream:
            stream.send(LINE)
            assert stream.answer()["status"] == 202
            served.server.stop()
            last = stream.answer()
            assert (last["line"], last["status"]) == (2, 503)
            assert stream.rest() == b""

    def test_is_told_of_a_fault_of_ours_by_the_line(self, served: Served) -> None:
        broken = body_of([ORDER | {"orderId": "broken"}])
        with served.stream() as stream:
            stream.send(broken)
            assert stream.answer()["status"] == 500
            stream.send(LINE)
            assert stream.answer()["status"] == 202


@pytest.mark.parametrize("served", [Keys([ENTRY], 200)], indirect=True)
class TestAKey:
    def test_is_needed(self, served: Served) -> None:
        with pytest.raises(AssertionError), served.stream() as stream:
            stream.answer()

    def test_may_place_so_many_a_second_and_waits_for_its_turn(self, served: Served) -> None:
        with served.stream(f"X-API-Key: {KEY}\r\n") as stream:
            began = time.monotonic()
            stream.send(LINE * 300 + b"\n" * 1_000)
            answers = [stream.answer() for _ in range(300)]
        assert time.monotonic() - began > 0.4  # 200 at once, and 100 at 200 a second.
        assert {answer["status"] for answer in answers} == {202}
        assert {request.owner for request in served.desk.seen} == {"shop"}
