"""`orderstream schema` prints and writes what docs/schemas has."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from orderstream.cli import app as root
from orderstream.cli import commands
from orderstream.contract.events import EVENTS
from orderstream.runtime.settings import Settings
from tests.test_documented import DOCS

del commands  # Imported for its effect: it registers every subcommand.

KEPT = {path.name: path.read_text("utf-8") for path in (DOCS / "schemas").glob("*.json")}
OF_EVENTS = {name for name in KEPT if name != "asyncapi.json"}


@pytest.fixture(autouse=True)
def _nothing_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for field in Settings.model_fields.values():
        monkeypatch.delenv(str(field.validation_alias), raising=False)
    monkeypatch.chdir(tmp_path)


def run(*arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(root.app, ["schema", *arguments])
    assert result.exit_code == code, result.output
    return result.output


class TestPrinted:
    @pytest.mark.parametrize("arguments", [(), ("--format", "asyncapi")])
    def test_is_asyncapi_unless_asked_otherwise(self, arguments: tuple[str, ...]) -> None:
        assert run(*arguments) == KEPT["asyncapi.json"]

    @pytest.mark.parametrize("event", ["order.created", "OrderCreated"])
    @pytest.mark.parametrize("more", [(), ("--format", "jsonschema")])
    def test_is_the_schema_of_an_event_by_either_name(
        self, event: str, more: tuple[str, ...]
    ) -> None:
        assert run(event, *more) == KEPT["order.created.v1.json"]

    def test_are_the_schemas_of_all_events_one_a_line(self) -> None:
        printed = [json.loads(line) for line in run("--format", "jsonschema").splitlines()]
        assert [one["title"] for one in printed] == [kind.__name__ for kind in EVENTS.values()]

    def test_has_the_names_that_are_set(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("ORDERSTREAM_TOPIC_ORDER_CREATED", "orders")
        assert json.loads(run())["channels"]["order.created"]["address"] == "orders"

    @pytest.mark.parametrize(
        "arguments", [("order.nix",), ("order.created", "--format", "asyncapi"), ("--format", "x")]
    )
    def test_is_nothing_when_it_is_called_wrongly(self, arguments: tuple[str, ...]) -> None:
        assert "Usage:" in run(*arguments, code=2)


class TestWritten:
    @pytest.mark.parametrize(
        ("arguments", "files"),
        [
            ((), set(KEPT)),
            (("--format", "asyncapi"), {"asyncapi.json"}),
            (("--format", "jsonschema"), OF_EVENTS),
            (("order.created",), {"order.created.v1.json"}),
        ],
    )
    def test_are_the_files_of_what_is_asked_for(
        self, arguments: tuple[str, ...], files: set[str], tmp_path: Path
    ) -> None:
        folder = tmp_path / "new" / "contract"
        said = run(*arguments, "--out", str(folder))
        found = {path.name: path.read_text("utf-8") for path in folder.iterdir()}
        assert found == {name: KEPT[name] for name in files}
        assert set(said.split()) == {str(folder / name) for name in files}

    def test_are_none_where_there_can_be_no_folder(self, tmp_path: Path) -> None:
        (tmp_path / "taken").touch()
        assert "exists" in run("--out", str(tmp_path / "taken"), code=2)
