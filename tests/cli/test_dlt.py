"""`dlt` on a real broker."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from orderstream.cli import commands
from orderstream.cli.app import app
from orderstream.contract.errors import OrderstreamError
from orderstream.runtime.settings import Settings
from tests.conftest import SettingsOf
from tests.kafka.test_redrive import springs
from tests.kafka.topics import create, keys, put, read

del commands  # Imported for its effect: it registers every subcommand.


@pytest.fixture
def settings(settings_of: SettingsOf, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Settings:
    """Three dead letters, and an environment that leads to them."""
    settings = create(settings_of())
    for name, field in Settings.model_fields.items():
        if name.startswith(("topic_", "kafka_bootstrap", "kafka_group")):
            monkeypatch.setenv(str(field.validation_alias), str(getattr(settings, name)))
    monkeypatch.chdir(tmp_path)
    put(settings, *(springs(settings, number) for number in (1, 2, 3)))
    return settings


def run(*arguments: str, typed: str = "", exit_code: int = 0) -> Result:
    result = CliRunner().invoke(app, ["dlt", *arguments], input=typed)
    assert result.exit_code == exit_code, (result.output, result.exception)
    return result


def listed(*arguments: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in run("list", "--json", *arguments).stdout.splitlines()]


def place(order: str) -> str:
    (found,) = listed("--order", order, "--handled")
    return found["place"]


def put_back(settings: Settings) -> list[str]:
    return keys(read(settings, settings.topics.order_created))


class TestList:
    def test_shows_who_gave_up_on_what_and_why(self, settings: Settings) -> None:
        found = {entry["order"]: entry for entry in listed()}
        assert sorted(found) == ["1", "2", "3"]
        assert found["1"]["origin"]["topic"] == settings.topics.order_created
        assert found["1"]["origin"]["offset"] == 3
        assert (found["1"]["reason"], found["1"]["handled"]) == ("boom", None)
        assert "IllegalStateException: boom" in run("list").stdout

    @pytest.mark.usefixtures("settings")
    def test_counts_by_reason(self) -> None:
        (line,) = run("list", "--reasons", "--json").stdout.splitlines()
        assert (json.loads(line)["number"], json.loads(line)["reason"]) == (3, "boom")

    @pytest.mark.usefixtures("settings")
    def test_filters(self) -> None:
        assert len(listed("--reason", "BOOM", "--from", "2020-01-01")) == 3
        assert listed("--group", "nobody") == listed("--to-time", "2020-01-01") == []
        run("list", "--from", "yesterday", exit_code=2)

    @pytest.mark.usefixtures("settings")
    def test_of_a_topic_that_is_not_there_says_so(self) -> None:
        assert isinstance(run("list", "--topic", "x", exit_code=1).exception, OrderstreamError)


class TestShow:
    @pytest.mark.usefixtures("settings")
    def test_has_payload_and_decoded_headers(self) -> None:
        shown = run("show", place("2")).stdout
        assert '"orderId": 2' in shown
        assert "kafka_dlt-original-offset" in shown
        whole = json.loads(run("show", place("2"), "--json").stdout)
        assert {"name": "kafka_dlt-original-offset", "value": 3} in whole["headers"]

    @pytest.mark.usefixtures("settings")
    def test_of_no_place_is_a_wrong_call(self) -> None:
        run("show", "here", exit_code=2)


class TestRedrive:
    def test_of_one_is_done_once(self, settings: Settings) -> None:
        where = place("1")
        assert run("redrive", where).stdout == "1 redriven\n"
        assert run("redrive", where).stdout == "0 redriven, 1 had been handled before\n"
        assert put_back(settings) == ["1"]
        assert listed("--order", "1") == []

    def test_of_many_asks_once(self, settings: Settings) -> None:
        run("redrive", "--all", typed="n\n", exit_code=1)
        assert put_back(settings) == []
        run("redrive", "--all", typed="y\n")
        assert put_back(settings) == ["1", "2", "3"]

    def test_dry_does_nothing(self, settings: Settings) -> None:
        assert run("redrive", "--all", "--dry-run").stdout == "would redrive 3 dead letters\n"
        assert put_back(settings) == []

    def test_of_a_changed_part(self, settings: Settings) -> None:
        run("redrive", "--order", "2", "--set", "items[0].sku=MUG", "--set", "items[0].qty=2")
        (record,) = read(settings, settings.topics.order_created)
        assert record.value() == b'{"orderId":2,"items":[{"sku":"MUG","qty":2}]}'

    def test_of_what_a_person_edits(
        self, settings: Settings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("EDITOR", "sed -i s/FAIL/MUG/")
        monkeypatch.delenv("VISUAL", raising=False)
        run("redrive", place("3"), "--edit")
        (record,) = read(settings, settings.topics.order_created)
        assert record.value() == b'{"orderId":3,"items":[{"sku":"MUG","qty":1}]}'

    def test_without_a_destination_fails_and_names_it(self, settings: Settings) -> None:
        put(settings, springs(settings, 4)._replace(headers=[]))
        error = run("redrive", "--all", "--yes", exit_code=1).exception
        assert "--to TOPIC" in str(error)
        run("redrive", "--all", "--to", settings.topics.order_created)
        assert put_back(settings) == ["1", "2", "3", "4"]

    @pytest.mark.usefixtures("settings")
    @pytest.mark.parametrize(
        "arguments",
        [
            [],
            ["--all", "--order", "1"],
            ["here"],
            ["--all", "--value", "x"],
            ["--order", "9", "--value", "x"],
            ["--order", "1", "--set", "items[7].sku=1"],
        ],
    )
    def test_called_wrongly_does_nothing(self, arguments: list[str]) -> None:
        run("redrive", *arguments, exit_code=2)
        assert len(listed()) == 3


class TestDiscard:
    def test_leaves_it_marked_where_it_is(self, settings: Settings) -> None:
        run("discard", "--order", "1", "--note", "a test")
        assert len(listed()) == 2
        (found,) = listed("--order", "1", "--handled")
        assert (found["handled"]["action"], found["handled"]["note"]) == ("discarded", "a test")
        run("redrive", "--all", "--yes")
        assert put_back(settings) == ["2", "3"]

    def test_needs_a_reason(self) -> None:
        run("discard", "--all", exit_code=2)
