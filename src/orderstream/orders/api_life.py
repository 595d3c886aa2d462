"""Cancelling and fulfilling orders over HTTP."""

from typing import Annotated, Any

from fastapi import APIRouter, Response
from pydantic import BaseModel, Field

from orderstream.orders.life import Changed, Life, Refused
from orderstream.orders.rules import Becomes
from orderstream.runtime.access import CHANGE_OWN, By, Owner, Traceparent
from orderstream.runtime.web import Problem, json_response

_WORDS: dict[Becomes, str] = {"CANCELLED": "cancelled", "FULFILLED": "fulfilled"}

_DECIDED: dict[int | str, dict[str, Any]] = {
    202: {
        "description": "Decided for good; the others are told as soon as Kafka is back",
        "content": {"application/json": {"schema": {"type": "object"}}},
    }
}


class Why(BaseModel):
    """Why an order is cancelled, in somebody's own words."""

    reason: Annotated[str | None, Field(max_length=500)] = None


def life_routes(life: Life) -> APIRouter:
    """POST what becomes of an order."""
    routes = APIRouter(tags=["orders"])

    @routes.post(
        "/api/orders/{order_id:path}/cancel",
        summary="Cancel an order: its stock is freed",
        openapi_extra=CHANGE_OWN,
        responses=_DECIDED,
    )
    async def cancel_order(  # pyright: ignore[reportUnusedFunction]
        order_id: str, owner: Owner, by: By, trace: Traceparent, why: Why | None = None
    ) -> Response:
        if owner is not None and not await life.is_of(order_id, owner):
            return _answer(order_id, "CANCELLED", None)
        reason = None if why is None else why.reason
        ended = await life.end(order_id, "CANCELLED", by, reason, trace)
        return _answer(order_id, "CANCELLED", ended)

    @routes.post(
        "/api/orders/{order_id:path}/fulfil",
        summary="Fulfil an order: its goods are gone",
        responses=_DECIDED,
    )
    async def fulfil_order(  # pyright: ignore[reportUnusedFunction]
        order_id: str, by: By, trace: Traceparent
    ) -> Response:
        ended = await life.end(order_id, "FULFILLED", by, traceparent=trace)
        return _answer(order_id, "FULFILLED", ended)

    return routes


def _answer(order_id: str, becomes: Becomes, result: Changed | Refused | None) -> Response:
    match result:
        case None:
            raise Problem(404, "unknown-order", f"There is no order {order_id} (yet).")
        case Refused(status):
            said = f"Order {order_id} cannot be {_WORDS[becomes]}: it is {status}."
            raise Problem(409, "illegal-change", said, orderStatus=status)
        case Changed(known_id, status, published):
            # 202: decided for good, and told to the others as soon as Kafka is back.
            return json_response({"orderId": known_id, "status": status}, 200 if published else 202)
