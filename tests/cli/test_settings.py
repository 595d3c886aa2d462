"""Where settings come from: the environment, then `.env`, then the defaults."""

from pathlib import Path

import pytest

from orderstream.cli import settings
from orderstream.contract.errors import ConfigurationError
from orderstream.runtime.settings import Settings

SERVERS = {"KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1", "DATABASE_URL": "postgresql:///shop"}


@pytest.fixture(autouse=True)
def _nothing_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for field in Settings.model_fields.values():
        monkeypatch.delenv(str(field.validation_alias), raising=False)
    monkeypatch.setenv("ORDERSTREAM_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)


class TestSource:
    @pytest.mark.parametrize(
        ("environment", "file", "in_force", "source"),
        [
            (None, None, "orderstream", "default"),
            (None, "", "orderstream", "default"),
            ("", "", "orderstream", "default"),
            (None, "f", "f", ".env"),
            ("", "f", "f", ".env"),
            ("e", "f", "e", "environment"),
            ("e", None, "e", "environment"),
        ],
    )
    def test_empty_is_not_set(
        self,
        environment: str | None,
        file: str | None,
        in_force: str,
        source: str,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        give("KAFKA_GROUP_ID", environment, file, monkeypatch)
        assert settings.load().kafka_group_id == in_force
        assert settings.source_of("KAFKA_GROUP_ID") == source

    @pytest.mark.parametrize(
        ("environment", "file", "in_force", "source"),
        [
            (None, None, "FAIL", "default"),
            (None, "", "", ".env"),
            ("", None, "", "environment"),
            ("", "f", "", "environment"),
            ("e", "", "e", "environment"),
        ],
    )
    def test_an_empty_drill_sku_means_no_drill(
        self,
        environment: str | None,
        file: str | None,
        in_force: str,
        source: str,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        give("ORDERSTREAM_DRILL_SKU", environment, file, monkeypatch)
        assert settings.load().drill_sku == in_force
        assert settings.source_of("ORDERSTREAM_DRILL_SKU") == source

    def test_a_name_without_a_value_in_the_file_sets_nothing(self) -> None:
        Path(".env").write_text("ORDERSTREAM_DRILL_SKU\n")
        assert settings.load().drill_sku == "FAIL"
        assert settings.source_of("ORDERSTREAM_DRILL_SKU") == "default"


def give(
    name: str, environment: str | None, file: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Set a variable in the environment, in `.env`, in both or in neither."""
    if environment is not None:
        monkeypatch.setenv(name, environment)
    if file is not None:
        Path(".env").write_text(f"{name}={file}\n")


class TestLoadResolved:
    def test_names_every_server_that_is_missing(self) -> None:
        with pytest.raises(ConfigurationError) as missing:
            settings.load_resolved()
        assert [fault.split()[0] for fault in missing.value.faults] == ["Kafka", "PostgreSQL"]

    @pytest.mark.parametrize(("kafka", "database"), [(True, False), (False, True), (False, False)])
    def test_needs_no_server_that_is_not_asked_for(
        self, kafka: bool, database: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked = {"KAFKA_BOOTSTRAP_SERVERS": kafka, "DATABASE_URL": database}
        for name, value in SERVERS.items():
            if asked[name]:
                monkeypatch.setenv(name, value)
        found = settings.load_resolved(kafka=kafka, database=database)
        assert (found.kafka_bootstrap_servers is not None) == kafka
        assert (found.database_url is not None) == database


class TestAddress:
    @pytest.mark.parametrize(
        ("host", "address"),
        [
            ("127.0.0.1", "http://127.0.0.1:9000"),
            ("localhost", "http://localhost:9000"),
            ("::1", "http://[::1]:9000"),
        ],
    )
    def test_an_ipv6_host_is_in_brackets(self, host: str, address: str) -> None:
        given = {"ORDERSTREAM_HOST": host, "ORDERSTREAM_PORT_INVENTORY": "9000"}
        current = Settings.load(given)
        assert current.port("inventory") == 9000
        assert current.address("inventory") == address
