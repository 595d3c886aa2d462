"""What a client sends and is answered, and what the services say to one another."""

import os
from datetime import datetime
from typing import Annotated, Literal

from faststream.confluent import KafkaBroker
from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

CREATED = "peer-faststream.order.created"
RESERVED = "peer-faststream.inventory.reserved"
REJECTED = "peer-faststream.inventory.rejected"


class Event(BaseModel):
    model_config = ConfigDict(
        alias_generator=to_camel, validate_by_name=True, serialize_by_alias=True
    )


class Line(Event):
    sku: Annotated[str, Field(min_length=1, max_length=128)]
    qty: Annotated[int, Field(ge=1, le=1_000_000)]


class NewOrder(Event):
    user_id: int | None = None
    items: Annotated[list[Line], Field(min_length=1, max_length=500)]


class Accepted(Event):
    order_id: int
    status: Literal["PENDING"] = "PENDING"


class OrderCreated(Event):
    order_id: int
    user_id: int | None
    items: list[Line]
    created_at: datetime


class Decided(Event):
    order_id: int
    user_id: int | None
    items: list[Line]
    reserved: bool
    decided_at: datetime


def kafka() -> KafkaBroker:
    """Return the broker of one service; it logs no line for each message."""
    return KafkaBroker(
        os.environ["KAFKA_BOOTSTRAP_SERVERS"],
        acks="all",
        enable_idempotence=True,
        logger=None,
    )
