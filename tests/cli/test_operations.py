"""`lag`, `flow` and `config`: what can be known without a server."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from orderstream.cli import commands, operations
from orderstream.cli.app import app
from orderstream.contract.errors import ConfigurationError
from orderstream.flow import flow
from orderstream.runtime.admin import Lag
from orderstream.runtime.settings import Settings

del commands  # Imported for its effect: it registers every subcommand.

SECRETS = {
    "DATABASE_URL": "postgresql://ann:s3cret-d@127.0.0.1:1/shop?sslpassword=s3cret-s",
    "KAFKA_SASL_PASSWORD": "s3cret-k",
    "KAFKA_SSL_KEY_PASSWORD": "s3cret-l",
}


@pytest.fixture
def nothing_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment without settings, servers or `.env`."""
    for field in Settings.model_fields.values():
        monkeypatch.delenv(str(field.validation_alias), raising=False)
    monkeypatch.setenv("ORDERSTREAM_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)


class TestLagRows:
    LAGS = (
        (
            "view",
            (
                Lag("g", "a", 0, 5, 9),
                Lag("g", "a", 1, None, 3),
                Lag("g", "b", 0, 2, 2),
            ),
        ),
    )

    def test_sums_the_partitions_of_a_topic(self) -> None:
        assert operations.lag_rows(self.LAGS, by_partition=False) == [
            {"service": "view", "topic": "a", "partitions": 2, "behind": 4 + 3},
            {"service": "view", "topic": "b", "partitions": 1, "behind": 0},
        ]

    def test_shows_each_partition_when_asked(self) -> None:
        rows = operations.lag_rows(self.LAGS, by_partition=True)
        assert [(row["topic"], row["partition"], row["behind"]) for row in rows] == [
            ("a", 0, 4),
            ("a", 1, 3),
            ("b", 0, 0),
        ]
        assert rows[1]["committed"] is None


@pytest.mark.usefixtures("nothing_set")
class TestFlow:
    def test_prints_every_topic_and_service(self) -> None:
        settings = Settings.load({})
        result = CliRunner().invoke(app, ["flow"])
        assert result.exit_code == 0
        for name in (*settings.topics.all(), *(step.service for step in flow(settings.topics))):
            assert name in result.stdout

    def test_uses_the_names_in_force(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("ORDERSTREAM_TOPIC_ORDER_CREATED", "my-orders")
        result = CliRunner().invoke(app, ["flow", "--json"])
        first = json.loads(result.stdout.splitlines()[0])
        assert first["writes"] == ["my-orders", "order.cancelled", "order.fulfilled"]


@pytest.mark.usefixtures("nothing_set")
class TestConfig:
    @pytest.mark.parametrize("arguments", [["config"], ["config", "--json"]])
    def test_never_shows_a_secret(
        self, arguments: list[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name, value in SECRETS.items():
            monkeypatch.setenv(name, value)
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == 0
        assert "s3cret" not in result.output
        assert "******" in result.output
        assert "127.0.0.1" in result.output

    def test_says_where_each_value_comes_from(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("ORDERSTREAM_PORT_ORDER", "9000")
        Path(".env").write_text("ORDERSTREAM_PARTITIONS=6\n")
        result = CliRunner().invoke(app, ["config", "--json"])
        rows = {row["name"]: row for row in map(json.loads, result.stdout.splitlines())}
        assert len(rows) == len(Settings.model_fields)
        assert (rows["ORDERSTREAM_PORT_ORDER"]["value"]) == "9000"
        assert (rows["ORDERSTREAM_PORT_ORDER"]["source"]) == "environment"
        assert (rows["ORDERSTREAM_PARTITIONS"]["value"]) == "6"
        assert (rows["ORDERSTREAM_PARTITIONS"]["source"]) == ".env"
        assert (rows["KAFKA_BOOTSTRAP_SERVERS"]["value"]) is None
        assert (rows["KAFKA_GROUP_ID"]["source"]) == "default"
        assert all(row["meaning"] for row in rows.values())

    def test_a_wrong_setting_is_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("ORDERSTREAM_PARTITIONS", "none")
        result = CliRunner().invoke(app, ["config"])
        assert isinstance(result.exception, ConfigurationError)
        assert "ORDERSTREAM_PARTITIONS" in str(result.exception)


class TestDatabaseText:
    @pytest.mark.parametrize(
        ("dsn", "shown"),
        [
            ("postgresql://ann@db:5433/shop", "user=ann dbname=shop host=db port=5433"),
            ("postgresql://ann:x@db/shop", "user=ann dbname=shop host=db password=******"),
            ("host=db password=x options='-c a=x'", "host=db password=******"),
            ("postgresql:///shop?host=/run/pg&sslkey=x", "dbname=shop host=/run/pg"),
            ("not a database, x", "******"),
        ],
    )
    def test_names_the_database_without_its_secrets(self, dsn: str, shown: str) -> None:
        text = operations.database_text(dsn)
        assert sorted(text.split()) == sorted(shown.split())
