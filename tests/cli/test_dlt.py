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

    @pytest.mark.parametrize(
        "value",
        [b"\x1b[2Jgone", b'{"a":"\\u202e\\u009b31m"}', b'{"a":"\\ud800"}', b"\x9b\xff", None],
    )
    def test_writes_no_payload_that_could_act_on_the_terminal(
        self, settings: Settings, value: bytes | None
    ) -> None:
        put(settings, springs(settings, 4)._replace(value=value))
        shown = run("show", place("4")).stdout
        assert not {"\x1b", "\x9b", "\u202e", "\ud800"} & set(shown)
        assert shown.encode()

    def test_says_what_was_done_with_it(self, settings: Settings) -> None:
        run("redrive", place("1"), "--set", "items[0].sku=MUG", "--note", "mended")
        shown = run("show", place("1")).stdout
        assert f" to {settings.topics.order_created}, changed" in shown
        assert "mended" in shown

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

    def test_dry_counts_what_is_open_once_and_names_what_has_nowhere_to_go(
        self, settings: Settings
    ) -> None:
        run("redrive", place("1"))
        put(settings, springs(settings, 4)._replace(headers=[]))
        said = json.loads(
            run("redrive", place("1"), place("2"), place("2"), "--dry-run", "--json").stdout
        )
        assert said == {"redrive": 0, "would": 1, "before": 1, "nowhere": []}
        dry = run("redrive", "--all", "--dry-run", exit_code=1)
        assert dry.stdout == "would redrive 2 dead letters\n"
        assert "--to TOPIC" in str(dry.exception)
        run("redrive", "--all", "--to", "no-such-topic", "--dry-run", exit_code=1)
        assert put_back(settings) == ["1"]

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

    @pytest.mark.parametrize("editor", ["true", "sed -i -e '$a\\'"])
    def test_of_what_is_saved_unchanged_is_the_same_bytes(
        self, settings: Settings, monkeypatch: pytest.MonkeyPatch, editor: str
    ) -> None:
        monkeypatch.setenv("VISUAL", editor)
        before = springs(settings, 4)
        spaced = b'{ "orderId":4, "items":[{"sku":"FAIL","qty":1.0}] }'
        put(settings, before._replace(value=spaced))
        run("redrive", "--order", "4", "--edit")
        (record,) = read(settings, settings.topics.order_created)
        assert record.value() == spaced
        assert json.loads(run("show", place("4"), "--json").stdout)["handled"].get("edited") is None

    @pytest.mark.usefixtures("settings")
    @pytest.mark.parametrize("editor", ["false", "no-such-editor", "sed 'x"])
    def test_with_an_editor_that_fails_does_nothing(
        self, monkeypatch: pytest.MonkeyPatch, editor: str
    ) -> None:
        monkeypatch.setenv("VISUAL", editor)
        error = run("redrive", place("3"), "--edit", exit_code=1).exception
        assert "nothing was done" in str(error)
        assert len(listed()) == 3

    def test_of_bytes_that_are_no_text_cannot_be_edited(
        self, settings: Settings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("VISUAL", "true")
        for number, value in ((4, b"\xff\x00"), (5, b'"\\ud800"')):
            put(settings, springs(settings, number)._replace(value=value, key=b"%d" % number))
            run("redrive", "--order", str(number), "--edit", exit_code=2)
        assert put_back(settings) == []

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
