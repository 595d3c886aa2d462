"""The events for programs in other languages: JSON Schema, made from the types.

Only words that draft 7 and 2020-12 both know are used: AsyncAPI's own schemas are draft 7.
"""

import inspect
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, get_args, get_type_hints

import msgspec
from msgspec import Struct

from orderstream.contract.events import (
    EVENTS,
    Event,
    InventoryRejected,
    InventoryReleased,
    InventoryReserved,
    OrderCancelled,
    OrderCreated,
    OrderFulfilled,
)
from orderstream.contract.values import Line

Schema = dict[str, Any]

DIALECT = "https://json-schema.org/draft/2020-12/schema"

_MUGS = (Line("MUG", 2), Line("T-SHIRT", 1))
_ORDERED = datetime(2026, 11, 21, 8, 57, 49, 131039, UTC)
_DECIDED = datetime(2026, 11, 21, 8, 57, 49, 135573, UTC)
_ENDED = datetime(2026, 11, 21, 9, 56, 51, 332211, UTC)
# One of each, as a service writes it.
EXAMPLES: tuple[Event, ...] = (
    OrderCreated(order_id=100000002, items=_MUGS, user_id=42, created_at=_ORDERED),
    InventoryReserved(
        order_id=100000002, items=_MUGS, user_id=42, ordered_at=_ORDERED, decided_at=_DECIDED
    ),
    InventoryRejected(
        order_id="web-7",
        items=(Line("RARE-1", 9),),
        user_id="ann",
        ordered_at=_ORDERED,
        decided_at=_DECIDED,
        reason="OUT_OF_STOCK",
        short=("RARE-1",),
    ),
    OrderCancelled(
        order_id=100000002, cancelled_at=_ENDED, by="ann", reason="changed my mind", user_id=42
    ),
    OrderFulfilled(order_id=100000002, fulfilled_at=_ENDED, by="ann", user_id=42),
    InventoryReleased(
        order_id=100000002, items=_MUGS, released_at=_ENDED, cause="CANCELLED", user_id=42
    ),
)


def event_schema(event_type: str) -> Schema:
    """Return the JSON Schema (2020-12) of a type of event, whole in itself. Raises KeyError."""
    kind = EVENTS[event_type]
    below = schemas([kind], "#/$defs/{name}")
    shown = msgspec.to_builtins(example(kind))
    named = {"$schema": DIALECT, "$id": f"urn:orderstream:{event_type}:v{version_of(kind)}"}
    return {**named, **below.pop(kind.__name__), "examples": [shown], "$defs": below}


def file_name(event_type: str) -> str:
    """Name the file of an event's schema: one for each version."""
    return f"{event_type}.v{version_of(EVENTS[event_type])}.json"


def schemas(types: Iterable[type[Struct]], ref_template: str) -> dict[str, Schema]:
    """Return the schemas of types and of all that they are made of, by name."""
    types = list(types)
    _, found = msgspec.json.schema_components(types, ref_template=ref_template)
    for schema in found.values():
        schema["description"] = inspect.cleandoc(schema.get("description", ""))
    for kind in types:
        found[kind.__name__]["description"] = _described(kind)
    return found


def version_of(kind: type[Event]) -> int:
    """Return the version that a type of event says it is of."""
    return get_args(get_type_hints(kind)["version"])[0]


def example(kind: type[Event]) -> Event:
    """Return an event of a type."""
    return next(event for event in EXAMPLES if type(event) is kind)


def happened(event: Event) -> datetime:
    """Return when what an event says happened: the latest time that it names."""
    return max(at for at in msgspec.structs.astuple(event) if isinstance(at, datetime))


def _described(kind: type[Struct]) -> str:
    """Return the docstring with the fields called as they are on the wire."""
    said = inspect.getdoc(kind) or ""
    for field in msgspec.structs.fields(kind):
        said = said.replace(f"`{field.name}`", f"`{field.encode_name}`")
    return said
