"""The AsyncAPI document is one, and says what the services do."""

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import jsonschema_rs
import msgspec
import pytest

from orderstream.asyncapi import asyncapi, documents, written
from orderstream.cli.settings import preset
from orderstream.contract.envelope import Headers
from orderstream.contract.events import EVENTS
from orderstream.contract.topics import Topics
from orderstream.dead_letters.rules import Handled, parse_place
from orderstream.flow import flow
from orderstream.inventory.stage import SOURCE as INVENTORY
from orderstream.orders.life import SOURCE as ORDERS
from orderstream.runtime.failure import Retry, dead_letter_output, retry_output
from orderstream.runtime.settings import Settings
from tests.builders import NOON
from tests.rules.test_failure import a_record, failure
from tests.test_documented import DOCS

OFFICIAL = json.loads(Path(__file__).with_name("asyncapi-3.0.0.json").read_text("utf-8"))
TOPICS = {"ORDERSTREAM_TOPIC_ORDER_CREATED": "orders", "ORDERSTREAM_DEAD_LETTER_SUFFIX": "-dlt"}
CLUSTER = {
    "KAFKA_BOOTSTRAP_SERVERS": "a.example:9093, b.example:9093",
    "KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
    "KAFKA_SASL_MECHANISM": "SCRAM-SHA-512",
    "KAFKA_SASL_USERNAME": "shop",
    "KAFKA_SASL_PASSWORD": "secret-word",
    "KAFKA_GROUP_ID": "shop",
}


def document_of(**given: str) -> Any:
    """Return the document as a program in another language reads it."""
    return json.loads(written(asyncapi(Settings.load(given))))


def at(document: Any, reference: str) -> Any:
    for step in reference.removeprefix("#/").split("/"):
        document = document[step]
    return document


def validator(document: Any, schema: Any) -> jsonschema_rs.Draft202012Validator:
    """Return what checks a value against a schema of the document."""
    return jsonschema_rs.Draft202012Validator(
        {**schema, "components": document["components"]}, validate_formats=True
    )


def as_text(headers: Headers) -> dict[str, str]:
    """Return headers with a character for each byte of those that are no text."""
    return {name: value.decode("latin-1") for name, value in headers}


class TestTheDocument:
    @pytest.mark.parametrize(
        "given",
        [{}, TOPICS, CLUSTER, preset("orders-notifications")],
        ids=["nothing", "topics", "cluster", "preset"],
    )
    def test_is_valid_by_asyncapis_own_schema(self, given: dict[str, str]) -> None:
        official = jsonschema_rs.Draft7Validator(OFFICIAL)
        assert [error.message for error in official.iter_errors(document_of(**given))] == []

    def test_would_not_be_valid_with_a_slip(self) -> None:
        document = document_of()
        document["operations"]["order.send.order.created"]["action"] = "sends"
        assert not jsonschema_rs.Draft7Validator(OFFICIAL).is_valid(document)

    def test_has_examples_that_fit(self) -> None:
        document = document_of()
        for kind in EVENTS.values():
            message = document["components"]["messages"][kind.__name__]
            for example in message["examples"]:
                validator(document, message["headers"]).validate(example["headers"])
                validator(document, message["payload"]).validate(example["payload"])

    def test_refers_only_to_what_is_there(self) -> None:
        document = document_of()

        def look(part: Any) -> None:
            if isinstance(part, dict) and isinstance(part.get("$ref"), str):
                assert at(document, part["$ref"])
            for below in part.values() if isinstance(part, dict) else part:
                if isinstance(below, dict | list):
                    look(below)

        look(document)

    def test_has_the_names_that_are_set(self) -> None:
        document = document_of(**TOPICS, **CLUSTER)
        addresses = {name: channel["address"] for name, channel in document["channels"].items()}
        assert addresses["order.created"] == "orders"
        assert addresses["order.created.DLT"] == "orders-dlt"
        assert list(addresses) == list(Topics().all())
        reads = document["operations"]["inventory.receive.order.created"]
        assert reads["bindings"]["kafka"]["groupId"] == {
            "type": "string",
            "const": "shop-inventory",
        }
        hosts = [server["host"] for server in document["servers"].values()]
        assert hosts == ["a.example:9093", "b.example:9093"]

    def test_says_what_other_programs_read_and_write(self) -> None:
        document = document_of(**preset("orders-notifications"))
        assert document["channels"]["order.status"]["address"] == "notifications"
        messages = document["components"]["messages"]
        order = messages["OrderCreated"]
        assert {"order_id", "user_id", "items"} < order["examples"][0]["payload"].keys()
        assert order["correlationId"] == {"location": "$message.payload#/order_id"}
        assert messages["OrderStatus"]["examples"][0]["payload"]["status"] == "REJECTED"

    def test_has_no_password_in_it(self) -> None:
        assert "secret-word" not in written(asyncapi(Settings.load(CLUSTER)))

    def test_has_what_every_service_reads_and_writes(self) -> None:
        done = {
            (operation["tags"][0]["name"], operation["action"], at(document, channel)["address"])
            for document in [document_of()]
            for operation in document["operations"].values()
            for channel in [operation["channel"]["$ref"]]
        }
        steps = flow(Topics())
        assert done == {(s.service, "receive", topic) for s in steps for topic in s.reads} | {
            (s.service, "send", topic) for s in steps for topic in s.writes
        }

    def test_is_kept_in_docs_as_it_is_printed(self) -> None:
        wanted = documents(Settings.load({}))
        for name, document in wanted.items():
            kept = (DOCS / "schemas" / name).read_text("utf-8")
            assert kept == written(document), "run `python docs/generate.py`"
        assert {path.name for path in (DOCS / "schemas").glob("*.json")} == set(wanted)


