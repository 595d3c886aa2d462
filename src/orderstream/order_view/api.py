"""Orders' pages over HTTP."""

import base64
import binascii
from datetime import datetime, timedelta
from typing import Annotated

import msgspec
from fastapi import APIRouter, Query, Response

from orderstream.order_view.rules import Status
from orderstream.order_view.store import SORTED_MAX, Place, Sort, TooMany, ViewStore
from orderstream.order_view.store import Query as Wanted
from orderstream.runtime.access import READ_OWN, Owner
from orderstream.runtime.web import Problem, Time, json_response


def view_routes(store: ViewStore) -> APIRouter:
    """GET one order and lists of them."""
    routes = APIRouter(tags=["orders"])

    @routes.get("/api/orders/", include_in_schema=False, openapi_extra=READ_OWN)
    @routes.get(
        "/api/orders",
        summary="Orders that fit, newest first unless sorted otherwise, page by page",
        openapi_extra=READ_OWN,
    )
    def list_orders(  # pyright: ignore[reportUnusedFunction]
        owner: Owner,
        status: Annotated[str | None, Query(description="PENDING, CONFIRMED, ...")] = None,
        userId: Annotated[str | None, Query(max_length=128)] = None,
        sku: Annotated[str | None, Query(max_length=64)] = None,
        since: Annotated[Time | None, Query(alias="from")] = None,
        until: Annotated[Time | None, Query(alias="to")] = None,
        sort: Annotated[
            Sort,
            Query(
                description="by time of creation; or by decided or took (how long the decision"
                f" took) where at most {SORTED_MAX:,} orders fit, the SKU left out of account"
            ),
        ] = "-created",
        limit: Annotated[int, Query(ge=1, le=500)] = 50,
        cursor: Annotated[str | None, Query(max_length=400)] = None,
    ) -> Response:
        wanted = Wanted(
            status=_status(status),
            user_id=userId,
            owner=owner,
            sku=sku,
            since=since,
            until=until,
            sort=sort,
            behind=None if cursor is None else decode_cursor(cursor, sort),
            limit=limit + 1,
        )
        try:
            found = store.find(wanted)
        except TooMany:
            said = (
                f"By {sort.lstrip('-')} at most {SORTED_MAX:,} orders are sorted, and more fit:"
                " narrow it by time, user or status (an SKU does not count)."
            )
            raise Problem(422, "invalid-request", said, field="sort") from None
        more = len(found) > limit
        return json_response(
            {
                "orders": [page.shown for page in found[:limit]],
                "nextCursor": encode_cursor(found[limit - 1].place) if more else None,
            }
        )

    # Behind the list: an id may have slashes, so this also fits `/api/orders/`.
    @routes.get(
        "/api/orders/{order_id:path}",
        summary="One order: status, items, reason, timeline",
        openapi_extra=READ_OWN,
    )
    def get_order(order_id: str, owner: Owner) -> Response:  # pyright: ignore[reportUnusedFunction]
        page = store.get([order_id]).get(order_id)
        if page is None or owner not in (None, page.get("owner")):
            raise Problem(404, "unknown-order", f"There is no order {order_id} (yet).")
        return json_response(page)

    return routes


def encode_cursor(place: Place) -> str:
    """Return a cursor that goes on behind this place."""
    return base64.urlsafe_b64encode(msgspec.json.encode(place)).decode().rstrip("=")


def decode_cursor(cursor: str, sort: Sort = "-created") -> Place:
    """Read a cursor. Raises Problem for one that is not ours, or of a list sorted otherwise."""
    kind = timedelta if sort.endswith("took") else datetime
    try:
        place = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
        return msgspec.json.decode(place, type=tuple[kind, str])
    except (binascii.Error, msgspec.DecodeError, ValueError):
        said = "The cursor is not one that this service gave; start again without it."
        raise Problem(422, "invalid-request", said, field="cursor") from None


def _status(name: str | None) -> Status | None:
    if name is None:
        return None
    try:
        return Status[name.upper()]
    except KeyError:
        known = ", ".join(status.name for status in Status)
        said = f"There is no status {name!r}; there are {known}."
        raise Problem(422, "invalid-request", said, field="status") from None
