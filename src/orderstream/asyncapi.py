"""The whole contract as one AsyncAPI 3.0 document: topics, events, headers, who reads and writes.

https://www.asyncapi.com/docs/reference/specification/v3.0.0, Kafka bindings 0.5.0. Channels are
called as topics are by default, whatever their names are here; `address` is the name in force.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from orderstream.contract.envelope import CLAIM, TRACEPARENT, Envelope
from orderstream.contract.events import EVENTS, OrderCreated
from orderstream.contract.formats import status_writer_of
from orderstream.contract.schemas import (
    Schema,
    event_schema,
    example,
    file_name,
    happened,
    schemas,
)
from orderstream.contract.topics import Topics
from orderstream.contract.values import ID_LENGTH_MAX, text
from orderstream.dead_letters.rules import Handled
from orderstream.flow import Step, flow
from orderstream.runtime.settings import Settings

FILE = "asyncapi.json"
ORDER_STATUS = "order.status"  # The channel of what is written for programs of others.
VERSION = "0.1.0"  # The contract's own: most releases of the program leave it as it is.
BINDING = {"bindingVersion": "0.5.0"}
JSON = "application/json"

_ABOUT = """\
Orders as a stream of events. A record's key is the order id as text, so all of one order is in one
partition, by the hash (murmur2) that Java's clients use.

Fields may be added: ignore those that you do not know. What is here stays as it is; a change that
a reader or writer could trip over comes as another `version` of the event.

