"""Every setting, its default and its meaning; `orderstream config` prints this list."""

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

import platformdirs
from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError

from orderstream.contract.errors import ConfigurationError
from orderstream.contract.formats import OrderFormat, StatusFormat
from orderstream.contract.topics import Topics
from orderstream.runtime.channels import Named, read_named
from orderstream.runtime.keys import Keys, parse_keys
from orderstream.runtime.setting_faults import contradictions
from orderstream.runtime.setting_values import (
    Email,
    Locale,
    Phone,
    Port,
    TopicName,
    Waits,
    parts_of_dsn,
    seconds_of,
)
from orderstream.runtime.topic_settings import Wanted, wanted

_REACHED_AT = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # What listens everywhere, from here.

_MAY_BE_EMPTY = frozenset({"ORDERSTREAM_DRILL_SKU"})  # Here empty means something: no drill.


def is_set(name: str, value: str | None) -> bool:
    """Tell whether a variable sets its setting; an empty one does not, with few exceptions."""
    return bool(value) or (value is not None and name in _MAY_BE_EMPTY)


def _set(name: str, default: Any, meaning: str, **limits: Any) -> Any:
    return Field(default, validation_alias=name, description=meaning, **limits)


class Settings(BaseModel):
    """The settings in force, each read from the environment variable that its alias names."""

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)

    preset: str | None = _set(
        "ORDERSTREAM_PRESET", None, "settings of a topology, by the name of their file in presets"
    )
    home: Path = _set(
        "ORDERSTREAM_HOME",
        Path(platformdirs.user_data_dir("orderstream", appauthor=False)),
        "folder for the local Kafka, the local PostgreSQL and logs",
    )
    host: str = _set("ORDERSTREAM_HOST", "127.0.0.1", "address that the services listen on")
    port_order: Port = _set("ORDERSTREAM_PORT_ORDER", 8080, "port of the order service")
    port_inventory: Port = _set("ORDERSTREAM_PORT_INVENTORY", 8082, "port of inventory")
    port_notification: Port = _set("ORDERSTREAM_PORT_NOTIFICATION", 8083, "port of notification")
    port_analytics: Port = _set("ORDERSTREAM_PORT_ANALYTICS", 8084, "port of analytics")
    port_view: Port = _set("ORDERSTREAM_PORT_VIEW", 8086, "port of the order view's health")
    port_console: Port = _set("ORDERSTREAM_PORT_CONSOLE", 8085, "port of the console")
    port_kafka: Port = _set("ORDERSTREAM_PORT_KAFKA", 9092, "port of the local Kafka")
    services_at: str | None = _set(
        "ORDERSTREAM_SERVICES_AT",
        None,
        "where services reach one another, such as `http://{service}:{port}`; not set: here",
    )

    kafka_bootstrap_servers: str | None = _set(
        "KAFKA_BOOTSTRAP_SERVERS", None, "Kafka to use; not set: a local one"
    )
    kafka_group_id: str = _set(
        "KAFKA_GROUP_ID", "orderstream", "prefix of consumer groups and transactional ids"
    )
    kafka_auto_offset_reset: Literal["earliest", "latest"] = _set(
        "KAFKA_AUTO_OFFSET_RESET", "earliest", "where a new consumer group starts"
    )
    kafka_security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = _set(
        "KAFKA_SECURITY_PROTOCOL", "PLAINTEXT", "how to talk to Kafka"
    )
    kafka_sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] | None = _set(
        "KAFKA_SASL_MECHANISM", None, "how to sign in to Kafka"
    )
    kafka_sasl_username: str | None = _set("KAFKA_SASL_USERNAME", None, "user name for Kafka")
    kafka_sasl_password: SecretStr | None = _set("KAFKA_SASL_PASSWORD", None, "password for Kafka")
    kafka_ssl_ca_location: Path | None = _set(
        "KAFKA_SSL_CA_LOCATION", None, "file of the certificate authorities that Kafka may use"
    )
    kafka_ssl_certificate_location: Path | None = _set(
        "KAFKA_SSL_CERTIFICATE_LOCATION", None, "file of our certificate for Kafka"
    )
    kafka_ssl_key_location: Path | None = _set(
        "KAFKA_SSL_KEY_LOCATION", None, "file of our certificate's private key"
    )
    kafka_ssl_key_password: SecretStr | None = _set(
        "KAFKA_SSL_KEY_PASSWORD", None, "password of that private key"
    )
    partitions: int = _set(
        "ORDERSTREAM_PARTITIONS", 4, "partitions of a topic that is created", ge=1, le=1000
    )
    replication: int | None = _set(
        "ORDERSTREAM_REPLICATION",
        None,
        "copies of a topic that is created, from 3 on 2 must confirm; not set: 3 if there are as"
        " many brokers",
        ge=1,
        le=9,
    )
    topic_settings: str = _set(
        "ORDERSTREAM_TOPIC_SETTINGS",
        "",
        "settings of topics, as `TOPIC:NAME=VALUE` with blanks between them: NAME is Kafka's, or"
        " `partitions`, and `*` is every topic; for those that are created, and `topics configure`",
    )
    topic_order_created: TopicName = _set(
        "ORDERSTREAM_TOPIC_ORDER_CREATED", "order.created", "topic of accepted orders"
    )
    topic_order_created_retry: TopicName = _set(
        "ORDERSTREAM_TOPIC_ORDER_CREATED_RETRY",
        "order.created.retry",
        "topic of orders that are tried again",
    )
    topic_inventory_reserved: TopicName = _set(
        "ORDERSTREAM_TOPIC_INVENTORY_RESERVED", "inventory.reserved", "topic of reserved orders"
    )
    topic_inventory_rejected: TopicName = _set(
        "ORDERSTREAM_TOPIC_INVENTORY_REJECTED", "inventory.rejected", "topic of rejected orders"
    )
    topic_order_cancelled: TopicName = _set(
        "ORDERSTREAM_TOPIC_ORDER_CANCELLED", "order.cancelled", "topic of cancelled orders"
    )
    topic_order_fulfilled: TopicName = _set(
        "ORDERSTREAM_TOPIC_ORDER_FULFILLED", "order.fulfilled", "topic of fulfilled orders"
    )
    topic_inventory_released: TopicName = _set(
        "ORDERSTREAM_TOPIC_INVENTORY_RELEASED",
        "inventory.released",
        "topic of orders whose stock is free again",
    )
    dead_letter_suffix: TopicName = _set(
        "ORDERSTREAM_DEAD_LETTER_SUFFIX", ".DLT", "what a dead letter topic's name ends in"
    )
    topic_dead_letters_handled: TopicName = _set(
        "ORDERSTREAM_TOPIC_DEAD_LETTERS_HANDLED",
        "dead-letters.handled",
        "topic that says which dead letters were redriven or discarded",
    )

    order_format: OrderFormat = _set(
        "ORDERSTREAM_ORDER_FORMAT",
        "orderstream",
        "how orders are written to their topic; with any but ours, all of these are read",
    )
    topic_order_status: TopicName | None = _set(
        "ORDERSTREAM_TOPIC_ORDER_STATUS",
        None,
        "topic of each order's status for programs of others; not set: none",
    )
    status_format: StatusFormat = _set(
        "ORDERSTREAM_STATUS_FORMAT", "snake", "how it is written: order_id, orderId or OrderId"
    )

    topic_audit: TopicName = _set(
        "ORDERSTREAM_TOPIC_AUDIT", "console.audit", "topic of what was done in the console, by whom"
    )

    database_url: SecretStr | None = _set(
        "DATABASE_URL", None, "PostgreSQL 15 or newer to use; not set: a local one"
    )
    database_pool: int = _set(
        "ORDERSTREAM_DATABASE_POOL", 4, "database connections of one service", ge=2, le=100
    )

    redis_url: SecretStr | None = _set(
        "REDIS_URL", None, "Redis that spares work, and is never relied on; not set: none"
    )
    fast_reject: bool = _set(
        "ORDERSTREAM_FAST_REJECT", False, "refuse orders at once whose goods are gone; needs Redis"
    )

    worker: int = _set(
        "ORDERSTREAM_WORKER", 0, "number of this worker among those of its service", ge=0, le=999
    )
    batch_records: int = _set(
        "ORDERSTREAM_BATCH_RECORDS",
        8000,
        "records handled in one transaction; analytics takes twice as many",
        ge=1,
        le=10_000,
    )
    retry_attempts: int = _set(
        "ORDERSTREAM_RETRY_ATTEMPTS", 2, "tries after the first before a dead letter", ge=0, le=10
    )
    retry_backoff_s: float = _set(
        "ORDERSTREAM_RETRY_BACKOFF", 1.0, "seconds between tries", ge=0.01, le=3600
    )
    reservation_ttl_s: float | None = _set(
        "ORDERSTREAM_RESERVATION_TTL",
        None,
        "seconds until a reservation that is not fulfilled expires; not set: never",
        gt=0,
    )
    drill_sku: str = _set(
        "ORDERSTREAM_DRILL_SKU", "FAIL", "SKU that makes inventory fail; empty: none"
    )
    in_flight_max: int = _set(
        "ORDERSTREAM_IN_FLIGHT_MAX", 1024, "orders being accepted at once; more get 503", ge=1
    )
    api_keys: SecretStr | None = _set(
        "ORDERSTREAM_API_KEYS",
        None,
        "who may use the services: `name:role:hash`, comma-separated; not set: all on this machine",
    )
    api_key: SecretStr | None = _set(
        "ORDERSTREAM_API_KEY", None, "key that this command sends to the services"
    )
    rate_limit: float | None = _set(
        "ORDERSTREAM_RATE_LIMIT",
        None,
        "orders per second that each key may place; more get 429; not set: no limit",
        gt=0,
    )
    notify: SecretStr = _set(
        "ORDERSTREAM_NOTIFY",
        SecretStr("log"),
        "how customers are told, comma-separated: `log`, and addresses of Apprise",
    )
    notify_received: bool = _set(
        "ORDERSTREAM_NOTIFY_RECEIVED", False, "tell customers that their order has come in, too"
    )
    notify_email: Email | None = _set(
        "ORDERSTREAM_NOTIFY_EMAIL", None, "where mail goes of orders that name no e-mail address"
    )
    notify_phone: Phone | None = _set(
        "ORDERSTREAM_NOTIFY_PHONE", None, "where texts go of orders that name no phone number"
    )
    notify_locale: Locale = _set(
        "ORDERSTREAM_NOTIFY_LOCALE", "en", "language for those who named none: en, tr, ru, ko, ..."
    )
    notify_at_once: int = _set(
        "ORDERSTREAM_NOTIFY_AT_ONCE", 8, "messages that one channel sends at once", ge=1, le=100
    )
    notify_rate: float | None = _set(
        "ORDERSTREAM_NOTIFY_RATE",
        None,
        "messages per second of each channel and worker; not set: no limit",
        gt=0,
    )
    notify_retries: Waits = _set(
        "ORDERSTREAM_NOTIFY_RETRIES",
        "5,300,1800,7200,18000,36000,50400,72000,86400",
        "seconds between the tries of a message, comma-separated; after the last it is given up",
    )
    templates: Path | None = _set(
        "ORDERSTREAM_TEMPLATES", None, "folder of templates that come before those that ship"
    )
    webhook_urls: SecretStr | None = _set(
        "ORDERSTREAM_WEBHOOK_URLS", None, "where signed webhooks go, comma-separated"
    )
    webhook_secret: SecretStr | None = _set(
        "ORDERSTREAM_WEBHOOK_SECRET",
        None,
        "`whsec_...`, what webhooks are signed with; two, comma-separated, while one is replaced",
    )
    webhook_allow_private: bool = _set(
        "ORDERSTREAM_WEBHOOK_ALLOW_PRIVATE", False, "let webhooks go to addresses of private nets"
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = _set(
        "ORDERSTREAM_LOG_LEVEL", "INFO", "least level that is logged"
    )
    log_repeats: int = _set(
        "ORDERSTREAM_LOG_REPEATS",
        60,
        "how often a minute the same is logged before it is only counted; 0: without end",
        ge=0,
    )

    traces_exporter: Literal["none", "otlp"] = _set(
        "OTEL_TRACES_EXPORTER", "none", "`otlp`: export traces; needs `orderstream[otel]`"
    )
    otel_sdk_disabled: bool = _set("OTEL_SDK_DISABLED", False, "no traces, whatever else is set")
    otel_traces_sampler: str = _set(
        "OTEL_TRACES_SAMPLER",
        "parentbased_always_on",
        "which traces are recorded: `always_on`, `always_off`, `traceidratio`, or one of them with"
        " `parentbased_` before it",
    )
    otel_traces_sampler_arg: str | None = _set(
        "OTEL_TRACES_SAMPLER_ARG", None, "the ratio of `traceidratio`, 0 to 1; not set: 1"
    )
    otel_service_name: str | None = _set(
        "OTEL_SERVICE_NAME", None, "name of the service in traces; not set: `orderstream-order` ..."
    )
    otel_resource_attributes: str | None = _set(
        "OTEL_RESOURCE_ATTRIBUTES", None, "what else is said of it: `deployment.environment=eu,...`"
    )
    otel_endpoint: str | None = _set(
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        None,
        "collector that traces go to, over HTTP; not set: http://localhost:4318",
    )
    otel_headers: SecretStr | None = _set(
        "OTEL_EXPORTER_OTLP_HEADERS", None, "headers for the collector: `authorization=...`"
    )

    @classmethod
    def load(cls, mapping: Mapping[str, str]) -> "Settings":
        """Read the settings from environment-like names; an empty value counts as not set.

        Raises ConfigurationError listing every setting that is wrong, not just the first.
        """
        given = {name: value for name, value in mapping.items() if is_set(name, value)}
        wrong: dict[str, str] = {}
        try:
            settings = cls.model_validate(given)
        except ValidationError as error:
            wrong = {str(e["loc"][0]): e["msg"] for e in error.errors()}
            # With defaults in their place the others can be looked at too.
            settings = cls.model_validate({n: v for n, v in given.items() if n not in wrong})
        faults = [f"{name}: {message}" for name, message in wrong.items()]
        for fault in contradictions(settings):
            about = fault.partition(":")[0]
            alike = about.removesuffix("...")
            its_own = [n for n in wrong if n == about or (alike != about and n.startswith(alike))]
            if not its_own:  # Else it may be the default's.
                faults.append(fault)
        if faults:
            raise ConfigurationError(*faults)
        return settings

    @property
    def topics(self) -> Topics:
        """The topics by the names set here."""
        return Topics(
            self.topic_order_created,
            self.topic_order_created_retry,
            self.topic_inventory_reserved,
            self.topic_inventory_rejected,
            self.topic_order_cancelled,
            self.topic_order_fulfilled,
            self.topic_inventory_released,
            self.dead_letter_suffix,
            self.topic_dead_letters_handled,
            self.order_format,
            self.topic_order_status,
            self.status_format,
        )

    @property
    def traces(self) -> bool:
        """Whether traces are exported."""
        return self.traces_exporter == "otlp" and not self.otel_sdk_disabled

    @property
    def traces_ratio(self) -> float | None:
        """How many of the traces that begin here are recorded; None where that is no ratio."""
        try:
            ratio = float(self.otel_traces_sampler_arg or 1)
        except ValueError:
            return None
        return ratio if 0 <= ratio <= 1 else None

    def otel(self) -> dict[str, str]:
        """Return the variables that OpenTelemetry reads itself, where they are set here."""
        headers = self.otel_headers
        found = {
            "OTEL_SERVICE_NAME": self.otel_service_name,
            "OTEL_RESOURCE_ATTRIBUTES": self.otel_resource_attributes,
            "OTEL_EXPORTER_OTLP_ENDPOINT": self.otel_endpoint,
            "OTEL_EXPORTER_OTLP_HEADERS": headers.get_secret_value() if headers else None,
        }
        return {name: value for name, value in found.items() if value}

    def topics_wanted(self, partitions: int | None = None) -> list[Wanted]:
        """Return how each topic of the flow is to be."""
        topics = self.topics
        count = partitions or self.partitions
        return wanted(topics.all(), self.topic_settings, count, topics.compacted)

    def channels(self) -> Named:
        """Return how customers are told. Raises ConfigurationError listing what is wrong."""
        urls = self.webhook_urls
        return read_named(self.notify.get_secret_value(), urls.get_secret_value() if urls else None)

    @property
    def notify_waits_s(self) -> tuple[float, ...]:
        """How long to wait before each further try of a message."""
        return seconds_of(self.notify_retries)

    @property
    def reservation_ttl(self) -> timedelta | None:
        """How long a reservation lasts; None for ever."""
        seconds = self.reservation_ttl_s
        return None if seconds is None else timedelta(seconds=seconds)

    def port(self, service: str) -> int:
        """Return the port that a service listens on."""
        return getattr(self, f"port_{service}")

    def address(self, service: str) -> str:
        """Return the address to reach a service's HTTP API at; an IPv6 host is in brackets."""
        if self.services_at is not None:
            return self.services_at.format(service=service, port=self.port(service))
        host = _REACHED_AT.get(self.host, self.host)
        host = f"[{host}]" if ":" in host else host
        return f"http://{host}:{self.port(service)}"

    def keys(self) -> Keys | None:
        """Return the API keys; None when there are none and everybody may do all."""
        if self.api_keys is None:
            return None
        return Keys(parse_keys(self.api_keys.get_secret_value()), self.rate_limit)

    def group(self, stage: str) -> str:
        """Name the consumer group of a stage."""
        return f"{self.kafka_group_id}-{stage}"

    def kafka(self, **options: object) -> dict[str, object]:
        """Return librdkafka's options to reach this Kafka, joined by `options`.

        Raises ConfigurationError when no server is known: `up` or `serve` resolves it first.
        """
        if self.kafka_bootstrap_servers is None:
            raise ConfigurationError("KAFKA_BOOTSTRAP_SERVERS is not set and no local Kafka runs")
        common: dict[str, object] = {
            "bootstrap.servers": self.kafka_bootstrap_servers,
            "security.protocol": self.kafka_security_protocol,
            "sasl.mechanism": self.kafka_sasl_mechanism,
            "sasl.username": self.kafka_sasl_username,
            "sasl.password": _secret(self.kafka_sasl_password),
            "ssl.ca.location": _text(self.kafka_ssl_ca_location),
            "ssl.certificate.location": _text(self.kafka_ssl_certificate_location),
            "ssl.key.location": _text(self.kafka_ssl_key_location),
            "ssl.key.password": _secret(self.kafka_ssl_key_password),
        }
        return {name: value for name, value in common.items() if value is not None} | options

    def dsn(self) -> str:
        """Return the connection string of the database.

        Raises ConfigurationError when none is known, `up` or `serve` resolves it first, or when
        it is none: PostgreSQL's library would repeat it, password and all.
        """
        if self.database_url is None:
            raise ConfigurationError("DATABASE_URL is not set and no local PostgreSQL runs")
        dsn = self.database_url.get_secret_value()
        if parts_of_dsn(dsn) is None:
            raise ConfigurationError(
                "DATABASE_URL: not a connection string of PostgreSQL: write"
                " postgresql://USER:PASSWORD@HOST:PORT/NAME, with @ : / % in a password as %40 ..."
            )
        return dsn


def _secret(value: SecretStr | None) -> str | None:
    return None if value is None else value.get_secret_value()


def _text(value: Path | None) -> str | None:
    return None if value is None else str(value)
