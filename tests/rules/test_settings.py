"""Settings from names and values: what is wrong is listed at once, and by name."""

import pytest

from orderstream.contract.errors import ConfigurationError
from orderstream.runtime.settings import Settings


def faults(**given: str) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        Settings.load(given)
    return sorted(caught.value.faults)


def names(**given: str) -> list[str]:
    """Return the settings that are said to be wrong."""
    return [fault.partition(":")[0] for fault in faults(**given)]


class TestLoad:
    def test_nothing_set_is_right(self) -> None:
        assert Settings.load({}).port("order") == 8080

    def test_an_empty_value_is_not_set(self) -> None:
        assert Settings.load({"ORDERSTREAM_PORT_ORDER": ""}).port_order == 8080

    def test_an_empty_drill_is_no_drill(self) -> None:
        assert Settings.load({"ORDERSTREAM_DRILL_SKU": ""}).drill_sku == ""

    def test_what_it_does_not_know_is_not_its_business(self) -> None:
        Settings.load({"PATH": "/bin", "ORDERSTREAM_CACHE": "x"})

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("ORDERSTREAM_PORT_ORDER", "0"),
            ("ORDERSTREAM_PORT_ORDER", "65536"),
            ("ORDERSTREAM_PORT_KAFKA", "http"),
            ("ORDERSTREAM_PARTITIONS", "0"),
            ("ORDERSTREAM_PARTITIONS", "1001"),
            ("ORDERSTREAM_TOPIC_ORDER_CREATED", "a b"),
            ("ORDERSTREAM_DEAD_LETTER_SUFFIX", "/"),
            ("ORDERSTREAM_RETRY_ATTEMPTS", "-1"),
            ("ORDERSTREAM_RETRY_BACKOFF", "0"),
            ("ORDERSTREAM_BATCH_RECORDS", "10001"),
            ("ORDERSTREAM_DATABASE_POOL", "1"),
            ("ORDERSTREAM_WORKER", "-1"),
            ("ORDERSTREAM_LOG_LEVEL", "LOUD"),
            ("KAFKA_AUTO_OFFSET_RESET", "middle"),
            ("KAFKA_SECURITY_PROTOCOL", "TLS"),
            ("KAFKA_SASL_MECHANISM", "MAGIC"),
            ("ORDERSTREAM_NOTIFY", "pigeon"),
            ("ORDERSTREAM_HOST", "0.0.0.0"),
            ("ORDERSTREAM_REPLICATION", "0"),
            ("ORDERSTREAM_SERVICES_AT", "http://shop:8080"),
            ("ORDERSTREAM_SERVICES_AT", "{service}:{port}"),
            ("ORDERSTREAM_SERVICES_AT", "http://{host}:{port}"),
            ("ORDERSTREAM_SERVICES_AT", "http://{service}:{port"),
            ("REDIS_URL", "localhost:6379"),
            ("REDIS_URL", "http://localhost:6379"),
            ("REDIS_URL", "redis://"),
            ("REDIS_URL", "redis://localhost:http/0"),
            ("REDIS_URL", "redis://[::1/0"),
        ],
    )
    def test_a_wrong_value_is_said_once_and_by_name(self, name: str, value: str) -> None:
        assert names(**{name: value}) == [name]

    def test_every_wrong_value_is_listed_at_once(self) -> None:
        given = {
            "ORDERSTREAM_PORT_ORDER": "x",
            "ORDERSTREAM_PARTITIONS": "0",
            "ORDERSTREAM_NOTIFY": "pigeon",
            "ORDERSTREAM_HOST": "0.0.0.0",
            "KAFKA_AUTO_OFFSET_RESET": "middle",
        }
        assert names(**given) == sorted(given)

    def test_a_wrong_value_is_not_also_a_missing_or_a_doubled_one(self) -> None:
        given = {
            "KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
            "KAFKA_SASL_MECHANISM": "MAGIC",
            "KAFKA_SASL_USERNAME": "u",
            "KAFKA_SASL_PASSWORD": "p",
            "ORDERSTREAM_PORT_ORDER": "x",
            "ORDERSTREAM_PORT_INVENTORY": "8080",
        }
        assert names(**given) == ["KAFKA_SASL_MECHANISM", "ORDERSTREAM_PORT_ORDER"]

    def test_a_secret_is_not_repeated_in_a_fault(self) -> None:
        said = faults(KAFKA_SECURITY_PROTOCOL="SASL_SSL", KAFKA_SASL_PASSWORD="hunter2")
        assert "hunter2" not in str(said)

    @pytest.mark.parametrize("mark", "/?#")
    def test_a_password_that_is_not_escaped_is_a_fault_that_does_not_repeat_it(
        self, mark: str
    ) -> None:
        said = faults(REDIS_URL=f"redis://:hun{mark}ter2@localhost:6379/0")
        assert "%2F" in str(said)
        assert "hun" not in str(said)

    @pytest.mark.parametrize(
        "url",
        [
            "redis://localhost",
            "redis://:hun%2Fter2@[::1]:6379/0",
            "rediss://shop:x@redis.example:6380/1?ssl_cert_reqs=required",
            "unix:///run/redis.sock?db=1",
        ],
    )
    def test_addresses_of_redis(self, url: str) -> None:
        assert Settings.load({"REDIS_URL": url}).redis_url is not None


