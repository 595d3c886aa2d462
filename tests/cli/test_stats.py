"""`stats`: what is asked of analytics, and how it is drawn."""

import json
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from orderstream.cli import commands, stats
from orderstream.cli.app import app
from orderstream.cli.output import Api
from orderstream.contract.errors import Unavailable
from tests.cli.test_output import an_api
from tests.ports import own_port

del commands  # Imported for its effect: it registers every subcommand.

OUTCOMES = {"CONFIRMED": 3, "REJECTED": 1, "FAILED": 0}
ANSWERS: dict[str, Any] = {
    "summary": {
        "orders": 4,
        "pending": 2,
        "outcomes": OUTCOMES,
        "decisionLatencyMs": {"p50": 4.0, "p99": None},
    },
    "timeseries": {
        "hours": [
            {"hour": "a", "accepted": 1, "outcomes": OUTCOMES},
            {"hour": "b", "accepted": 5, "outcomes": OUTCOMES | {"CONFIRMED": 0}},
        ]
    },
    "latency": {"hours": [{"hour": "a", "orders": 1, "p50": 4.0, "p90": 4.0, "p99": 8.0}]},
    "skus": {"skus": [{"sku": "MU\x1bG", "sold": 3, "lost": 1, "sellThrough": 0.75}]},
}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[httpx.URL]:
    """What is asked of the analytics service."""
    requests: list[httpx.URL] = []

    def answer(request: httpx.Request) -> httpx.Response:
        requests.append(request.url)
        return httpx.Response(200, json=ANSWERS[request.url.path.rpartition("/")[2]])

    @contextmanager
    def api_of(*_: object) -> Generator[Api]:
        yield an_api(answer)

    monkeypatch.setattr(stats, "api_of", api_of)
    return requests


class TestStats:
    def test_prints_sums_lines_and_skus(self, asked: list[httpx.URL]) -> None:
        result = CliRunner().invoke(app, ["stats", "--unit", "hour"])
        assert result.exit_code == 0, result.output
        lines = result.stdout.splitlines()
        assert "pending          2" in lines
        assert "accepted   ▂█                     5" in lines
        assert "confirmed  █▁                     0" in lines
        assert "MU\\x1bG     3     1  75.0%" in lines
        assert [line for line in lines if line.startswith("failed")] == ["failed           0"]
        assert {url.params["zone"] for url in asked} == {"UTC"}

    def test_asks_for_the_range_that_is_wanted(self, asked: list[httpx.URL]) -> None:
        words = ["--from", "2026-11-21", "--to", "2026-11-22", "--zone", "Europe/Berlin"]
        result = CliRunner().invoke(app, ["stats", "--unit", "hour", "--json", *words])
        assert result.exit_code == 0
        assert json.loads(result.stdout)["summary"] == ANSWERS["summary"]
        for url in asked:
            assert (url.params["from"], url.params["to"]) == ("2026-11-21", "2026-11-22")
            assert url.params["zone"] == "Europe/Berlin"

    def test_says_that_the_service_is_away(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("ORDERSTREAM_PORT_ANALYTICS", str(own_port()))
        result = CliRunner().invoke(app, ["stats"])
        assert isinstance(result.exception, Unavailable)
        assert "the analytics service does not answer" in str(result.exception)


class TestSparkline:
    @pytest.mark.parametrize(
        ("values", "drawn"),
        [([], ""), ([0, 0], "▁▁"), ([0, 7, 3.5], "▁█▅"), ([None, 1], " █"), ([-3, 1], "▁█")],
    )
    def test_is_drawn_up_to_the_greatest(self, values: list[float | None], drawn: str) -> None:
        assert stats.sparkline(values) == drawn
