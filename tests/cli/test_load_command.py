"""`orderstream load` as a user runs it: options, exit codes, `--json`, and the stock beforehand."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from orderstream.cli import commands, load
from orderstream.cli.app import app
from orderstream.cli.output import Api
from orderstream.inventory.api import read_csv
from orderstream.runtime.settings import Settings
from tests.cli.load_server import Reply, Server, accepted, answer, server, try_again
from tests.cli.test_output import an_api
from tests.waiting import until

del commands  # Imported for its effect: it registers every subcommand.

COMMAND = (sys.executable, "-m", "orderstream", "load", "--json")


def run(to: Server, *options: str) -> tuple[int, dict[str, Any]]:
    """Run the command to its end; return its exit code and report."""
    words = [*COMMAND, "--url", to.url, *options]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


class TestAccepted:
    def test_answers_are_added_to_a_file_one_a_line(self, tmp_path: Path) -> None:
        file = tmp_path / "accepted"
        with server() as to:
            for _ in range(2):
                code, _report = run(to, "--orders", "20", "--accepted", str(file))
                assert code == 0
        lines = file.read_text().splitlines()
        assert len(lines) == 40
        assert all("orderId" in json.loads(line) for line in lines)


class TestReport:
    def test_has_this_shape(self) -> None:
        with server() as to:
            code, report = run(to, "--orders", "50", "--connections", "4", "--skus", "5")
            sent = {seen.order["items"][0]["sku"] for seen in to.seen}
        assert code == 0
        assert sent == {f"LOAD-000{n}" for n in range(1, 6)}
        percentiles = {"p50", "p90", "p99", "p99.9", "max"}
        for latency in ("latencyMs", "answerMs"):
            assert report.pop(latency).keys() == percentiles
        for measured in ("seconds", "acceptedPerSecond", "cpuMicrosecondsPerOrder"):
            assert report.pop(measured) > 0
        assert report == {
            "accepted": 50,
            "notPlaced": {"refused": 0, "unknown": 0, "givenUp": 0, "unsent": 0},
            "rate": None,
            "connections": 4,
            "answers": {"202": 50},
            "retries": 0,
            "connectionsLost": 0,
            "connectsFailed": 0,
            "firstTrouble": None,
        }

    def test_for_people_says_the_same(self) -> None:
        def script(seen: Any) -> Reply:
            return [answer(422, {"detail": "no"}), try_again(), Reply(end=True), accepted(seen)][
                min(seen.number, 3)
            ]

        with server(script) as to:
            words = [*COMMAND[:-1], "--url", to.url, "--orders", "1000", "--rate", "2000"]
            done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
        lines = dict(line.split("  ", 1) for line in done.stdout.splitlines() if "  " in line)
        assert done.returncode == 1
        assert lines["accepted"].strip().startswith("998 orders in ")
        assert lines["answers"].strip() == "998 x 202, 1 x 422, 1 x 503"
        assert lines["tried again"].strip() == "1"
        assert lines["not placed"].strip() == (
            "2: 1 refused, 1 of unknown outcome, 0 given up, 0 not sent in time"
        )
        assert lines["connections lost"].strip() == "1"
        assert lines["first trouble"].strip() == '422 {"detail": "no"}'
        assert len(lines["to the 202"].split()) == len(lines["from sending"].split()) == 5


class TestExitCode:
    def test_is_1_when_an_order_could_not_be_placed(self) -> None:
        script = lambda seen: answer(422, {}) if seen.number == 3 else accepted(seen)  # noqa: E731
        with server(script) as to:
            code, report = run(to, "--orders", "20")
        assert (code, report["accepted"], report["notPlaced"]["refused"]) == (1, 19, 1)

    def test_is_0_when_it_was_placed_in_the_end(self) -> None:
        script = lambda seen: try_again() if seen.number == 3 else accepted(seen)  # noqa: E731
        with server(script) as to:
            code, report = run(to, "--orders", "20")
        assert (code, report["accepted"], report["retries"]) == (0, 20, 1)

    def test_after_so_many_seconds_is_0(self) -> None:
        with server() as to:
            code, report = run(
                to, "--seconds", "0.3", "--rate", "100", "--sku", "a,b", "--quantity=2"
            )
            assert to.seen[0].order["items"] == [{"sku": "a,b", "qty": 2}]
        assert (code, report["notPlaced"]["refused"], report["rate"]) == (0, 0, 100.0)

    def test_is_1_and_one_line_when_nobody_is_there(self) -> None:
        with server() as to:
            pass
        words = [*COMMAND, "--url", to.url]
        done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.startswith(f"orderstream: 127.0.0.1:{to.port} does not take 64 conn")
        assert len(done.stderr.splitlines()) == 1

    @pytest.mark.parametrize(
        "url",
        [
            "127.0.0.1:8080",
            "https://127.0.0.1:8080",
            "http://",
            "http://host:0",
            "http://host:70000",
            "http://host:port",
            "http://[::1",
            "http://host/a b",
            "http://host/\r\nX: y",
            "http://name:password@host",
        ],
    )
    def test_is_2_for_an_address_that_is_none(self, url: str) -> None:
        result = CliRunner().invoke(app, ["load", "--url", url])
        assert result.exit_code == 2
        assert "write http://HOST:PORT" in " ".join(result.stderr.replace("│", "").split())

    @pytest.mark.parametrize("option", ["--orders=0", "--rate=0", "--rate=inf", "--skus=10000"])
    def test_is_2_for_a_number_out_of_range(self, option: str) -> None:
        assert CliRunner().invoke(app, ["load", option]).exit_code == 2


class TestCtrlC:
    @contextmanager
    def interrupted(self, to: Server) -> Generator[subprocess.Popen[str]]:
        """Give a load that has been interrupted once 10 orders had come."""
        process = subprocess.Popen(
            [*COMMAND, "--url", to.url, "--orders", "1000000"],
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            until(lambda: len(to.seen) >= 10, what="orders come")
            os.kill(process.pid, signal.SIGINT)
            yield process
        finally:
            process.kill()
            process.communicate()

    def test_ends_it_softly_with_a_report_and_130(self) -> None:
        slow = lambda seen: replace(accepted(seen), after_s=0.05)  # noqa: E731
        with server(slow) as to, self.interrupted(to) as process:
            report = json.loads(process.communicate(timeout=30)[0])
            assert process.returncode == 130
            assert report["accepted"] == len(to.seen)
            assert sum(report["notPlaced"].values()) == 0

    def test_twice_ends_it_at_once(self) -> None:
        silent = lambda _: Reply()  # noqa: E731
        with server(silent) as to, self.interrupted(to) as process:
            os.kill(process.pid, signal.SIGTERM)  # Not merged with the first, as SIGINT could be.
            report = json.loads(process.communicate(timeout=30)[0])
            assert process.returncode == 130
            assert (report["accepted"], report["notPlaced"]["unknown"]) == (0, 64)


# Before and after the run ----------------------------------------------------------------------

Answer = Callable[[httpx.Request], httpx.Response]


def give_api(monkeypatch: pytest.MonkeyPatch, module: Any, answer: Answer) -> None:
    @contextmanager
    def api_of(*_: object) -> Generator[Api]:
        yield an_api(answer)

    monkeypatch.setattr(module, "api_of", api_of)


class TestFillShelves:
    @pytest.fixture
    def imported(self, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
        """What is stocked, on shelves with little of LOAD-0002, plenty of LOAD-0003 and LOW."""
        levels = {
            "LOAD-0002": {"sku": "LOAD-0002", "reserved": 7, "available": 3},
            "LOAD-0003": {"sku": "LOAD-0003", "reserved": 0, "available": load.PLENTY},
            "LOW": {"sku": "LOW", "reserved": 0, "available": 1},
        }
        stocked: list[tuple[str, int]] = []

        def answer(request: httpx.Request) -> httpx.Response:
            if request.method == "POST":
                stocked.extend(read_csv(request.content))
                return httpx.Response(200, json={"imported": len(stocked)})
            if request.url.path == "/api/stock":
                after = request.url.params["after"]
                later = [levels[sku] for sku in sorted(levels) if sku > after]
                more = later[0]["sku"] if len(later) > 1 else None
                return httpx.Response(200, json={"stock": later[:1], "nextAfter": more})
            found = levels.get(request.url.path.removeprefix("/api/stock/"))
            return httpx.Response(200 if found else 404, json=found or {"detail": "unknown"})

        give_api(monkeypatch, load, answer)
        return stocked

    def test_stocks_what_is_new_or_low(self, imported: list[tuple[str, int]]) -> None:
        names = [f"LOAD-000{n}" for n in range(1, 5)]
        load.fill_shelves(Settings.load({}), names, refill=True)
        assert imported == [
            ("LOAD-0001", load.PLENTY),
            ("LOAD-0002", load.PLENTY + 7),
            ("LOAD-0004", load.PLENTY),
        ]

    @pytest.mark.parametrize("sku", ["a,b", 'say "x"', "sku", "..", "ü"])
    def test_stocks_a_sku_of_any_characters(
        self, imported: list[tuple[str, int]], sku: str
    ) -> None:
        load.fill_shelves(Settings.load({}), [sku], refill=False)
        assert imported == [(sku, load.PLENTY)]

    def test_leaves_a_given_sku_that_is_stocked_as_it_is(
        self, imported: list[tuple[str, int]]
    ) -> None:
        load.fill_shelves(Settings.load({}), ["LOW"], refill=False)
        assert imported == []