class TestAddress:
    def test_is_here_when_nothing_is_set(self) -> None:
        keys = {"ORDERSTREAM_API_KEYS": f"desk:operator:{'0' * 64}"}
        everywhere = Settings.load({"ORDERSTREAM_HOST": "0.0.0.0", **keys})
        assert everywhere.address("inventory") == "http://127.0.0.1:8082"

    def test_is_each_services_own_among_containers(self) -> None:
        given = {"ORDERSTREAM_SERVICES_AT": "http://shop-{service}:{port}"}
        assert Settings.load(given).address("inventory") == "http://shop-inventory:8082"


class TestContradictions:
    def test_one_port_for_two_services(self) -> None:
        (said,) = faults(ORDERSTREAM_PORT_ORDER="9000", ORDERSTREAM_PORT_VIEW="9000")
        assert said == "ORDERSTREAM_PORT_...: 9000 is given to more than one service"

    @pytest.mark.parametrize(
        "given",
        [
            {"ORDERSTREAM_TOPIC_INVENTORY_RESERVED": "order.created"},
            {"ORDERSTREAM_TOPIC_INVENTORY_RESERVED": "order.created.DLT"},
            {"ORDERSTREAM_DEAD_LETTER_SUFFIX": ".retry"},
        ],
    )
    def test_one_name_for_two_topics(self, given: dict[str, str]) -> None:
        assert faults(**given) == ["ORDERSTREAM_TOPIC_...: two topics have the same name"]

    def test_sasl_needs_a_mechanism_a_name_and_a_password(self) -> None:
        assert names(KAFKA_SECURITY_PROTOCOL="SASL_PLAINTEXT") == [
            "KAFKA_SASL_MECHANISM",
            "KAFKA_SASL_PASSWORD",
            "KAFKA_SASL_USERNAME",
        ]


class TestKafka:
    def test_only_what_is_set_is_told_to_the_client(self) -> None:
        settings = Settings.load({"KAFKA_BOOTSTRAP_SERVERS": "k:1"})
        assert settings.kafka(acks="all") == {
            "bootstrap.servers": "k:1",
            "security.protocol": "PLAINTEXT",
            "acks": "all",
        }

    def test_without_a_server_it_is_a_configuration_fault(self) -> None:
        with pytest.raises(ConfigurationError, match="KAFKA_BOOTSTRAP_SERVERS"):
            Settings.load({}).kafka()

    def test_a_secret_is_shown_to_the_client_only(self) -> None:
        settings = Settings.load(
            {"KAFKA_BOOTSTRAP_SERVERS": "k:1", "KAFKA_SASL_PASSWORD": "hunter2"}
        )
        assert settings.kafka()["sasl.password"] == "hunter2"
        assert "hunter2" not in repr(settings)
