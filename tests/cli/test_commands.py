"""Every command explains itself, starts fast, and ends with the exit code that it promises."""

import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from orderstream.cli import app as root
from orderstream.cli import commands, notify
from orderstream.notification import rules
from orderstream.runtime.settings import Settings

del commands  # Imported for its effect: it registers every subcommand.

HEAVY = ("httpx", "confluent_kafka", "psycopg", "fastapi", "uvicorn")


def every_command() -> Iterator[tuple[str, ...]]:
    """Yield each command by its words, groups of commands included."""

    def below(command: Any, words: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
        yield words
        children: Mapping[str, Any] = getattr(command, "commands", {})
        for name, child in children.items():
            yield from below(child, (*words, name))

    yield from below(typer.main.get_command(root.app), ())


@pytest.fixture
def no_servers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An environment where nothing runs; returns the order service's address."""
    for field in Settings.model_fields.values():
        monkeypatch.delenv(str(field.validation_alias), raising=False)
    monkeypatch.setenv("ORDERSTREAM_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]  # Free again when the block ends.
    monkeypatch.setenv("ORDERSTREAM_PORT_ORDER", str(port))
    return f"http://127.0.0.1:{port}"


def run_main(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> tuple[int, str]:
    """Run the command as its user does; return the exit code and what it says of its failure."""
    monkeypatch.setattr("sys.argv", ["orderstream", *arguments])
    with pytest.raises(SystemExit) as ended:
        root.main()
    code = ended.value.code
    assert isinstance(code, int)
    return code, capsys.readouterr().err


class TestHelp:
    @pytest.mark.parametrize("words", list(every_command()), ids=" ".join)
    def test_every_command_says_what_happens(self, words: tuple[str, ...]) -> None:
        result = CliRunner().invoke(root.app, [*words, "--help"])
        assert result.exit_code == 0
        assert "Usage:" in result.stdout

    def test_nothing_heavy_is_imported_for_it(self) -> None:
        code = (
            "import sys; import orderstream.cli.commands;"
            f"print([name for name in {HEAVY!r} if name in sys.modules])"
        )
        result = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        )
        assert result.stdout.strip() == "[]"

    @pytest.mark.usefixtures("no_servers")
    def test_an_http_command_does_not_import_the_services(self) -> None:
        code = (
            "import sys, orderstream.cli.app as root; sys.argv[1:] = ['order', 'get', 'x']\n"
            "try: root.main()\n"
            "except SystemExit: pass\n"
            "heavy = ('orderstream.wiring', 'confluent_kafka', 'psycopg', 'fastapi', 'uvicorn')\n"
            "print([name for name in heavy if name in sys.modules], 'httpx' in sys.modules)"
        )
        result = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        )
        assert result.stdout.strip() == "[] True"


class TestErrorLines:
    @pytest.mark.usefixtures("no_servers")
    def test_each_fault_is_one_line_as_it_is(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setenv("COLUMNS", "40")
        monkeypatch.setenv("ORDERSTREAM_HOST", "[red]:smile:")
        monkeypatch.setenv("ORDERSTREAM_NOTIFY", "pigeon")
        code, said = run_main(["config"], monkeypatch, capsys)
        lines = said.splitlines()
        assert (code, len(lines)) == (2, 2)
        assert lines[0].startswith("orderstream: ORDERSTREAM_HOST: [red]:smile: is open to the")
        assert lines[1].startswith("orderstream: ORDERSTREAM_NOTIFY: number 1 is neither")


class TestExitCodes:
    def test_1_when_the_service_does_not_run(
        self,
        no_servers: str,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        code, said = run_main(["order", "get", "5"], monkeypatch, capsys)
        assert code == 1
        assert f"does not answer at {no_servers}: start it with `orderstream up`" in said

    @pytest.mark.parametrize(
        "arguments",
        [
            ["order", "create"],
            ["order", "create", "--user", "1", "--item", "MUG"],
            ["order", "create", "--user", "1", "--item", "MUG=1", "--key", "é"],
            ["order", "list", "--from", "yesterday"],
            ["stock", "set", "MUG", "-1"],
            ["stock", "import", "no-such-file.csv"],
            ["produce", "t", "--key", "k", "--key-separator", ":"],
            ["consume", "t", "--from", "yesterday"],
            ["consume", "t", "--max", "0"],
        ],
        ids=" ".join,
    )
    @pytest.mark.usefixtures("no_servers")
    def test_2_when_it_is_called_wrongly(self, arguments: list[str]) -> None:
        assert CliRunner().invoke(root.app, arguments).exit_code == 2

    @pytest.mark.parametrize(
        "arguments",
        [["topics", "list"], ["produce", "t"], ["consume", "t"], ["lag"]],
        ids=" ".join,
    )
    @pytest.mark.usefixtures("no_servers")
    def test_2_and_what_to_do_when_no_kafka_is_known(
        self,
        arguments: list[str],
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        code, said = run_main(arguments, monkeypatch, capsys)
        assert code == 2
        assert "start it with `orderstream up`" in said


class TestNamesThatTheCommandLineHasOfItsOwn:
    """Importing them from where they are would make every command slower to begin."""

    def test_are_those_of_notification(self) -> None:
        assert [one.value for one in notify.Status] == [one.value for one in rules.State]
        assert [one.value for one in notify.Event] == [one.value for one in rules.Kind]