Results are written in Kafka transactions: read with `read_committed`. A record may come twice:
remember `ce_id`. `send` and `receive` are what our services do."""

_MECHANISMS = {"PLAIN": "plain", "SCRAM-SHA-256": "scramSha256", "SCRAM-SHA-512": "scramSha512"}


def asyncapi(settings: Settings) -> dict[str, Any]:
    """Return the document for the topics, groups and brokers that are set."""
    standard = Topics(order_status=ORDER_STATUS)
    names = dict(zip(settings.topics.all(), standard.all(), strict=False))  # There or not.
    security: dict[str, Any] = {}
    if settings.kafka_sasl_mechanism is not None:
        security = {"sasl": {"type": _MECHANISMS[settings.kafka_sasl_mechanism]}}
    types = [*EVENTS.values(), Handled]
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "orderstream",
            "version": VERSION,
            "description": _ABOUT,
            "license": {
                "name": "Apache-2.0",
                "url": "https://www.apache.org/licenses/LICENSE-2.0",
            },
        },
        "defaultContentType": JSON,
        "servers": dict(_servers(settings)),
        "channels": {
            channel: _channel(topic, channel, settings) for topic, channel in names.items()
        },
        "operations": {
            name: operation
            for step in flow(settings.topics, settings.notify_received)
            for name, operation in _operations(step, names, settings)
        },
        "components": {
            "schemas": schemas(types, "#/components/schemas/{name}"),
            "messages": dict(_messages(settings.topics)),
            "securitySchemes": security,
        },
    }


def documents(settings: Settings) -> dict[str, Any]:
    """Return every document of the contract, by the name of its file."""
    of_events = {file_name(event_type): event_schema(event_type) for event_type in EVENTS}
    return {FILE: asyncapi(settings), **of_events}


def written(document: Any) -> str:
    """Write a document as it is printed and kept."""
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def _servers(settings: Settings) -> Iterator[tuple[str, dict[str, Any]]]:
    given = settings.kafka_bootstrap_servers or f"127.0.0.1:{settings.port_kafka}"
    protocol = "kafka-secure" if settings.kafka_security_protocol.endswith("SSL") else "kafka"
    server: dict[str, Any] = {"protocol": protocol, "bindings": {"kafka": BINDING}}
    if settings.kafka_sasl_mechanism is not None:
        server["security"] = [{"$ref": "#/components/securitySchemes/sasl"}]
    for number, host in enumerate(given.split(","), 1):
        yield f"kafka-{number}", {"host": host.strip(), **server}


# Topics ------------------------------------------------------------------------------------


def _channel(topic: str, channel: str, settings: Settings) -> dict[str, Any]:
    kafka: dict[str, Any] = {"topic": topic, "partitions": settings.partitions, **BINDING}
    if topic in settings.topics.compacted:
        kafka["topicConfiguration"] = {"cleanup.policy": ["compact"]}
    name = _message_of(channel)
    return {
        "address": topic,
        "messages": {name: {"$ref": f"#/components/messages/{name}"}},
        "bindings": {"kafka": kafka},
    }


def _message_of(channel: str) -> str:
    """Name the one message of a channel."""
    standard = Topics()
    if channel in EVENTS:
        return EVENTS[channel].__name__
    if channel == standard.order_created_retry:
        return "OrderCreatedRetry"
    if channel == standard.dead_letters_handled:
        return "DeadLetterHandled"
    if channel == ORDER_STATUS:
        return "OrderStatus"
    assert channel.endswith(standard.dead_letter_suffix), channel
    return "DeadLetter"


def _operations(
    step: Step, names: Mapping[str, str], settings: Settings
) -> Iterator[tuple[str, dict[str, Any]]]:
    for action, topics in (("receive", step.reads), ("send", step.writes)):
        for topic in topics:
            channel = names[topic]
            kafka: dict[str, Any] = {**BINDING}
            if action == "receive":
                group = settings.group(step.service)
                kafka["groupId"] = {"type": "string", "const": group}
            message = f"#/channels/{channel}/messages/{_message_of(channel)}"
            yield (
                f"{step.service}.{action}.{channel}",
                {
                    "action": action,
                    "summary": f"{step.service}: {step.does}",
                    "tags": [{"name": step.service}],
                    "channel": {"$ref": f"#/channels/{channel}"},
                    "messages": [{"$ref": message}],
                    "bindings": {"kafka": kafka},
                },
            )


# Messages ----------------------------------------------------------------------------------

_KEY: Schema = {
    "type": "string",
    **(text(ID_LENGTH_MAX).extra_json_schema or {}),
    "description": "the order id as text, UTF-8",
}
_PLACE: Schema = {
    "type": "string",
    "pattern": r"^[A-Za-z0-9._-]+\[[0-9]+\]@[0-9]+$",
    "description": "where the dead letter stands: `order.created.DLT[0]@12`",
}
_AS_IT_WAS: Schema = {"description": "What the record was: an event, or what nobody could read."}


def _messages(topics: Topics) -> Iterator[tuple[str, dict[str, Any]]]:
    sources = {
        topic: f"/orderstream/{step.code.strip('/')}"
        for step in reversed(flow(Topics()))
        for topic in step.writes
    }
    for event_type, kind in EVENTS.items():
        event = example(kind)
        envelope = Envelope(event_type, sources[event_type])
        headers = envelope.headers(event.key.encode(), happened(event), TRACE_EXAMPLE)
        payload: Schema = {"$ref": f"#/components/schemas/{kind.__name__}"}
        shown = msgspec.to_builtins(event)
        if isinstance(event, OrderCreated) and topics.order_format != "orderstream":
            payload = {"type": "object", "description": f"An order as {topics.order_format}."}
            shown = json.loads(topics.write_order(event))
        yield (
            kind.__name__,
            {
                "name": event_type,
                "title": kind.__name__,
                "headers": _event_headers(event_type, sources[event_type]),
                "payload": payload,
                "correlationId": {"location": f"$message.payload#/{next(iter(shown))}"},
                "examples": [
                    {
                        "headers": {name: value.decode() for name, value in headers},
                        "payload": shown,
                    }
                ],
                **_keyed(_KEY),
            },
        )
    if topics.order_status is not None:
        said = status_writer_of(topics.status_format)("web-7", "REJECTED", "OUT_OF_STOCK")
        yield (
            "OrderStatus",
            {
                "title": "What became of an order",
                "payload": {"type": "object", "description": f"In {topics.status_format} case."},
                "examples": [{"payload": json.loads(said)}],
                **_keyed(_KEY),
            },
        )
    yield (
        "OrderCreatedRetry",
        {
            "title": "An order that is tried again",
            "headers": _headers(RETRY_HEADERS),
            "payload": _AS_IT_WAS,
            **_keyed(_KEY),
        },
    )
    yield (
        "DeadLetter",
        {
            "title": "A record that kept failing",
            "headers": _headers(DEAD_LETTER_HEADERS),
            "payload": _AS_IT_WAS,
            **_keyed({"description": "as it was: the order id as text"}),
        },
    )
    yield (
        "DeadLetterHandled",
        {
            "title": "What was done with a dead letter",
            "payload": {"$ref": "#/components/schemas/Handled"},
            **_keyed(_PLACE),
        },
    )


def _keyed(key: Schema) -> dict[str, Any]:
    return {"contentType": JSON, "bindings": {"kafka": {"key": key, **BINDING}}}


# Headers -----------------------------------------------------------------------------------

TRACE_EXAMPLE = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def _said(about: str, **more: object) -> Schema:
    return {"type": "string", "description": about, **more}


def _number(bits: int, about: str, least: int | None = None) -> Schema:
    """Describe a number of so many bits, written as so many bytes."""
    most = bits // 8
    return _said(
        f"int{bits}, big-endian: {about}",
        format="binary",
        minLength=least or most,
        maxLength=most,
    )


def _event_headers(event_type: str, source: str) -> Schema:
    """Describe CloudEvents 1.0 in Kafka's binary mode, and the trace."""
    required = {
        "ce_id": _said("order id and type: whoever says an event twice says it under one id"),
        "ce_type": _said("what kind of event it is", const=event_type),
        "ce_source": _said("who says it", const=source),
        "ce_specversion": _said("of CloudEvents", const="1.0"),
        "ce_time": _said("when it happened", format="date-time"),
        "content-type": _said("of the payload", const=JSON),
    }
    schema = _headers(required)
    schema["properties"][TRACEPARENT] = _said(
        "W3C trace context of the request that led to it, or of a span below it; not there without"
    )
    if event_type == "order.created":  # Other programs may write it, and need none of them.
        required["ce_source"].pop("const")
        del schema["required"]
        schema["properties"][CLAIM] = _said(
            "the order id or Idempotency-Key that the order came with, and a hash of what was asked"
            " for, so that a restored database knows them; once for each, not there without any"
        )
    return schema


