"""The JSON Schemas say what the decoders do: what fits is accepted, what does not is refused."""

import copy
import json
from collections.abc import Callable, Iterator
from typing import Any

import jsonschema_rs
import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from orderstream.contract.errors import Malformed
from orderstream.contract.events import (
    EVENTS,
    Event,
    decode_cancelled,
    decode_created,
    decode_fulfilled,
    decode_rejected,
    decode_released,
    decode_reserved,
)
from orderstream.contract.schemas import event_schema, happened
from orderstream.contract.schemas import example as example_of
from tests.test_documented import event_types

DECODERS: dict[str, Callable[[bytes], Event]] = {
    "order.created": decode_created,
    "inventory.reserved": decode_reserved,
    "inventory.rejected": decode_rejected,
    "order.cancelled": decode_cancelled,
    "order.fulfilled": decode_fulfilled,
    "inventory.released": decode_released,
}
VALIDATORS = {
    event_type: jsonschema_rs.Draft202012Validator(event_schema(event_type), validate_formats=True)
    for event_type in EVENTS
}
ORDER = msgspec.to_builtins(example_of(EVENTS["order.created"]))


def fits(event_type: str, document: Any) -> bool:
    return VALIDATORS[event_type].is_valid(document)


def accepted(event_type: str, document: Any) -> bool:
    try:
        DECODERS[event_type](json.dumps(document).encode())
    except Malformed:
        return False
    return True


# Nothing equal to a whole number is written with a point here: see TestWhatASchemaCannotSay.
numbers = [0, 1, -1, 500, 1_000_000, 1_000_001, 2**53 - 1, 2**53, -(2**53), 2**63, 1.5, -0.25]
spaces = ["", " ", "\u00a0", "\u3000", " x", "x ", "\ufeff", "\u200b", "\u1680\u2003"]
controls = ["\x00", "\x1f", "a\tb", "\x7f", "\x85", "\u2028", "a\u2029", "x\n", "\u202e", "é", "🍕"]
longs = ["x" * 64, "x" * 65, "🍕" * 64, "x" * 128, "x" * 129, " " * 200]
times = [
    "2026-11-21T08:57:49Z",
    "2026-11-21T08:57:49.123456789+23:59",
    "2026-11-21T08:57:49-00:00",
    "2024-02-29T00:00:00Z",
    "2026-02-29T00:00:00Z",
    "2026-11-21T08:57:49",
    "2026-11-21T23:59:60Z",
    "2026-11-21T24:00:00Z",
    "2026-11-21T08:57:49+24:00",
    "2026-11-21T08:57Z",
    "2026-11-21",
    "0000-01-01T00:00:00Z",
]
words = ["OUT_OF_STOCK", "CANCELLED", "EXPIRED", "expired"]
others: list[Any] = [True, False, None, [], {}, [1], {"sku": "A"}, [{"sku": "A", "qty": 1}]]
edges = [*numbers, *spaces, *controls, *longs, *times, *words, *others]
anything = st.sampled_from(edges) | st.integers() | st.text(max_size=5)


@st.composite
def documents(draw: st.DrawFn, event_type: str) -> Any:
    """Events that are right, or wrong in a place or two."""
    document: Any = json.loads(json.dumps(msgspec.to_builtins(example_of(EVENTS[event_type]))))
    properties = event_schema(event_type)["properties"]
    for _ in range(draw(st.integers(0, 3))):
        lines = document.get("items")
        first = lines[0] if isinstance(lines, list) and lines else None
        inside = first if isinstance(first, dict) and draw(st.booleans()) else document
        names = [*properties, "note"] if inside is document else ["sku", "qty", "note"]
        name = draw(st.sampled_from(names))
        if draw(st.booleans()):
            inside[name] = copy.deepcopy(draw(anything))
        else:
            inside.pop(name, None)
    return document


def with_each_edge(event_type: str) -> Iterator[Any]:
    """Yield an event with each of its fields, and of its first line's, at every edge."""
    whole = msgspec.to_builtins(example_of(EVENTS[event_type]))
    for edge in edges:
        for name in event_schema(event_type)["properties"]:
            yield whole | {name: edge}
        for name in ("sku", "qty"):
            yield whole | {"items": [{"sku": "A", "qty": 1} | {name: edge}]}


