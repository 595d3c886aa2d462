"""Requests are counted by route and status, and timed until their answer begins."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from starlette.responses import StreamingResponse

from orderstream.runtime.timings import TIMINGS, Timings
from orderstream.runtime.web import web_app
from tests.routes.asking import ask

SOME = {"method": "GET", "uri": "/x", "status": "200", "outcome": "SUCCESS"}


def samples(timings: Timings, **labels: str) -> dict[str, float]:
    """Return the samples with these labels, by name and `le`."""
    return {
        sample.name.removeprefix("http_server_requests_seconds_")
        + sample.labels.get("le", ""): sample.value
        for family in timings.collect()
        for sample in family.samples
        if labels.items() <= sample.labels.items()
    }


def counted(**labels: str) -> float:
    return samples(TIMINGS, **labels).get("count", 0)


class TestTimings:
    def test_are_a_cumulative_histogram(self) -> None:
        timings = Timings()
        for seconds in (0.0005, 0.001, 0.0011, 0.3, 60):
            timings.observe("GET", "/x", 200, seconds)
        found = samples(timings, **SOME)
        assert found["bucket0.001"] == 2  # Its bound belongs to a bucket.
        assert found["bucket0.0025"] == 3
        assert found["bucket0.5"] == 4
        assert found["bucket10.0"] == 4
        assert found["bucket+Inf"] == found["count"] == 5
        assert found["sum"] == pytest.approx(60.3026)

    @pytest.mark.parametrize(
        ("status", "outcome"), [(202, "SUCCESS"), (404, "CLIENT_ERROR"), (503, "SERVER_ERROR")]
    )
    def test_say_whose_fault_it_was(self, status: int, outcome: str) -> None:
        timings = Timings()
        timings.observe("GET", "/x", status, 0.1)
        assert samples(timings, status=str(status), outcome=outcome)["count"] == 1


class TestRoutes:
    @pytest.fixture
    def app(self) -> FastAPI:
        app = web_app("tests", {})

        @app.get("/timed/{name}")
        def named(name: str) -> str:  # pyright: ignore[reportUnusedFunction]
            return name

        @app.get("/timed-fault")
        def fault() -> None:  # pyright: ignore[reportUnusedFunction]
            raise ValueError("of ours")

        @app.get("/timed-stream")
        def stream() -> StreamingResponse:  # pyright: ignore[reportUnusedFunction]
            async def parts() -> AsyncIterator[bytes]:
                yield b"one"
                assert counted(uri="/timed-stream") == 1  # It is under way, and counted.
                yield b"two"

            return StreamingResponse(parts())

        return app

    def test_are_counted_by_their_pattern_not_by_what_was_asked(self, app: FastAPI) -> None:
        before = counted(uri="/timed/{name}", status="200")
        ask(app, "GET", "/timed/a")
        ask(app, "GET", "/timed/b")
        assert counted(uri="/timed/{name}", status="200") == before + 2

    def test_that_nobody_has_are_one(self, app: FastAPI) -> None:
        before = counted(uri="UNKNOWN", status="404")
        ask(app, "GET", "/nowhere/1")
        ask(app, "GET", "/nowhere/2")
        assert counted(uri="UNKNOWN", status="404") == before + 2

    def test_that_fail_are_a_500(self, app: FastAPI) -> None:
        async def send() -> int:
            transport: Any = httpx.ASGITransport(app, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
                return (await http.get("/timed-fault")).status_code

        assert asyncio.run(send()) == 500
        assert counted(uri="/timed-fault", status="500", outcome="SERVER_ERROR") == 1

    def test_that_stream_are_counted_when_they_begin(self, app: FastAPI) -> None:
        assert ask(app, "GET", "/timed-stream").text == "onetwo"

    def test_are_told_to_prometheus(self, app: FastAPI) -> None:
        ask(app, "GET", "/timed/a")
        said = ask(app, "GET", "/metrics").text
        assert 'http_server_requests_seconds_bucket{le="0.001",method="GET",' in said
        assert "# TYPE http_server_requests_seconds histogram" in said
        assert "process_cpu_seconds_total" in said