def _headers(properties: Mapping[str, Schema]) -> Schema:
    return {"type": "object", "properties": dict(properties), "required": list(properties)}


def _origin(prefix: str) -> dict[str, Schema]:
    return {
        f"{prefix}topic": _said("where it was first read"),
        f"{prefix}partition": _number(32, "its partition"),
        f"{prefix}offset": _number(64, "its offset"),
        f"{prefix}timestamp": _number(64, "its time, ms since 1970"),
        f"{prefix}timestamp-type": _said("whose time", enum=["CreateTime", "LogAppendTime"]),
        f"{prefix}consumer-group": _said("the group that could not process it"),
    }


# Spring Kafka's, as runtime/failure.py writes them; of those that are there twice the last counts.
RETRY_HEADERS = {
    **_origin("kafka_original-"),
    "retry_topic-attempts": _number(32, "how many tries it has behind it"),
    "retry_topic-backoff-timestamp": _number(64, "when it is due, ms since 1970", 1),
    "retry_topic-original-timestamp": _number(64, "the time of the first record", 1),
}
DEAD_LETTER_HEADERS = {
    **_origin("kafka_dlt-original-"),
    "kafka_dlt-exception-fqcn": _said("class of the last exception"),
    "kafka_dlt-exception-cause-fqcn": _said("class of its cause"),
    "kafka_dlt-exception-message": _said("why it failed"),
    "kafka_dlt-exception-stacktrace": _said("where"),
}