class TestHeaders:
    """What is said of headers, held against what the code writes."""

    def test_of_events_name_the_services_that_say_them(self) -> None:
        messages = document_of()["components"]["messages"]
        sources = {
            event_type: messages[kind.__name__]["headers"]["properties"]["ce_source"].get("const")
            for event_type, kind in EVENTS.items()
        }
        assert sources == {
            "order.created": None,  # Other programs may write it.
            "inventory.reserved": INVENTORY,
            "inventory.rejected": INVENTORY,
            "order.cancelled": ORDERS,
            "order.fulfilled": ORDERS,
            "inventory.released": INVENTORY,
        }

    def test_of_a_retry_are_those_that_are_written(self) -> None:
        written = retry_output(a_record(headers=[]), "order.created.retry", Retry(1, 9), "g")
        self.agree("OrderCreatedRetry", written.headers)

    def test_of_a_dead_letter_are_those_that_are_written(self) -> None:
        written = dead_letter_output(a_record(headers=[]), "order.created.DLT", failure(), "g")
        self.agree("DeadLetter", written.headers)

    def agree(self, message: str, headers: Headers) -> None:
        document = document_of()
        schema = document["components"]["messages"][message]["headers"]
        assert schema["properties"].keys() == set(schema["required"]) == dict(headers).keys()
        validator(document, schema).validate(as_text(headers))


class TestDeadLettersHandled:
    def test_are_as_they_are_written(self) -> None:
        document = document_of()
        message = document["components"]["messages"]["DeadLetterHandled"]
        mark = Handled(action="redriven", by="ann", at=NOON, to="order.created")
        payload = json.loads(msgspec.json.encode(mark))
        validator(document, message["payload"]).validate(payload)
        key = validator(document, message["bindings"]["kafka"]["key"])
        place = "order.created.DLT[0]@12"
        assert key.is_valid(place)
        assert str(parse_place(place)) == place
        assert not key.is_valid("100000002")


def test_the_example_of_an_event_says_when_it_happened() -> None:
    messages = document_of()["components"]["messages"]
    for kind in EVENTS.values():
        (example,) = messages[kind.__name__]["examples"]
        assert datetime.fromisoformat(example["headers"]["ce_time"]).tzinfo is not None