class TestAnEvent:
    @pytest.mark.parametrize("event_type", EVENTS)
    def test_at_every_edge_is_accepted_if_it_fits(self, event_type: str) -> None:
        found = [document for document in with_each_edge(event_type) if fits(event_type, document)]
        assert found
        assert [document for document in found if not accepted(event_type, document)] == []

    def test_of_other_programs_at_every_edge_is_refused_if_it_does_not_fit(self) -> None:
        kind = "order.created"
        found = [document for document in with_each_edge(kind) if not fits(kind, document)]
        assert found
        assert [document for document in found if accepted(kind, document)] == []

    @pytest.mark.parametrize("event_type", EVENTS)
    def test_that_fits_its_schema_is_accepted(self, event_type: str) -> None:
        @settings(max_examples=400, deadline=None)
        @given(documents(event_type))
        def check(document: Any) -> None:
            if fits(event_type, document):
                assert accepted(event_type, document)

        check()

    @settings(max_examples=1_500, deadline=None)
    @given(documents("order.created"))
    @example(ORDER | {"items": [{"sku": "A", "qty": 1_000_000}] * 500})
    @example(ORDER | {"items": [{"sku": "A", "qty": 1}] * 501})
    @example(ORDER | {"items": [{"sku": "A", "qty": 1_000_001}]})
    @example(ORDER | {"items": []})
    def test_of_other_programs_is_accepted_only_if_it_fits(self, document: Any) -> None:
        assert fits("order.created", document) == accepted("order.created", document)

    @pytest.mark.parametrize("event_type", EVENTS)
    def test_is_accepted_with_fields_that_nobody_knows(self, event_type: str) -> None:
        document = msgspec.to_builtins(example_of(EVENTS[event_type])) | {"note": {"a": [1]}}
        assert fits(event_type, document)
        assert accepted(event_type, document)

    @pytest.mark.parametrize("event_type", EVENTS)
    def test_without_a_field_that_it_needs_is_refused(self, event_type: str) -> None:
        whole = msgspec.to_builtins(example_of(EVENTS[event_type]))
        for name in event_schema(event_type)["required"]:
            document = {field: value for field, value in whole.items() if field != name}
            assert not fits(event_type, document)
            assert not accepted(event_type, document)

    def test_of_inventory_may_have_the_sum_of_many_lines(self) -> None:
        event = msgspec.to_builtins(example_of(EVENTS["inventory.released"]))
        assert fits("inventory.released", event | {"items": [{"sku": "A", "qty": 500_000_000}]})


class TestWhatASchemaCannotSay:
    def test_a_whole_number_is_written_without_a_point(self) -> None:
        assert fits("order.created", ORDER | {"items": [{"sku": "A", "qty": 1.0}]})
        assert not accepted("order.created", ORDER | {"items": [{"sku": "A", "qty": 1.0}]})

    @pytest.mark.parametrize(
        "time", ["2026-11-21 08:57:49Z", "2026-11-21t08:57:49z", "2026-11-21T08:57:49+0100"]
    )
    def test_times_are_read_in_a_few_more_spellings(self, time: str) -> None:
        assert not fits("order.created", ORDER | {"createdAt": time})
        assert accepted("order.created", ORDER | {"createdAt": time})


class TestTheSchemas:
    def test_are_of_every_event(self) -> None:
        assert list(EVENTS.values()) == event_types()
        assert DECODERS.keys() == EVENTS.keys()

    @pytest.mark.parametrize("event_type", EVENTS)
    def test_are_schemas_whose_examples_fit(self, event_type: str) -> None:
        schema = event_schema(event_type)
        jsonschema_rs.meta.validate(schema)
        for document in schema["examples"]:
            assert fits(event_type, document)
            assert happened(DECODERS[event_type](json.dumps(document).encode()))

    @pytest.mark.parametrize("event_type", EVENTS)
    def test_call_fields_as_they_are_on_the_wire(self, event_type: str) -> None:
        assert "_" not in event_schema(event_type)["description"].replace("OUT_OF_STOCK", "")
