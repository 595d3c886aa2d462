"""What stands on the topics is what the contract says: AsyncAPI, held against real records."""

import json
from collections.abc import Iterator
from typing import Any

import jsonschema_rs
import pytest
from confluent_kafka import Message

from orderstream.asyncapi import asyncapi, written
from orderstream.contract.topics import Topics
from orderstream.runtime.settings import Settings
from tests.flow.installation import Installation
from tests.kafka.topics import read
from tests.waiting import until

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
WRITTEN = (
    "order.created",
    "order.created.retry",
    "order.created.DLT",
    "dead-letters.handled",
    "inventory.reserved",
    "inventory.rejected",
    "order.cancelled",
    "order.fulfilled",
    "inventory.released",
)


class Contract:
    """What a program knows that has read the document and nothing else."""

    def __init__(self, settings: Settings) -> None:
        self._document: Any = json.loads(written(asyncapi(settings)))

    def faults(self, record: Message) -> Iterator[str]:
        """Say where a record is not as it is described."""
        ((name, _),) = self._document["channels"][record.topic() or ""]["messages"].items()
        message = self._document["components"]["messages"][name]
        described = message.get("headers", {})
        headers = {
            name: _text(value, described.get("properties", {}).get(name, {}))
            for name, value in record.headers() or ()
        }
        payload = json.loads(record.value() or b"")
        key = (record.key() or b"").decode()
        yield from self._check(described, headers)
        yield from self._check(message["payload"], payload)
        yield from self._check(message["bindings"]["kafka"]["key"], key)

    def _check(self, schema: Any, value: Any) -> Iterator[str]:
        whole = {**schema, "components": self._document["components"]}
        validator = jsonschema_rs.Draft202012Validator(whole, validate_formats=True)
        for error in validator.iter_errors(value):
            yield f"{error.instance_path}: {error.message}"


def _text(value: Any, described: Any) -> str:
    """Return a header as text, with a character for each byte where it is a number."""
    return value.decode("latin-1" if described.get("format") == "binary" else "utf-8")


@pytest.fixture(scope="module")
def records(running: Installation, settings: Settings) -> dict[str, list[Message]]:
    """Return all that stands on each topic, after orders to which everything has happened."""
    for order_id, sku in (("kept", "MUG"), ("off", "MUG"), ("sold", "MUG"), ("much", "RARE-1")):
        order = {"userId": "ann", "orderId": order_id, "items": [{"sku": sku, "qty": 9}]}
        assert running.place(order, traceparent=TRACE).status_code == 202
        running.decided(order_id)
    running.place({"userId": "ann", "orderId": "drill", "items": [{"sku": "FAIL", "qty": 1}]})
    assert running.decided("drill")["status"] == "FAILED"
    for order_id, act in (("off", "cancel"), ("sold", "fulfil")):
        url = f"{running.url('order')}/api/orders/{order_id}/{act}"
        assert running.http.post(url, json={}).status_code == 200
    discarded = running.run("dlt", "discard", "--all", "--yes", "--note", "a drill")
    assert discarded.returncode == 0, discarded.stderr
    topics = settings.topics

    def released() -> list[Message]:
        return read(settings, topics.inventory_released)

    until(released, what="the cancelled order's stock is free again")
    found = read(settings, *topics.all())
    return {
        topic: [record for record in found if record.topic() == topic] for topic in topics.all()
    }


class TestARecord:
    @pytest.mark.parametrize("topic", WRITTEN)
    def test_is_as_the_contract_says(
        self, topic: str, records: dict[str, list[Message]], settings: Settings
    ) -> None:
        contract = Contract(settings)
        assert records[topic]
        assert [fault for record in records[topic] for fault in contract.faults(record)] == []

    def test_of_another_kind_is_not(
        self, records: dict[str, list[Message]], settings: Settings
    ) -> None:
        reserved = records["inventory.reserved"][0]
        moved = Message(
            "inventory.released",
            key=reserved.key(),
            value=reserved.value(),
            headers=reserved.headers(),
        )
        found = list(Contract(settings).faults(moved))
        assert any(fault.startswith("['ce_type']") for fault in found), found
        assert any("releasedAt" in fault for fault in found), found

    def test_of_every_topic_has_been_looked_at(self, records: dict[str, list[Message]]) -> None:
        unread = {topic for topic in Topics().all() if topic not in WRITTEN}
        assert {topic for topic, found in records.items() if not found} == unread
        assert all(topic.endswith(".DLT") for topic in unread)


class TestTheTrace:
    def test_of_a_request_goes_with_the_order_to_its_result(
        self, records: dict[str, list[Message]]
    ) -> None:
        for topic in ("order.created", "inventory.reserved", "inventory.rejected"):
            for record in records[topic]:
                traces = [value for name, value in record.headers() or () if name == "traceparent"]
                assert traces == ([] if record.key() == b"drill" else [TRACE.encode()])
