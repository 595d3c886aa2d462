"""Kafka by password and certificate, PostgreSQL by TLS: every client gets in, and none without."""

import time
from contextlib import closing
from pathlib import Path

import pytest

from orderstream.console.cluster import Cluster
from orderstream.contract.errors import ConfigurationError, Unavailable
from orderstream.runtime.admin import Admin, Reach
from orderstream.runtime.database import Database
from orderstream.runtime.log_reader import LogReader
from orderstream.runtime.migrations import pending
from orderstream.runtime.settings import Settings
from orderstream.wiring.setup import migrations
from tests.builders import an_order
from tests.conftest import own_settings
from tests.kafka.topics import create, put, read
from tests.security import brokers, databases
from tests.security.brokers import SecureKafka
from tests.security.certificates import Certificates
from tests.security.running import run

LISTENERS = ["scram", "plain", "bare", "mutual"]


class TestKafka:
    @pytest.mark.parametrize("listener", LISTENERS)
    def test_is_written_and_read(self, secure_kafka: SecureKafka, listener: str) -> None:
        settings = create(own_settings("", "", **secure_kafka.settings(listener)))
        put(settings, an_order(("MUG", 1)))
        assert len(read(settings, settings.topics.order_created)) == 1
        Reach(settings.kafka()).check()
        with closing(Cluster(settings.kafka())) as cluster:
            assert sum(cluster.sizes([settings.topics.order_created]).values()) > 0

    def test_knows_sha_512_too(self, secure_kafka: SecureKafka) -> None:
        given = secure_kafka.settings("scram", KAFKA_SASL_MECHANISM="SCRAM-SHA-512")
        assert Admin(Settings.load(given).kafka()).brokers()

    @pytest.mark.parametrize(
        ("listener", "name", "value", "said"),
        [
            ("scram", "KAFKA_SASL_PASSWORD", "wrong-password-83", "KAFKA_SASL_PASSWORD"),
            ("bare", "KAFKA_SASL_USERNAME", "nobody", "KAFKA_SASL_USERNAME"),
            ("scram", "KAFKA_SSL_CA_LOCATION", "foreign", "KAFKA_SSL_"),
            ("bare", "KAFKA_SECURITY_PROTOCOL", "SASL_SSL", "KAFKA_SECURITY_PROTOCOL"),
        ],
    )
    def test_that_does_not_let_us_in_is_told_from_one_that_is_away(
        self,
        secure_kafka: SecureKafka,
        certificates: Certificates,
        listener: str,
        name: str,
        value: str,
        said: str,
    ) -> None:
        value = str(certificates.foreign_authority) if value == "foreign" else value
        config = Settings.load(secure_kafka.settings(listener, **{name: value})).kafka()
        began = time.monotonic()
        with pytest.raises(Unavailable) as caught:
            Admin(config).brokers()
        with pytest.raises(Unavailable, match="does not let us in"):
            Reach(config).check()
        with pytest.raises(Unavailable, match="does not let us in"):
            LogReader(config, "test").partitions(["order.created"])
        assert (
            time.monotonic() - began < 15
        )  # Of three that ask; a second each, on a machine that is not busy.
        assert "does not let us in" in str(caught.value)
        assert said in str(caught.value)
        assert brokers.PASSWORD not in str(caught.value)
        assert "wrong-password" not in str(caught.value)

    def test_that_wants_a_certificate_gets_no_other(self, secure_kafka: SecureKafka) -> None:
        without = secure_kafka.settings("mutual")
        for name in ("CERTIFICATE_LOCATION", "KEY_LOCATION", "KEY_PASSWORD"):
            del without[f"KAFKA_SSL_{name}"]
        with pytest.raises(Unavailable):
            Admin(Settings.load(without).kafka()).brokers()

    def test_a_key_that_cannot_be_opened_stops_the_start(self, secure_kafka: SecureKafka) -> None:
        given = secure_kafka.settings("mutual", KAFKA_SSL_KEY_PASSWORD="wrong-password-83")
        with pytest.raises(ConfigurationError) as caught:
            Admin(Settings.load(given).kafka())
        assert "wrong-password" not in str(caught.value)

    def test_a_file_that_is_not_there_is_a_wrong_setting(self, secure_kafka: SecureKafka) -> None:
        given = secure_kafka.settings("scram", KAFKA_SSL_CA_LOCATION="/nowhere/ca.pem")
        with pytest.raises(ConfigurationError, match="KAFKA_SSL_CA_LOCATION: there is no"):
            Settings.load(given)


class TestPostgres:
    def test_is_reached_by_tls_alone(self, secure_dsn: str) -> None:
        database = Database(secure_dsn, "orders", 2, 1.0)
        plain = Database(f"{secure_dsn} sslmode=disable", "orders", 2, 1.0)
        try:
            pending(secure_dsn, migrations())
            with pytest.raises(Unavailable) as caught:
                plain.ping()
            assert databases.PASSWORD not in str(caught.value)
        finally:
            database.close()
            plain.close()

    def test_of_a_foreign_authority_is_refused(
        self, secure_dsn: str, certificates: Certificates
    ) -> None:
        foreign = f"{secure_dsn} sslrootcert={certificates.foreign_authority}"
        database = Database(foreign, "orders", 2, 1.0)
        try:
            with pytest.raises(Unavailable):
                database.ping()
            with pytest.raises(Unavailable, match="certificate"):
                pending(foreign, migrations())
        finally:
            database.close()


def test_a_shell_is_given_a_psql_that_knows_tls(secure_dsn: str, tmp_path: Path) -> None:
    ours = tmp_path / "psql"
    ours.write_text('#!/bin/sh\necho "$PGPASSWORD" "$@"\n')
    ours.chmod(0o755)
    given = {"DATABASE_URL": secure_dsn, "PATH": str(tmp_path)}
    said = run(given, "db", "shell", "-A", folder=tmp_path).stdout
    assert said.startswith(f"{databases.PASSWORD} ")
    assert said.count(databases.PASSWORD) == 1  # In the environment, not among the arguments.
    assert "sslmode=verify-full" in said
    without = run(given | {"PATH": "/nowhere"}, "db", "shell", folder=tmp_path)
    assert without.returncode == 2
    assert "install psql" in without.stderr
