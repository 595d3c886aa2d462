"""What is wrong with settings together: each may be right, and not beside another."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from orderstream.contract.errors import ConfigurationError, Malformed
from orderstream.runtime.channels import read_secrets
from orderstream.runtime.setting_values import is_for_each, is_of_redis

if TYPE_CHECKING:
    from orderstream.runtime.settings import Settings

LOOPBACK = ("127.0.0.1", "::1", "localhost")
_ROOTS = ("always_on", "always_off", "traceidratio")
_SAMPLERS = (*_ROOTS, *(f"parentbased_{root}" for root in _ROOTS))  # OpenTelemetry's names.


def contradictions(of: "Settings") -> Iterator[str]:
    """Yield what is wrong with settings that are right one by one, each with its name."""
    try:
        keys = of.keys()
    except Malformed as error:
        yield f"ORDERSTREAM_API_KEYS: {error}"
    else:
        if keys is None and of.host not in LOOPBACK:
            yield (
                f"ORDERSTREAM_HOST: {of.host} is open to the network: set"
                " ORDERSTREAM_API_KEYS (`orderstream keys new` makes them), or use 127.0.0.1"
            )
        if keys is None and of.rate_limit is not None:
            yield "ORDERSTREAM_RATE_LIMIT: it is per API key: set ORDERSTREAM_API_KEYS, too"
    if of.services_at is not None and not is_for_each(of.services_at):
        yield "ORDERSTREAM_SERVICES_AT: write http://{service}:{port}, or more around them"
    try:
        of.channels()
    except ConfigurationError as error:
        yield from error.faults
    if of.webhook_secret is not None:
        try:
            read_secrets(of.webhook_secret.get_secret_value())
        except ConfigurationError as error:
            yield from error.faults
    elif of.webhook_urls is not None:
        yield (
            "ORDERSTREAM_WEBHOOK_SECRET: webhooks are signed: set it (`orderstream notify"
            " secret` makes one)"
        )
    if of.traces:  # Else they are other programs'.
        if of.otel_traces_sampler not in _SAMPLERS:
            yield f"OTEL_TRACES_SAMPLER: must be one of {', '.join(_SAMPLERS)}"
        if of.traces_ratio is None:
            yield "OTEL_TRACES_SAMPLER_ARG: must be a number from 0 to 1"
    if of.templates is not None and not of.templates.is_dir():
        yield f"ORDERSTREAM_TEMPLATES: there is no folder {of.templates}"
    if of.redis_url is not None:
        if not is_of_redis(of.redis_url.get_secret_value()):
            yield (
                "REDIS_URL: write redis://:PASSWORD@HOST:PORT/0, or rediss:// for TLS, with"
                " / ? # @ % in a password as %2F ..."
            )
    elif of.fast_reject:
        yield "ORDERSTREAM_FAST_REJECT: it goes by what Redis says: set REDIS_URL, too"
    ports = [of.port_order, of.port_inventory, of.port_notification]
    ports += [of.port_analytics, of.port_view, of.port_console]
    for port in sorted({port for port in ports if ports.count(port) > 1}):
        yield f"ORDERSTREAM_PORT_...: {port} is given to more than one service"
    topics = (*of.topics.all(), of.topic_audit)
    if len(set(topics)) < len(topics):
        yield "ORDERSTREAM_TOPIC_...: two topics have the same name"
    try:
        of.topics_wanted()
    except ValueError as error:
        yield f"ORDERSTREAM_TOPIC_SETTINGS: {error}"
    for name, path in (
        ("KAFKA_SSL_CA_LOCATION", of.kafka_ssl_ca_location),
        ("KAFKA_SSL_CERTIFICATE_LOCATION", of.kafka_ssl_certificate_location),
        ("KAFKA_SSL_KEY_LOCATION", of.kafka_ssl_key_location),
    ):
        if path is not None and not path.exists():
            yield f"{name}: there is no {path}"
    if of.kafka_security_protocol.startswith("SASL"):
        for name, value in (
            ("KAFKA_SASL_MECHANISM", of.kafka_sasl_mechanism),
            ("KAFKA_SASL_USERNAME", of.kafka_sasl_username),
            ("KAFKA_SASL_PASSWORD", of.kafka_sasl_password),
        ):
            if value is None:
                yield f"{name}: {of.kafka_security_protocol} needs it"
