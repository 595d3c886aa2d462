"""`prune`: what age it takes, and that it asks."""

from datetime import timedelta
from typing import Any

import pytest
from typer.testing import CliRunner

from orderstream.cli import commands, settings
from orderstream.cli.app import app
from orderstream.cli.prune import age_of
from orderstream.retention import prune
from orderstream.retention.prune import Pruned

del commands  # Imported for its effect: it registers every subcommand.


class TestAnAge:
    @pytest.mark.parametrize(
        ("text", "age"), [("24h", timedelta(days=1)), ("90d", timedelta(days=90))]
    )
    def test_is_a_number_of_hours_or_days(self, text: str, age: timedelta) -> None:
        assert age_of(text) == age

    @pytest.mark.parametrize("text", ["", "90", "23h", "0d", "-2d", "1w", "1.5d", "123456d"])
    def test_of_less_than_a_day_or_that_is_none_is_refused_with_what_to_write(
        self, text: str
    ) -> None:
        answer = CliRunner().invoke(app, ["prune", "--yes", f"--older-than={text}"])
        assert answer.exit_code == 2
        assert "--older-than" in answer.output


class TestTheCommand:
    @pytest.fixture
    def asked(self, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
        asked: list[dict[str, Any]] = []

        def note(*_: object, dry_run: bool, progress: Any) -> Pruned:
            asked.append({"dry_run": dry_run})
            progress(3)
            return Pruned("2026-08-23T12:00:00.000Z", 3, 1, not dry_run, 0.1)

        monkeypatch.setattr(prune, "prune", note)
        monkeypatch.setattr(settings, "load_resolved", lambda: None)
        return asked

    def test_asks_first_and_takes_no_for_an_answer(self, asked: list[dict[str, Any]]) -> None:
        answer = CliRunner().invoke(app, ["prune", "--older-than", "90d"], input="n\n")
        assert (answer.exit_code, asked) == (1, [])

    def test_says_what_it_did(self, asked: list[dict[str, Any]]) -> None:
        answer = CliRunner().invoke(app, ["prune", "--older-than", "90d", "--yes"])
        assert "3 orders and 1 claims forgotten" in answer.output
        assert asked == [{"dry_run": False}]

    def test_tries_without_asking(self, asked: list[dict[str, Any]]) -> None:
        answer = CliRunner().invoke(app, ["prune", "--older-than", "90d", "--dry-run"])
        assert "3 orders would be forgotten" in answer.output
        assert asked == [{"dry_run": True}]
