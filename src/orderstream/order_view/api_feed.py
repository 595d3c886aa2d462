"""Events as they happen, over HTTP: server-sent events."""

from collections.abc import Awaitable, Callable
from typing import Annotated, Any

from fastapi import APIRouter, Header
from fastapi.responses import StreamingResponse

from orderstream.order_view.feed import Feed
from orderstream.order_view.packed import is_taken
from orderstream.order_view.watching import Watching
from orderstream.runtime.access import READ_OWN, Owner
from orderstream.runtime.described import answer_of
from orderstream.runtime.web import Problem, event_stream

LastEventId = Annotated[
    str | None, Header(max_length=20_000, description="the last id got before: go on behind it")
]

AcceptEncoding = Annotated[str | None, Header(description="`gzip`: a tenth of the bytes")]

_EVENTS: dict[int | str, dict[str, Any]] = {
    200: answer_of("text/event-stream", "Events as they happen, until the client goes")
}


PageOf = Callable[[str], Awaitable[dict[str, Any] | None]]


def feed_routes(feed: Feed, watching: Watching, page_of: PageOf) -> APIRouter:
    """GET what happens, live."""
    routes = APIRouter(tags=["orders"])

    @routes.get(
        "/api/events",
        summary="Every event, as it happens (server-sent events)",
        response_class=StreamingResponse,
        responses=_EVENTS,
    )
    async def all_events(  # pyright: ignore[reportUnusedFunction]
        last_event_id: LastEventId = None, accept_encoding: AcceptEncoding = None
    ) -> StreamingResponse:
        packed = is_taken(accept_encoding)
        headers = {"vary": "accept-encoding"} | ({"content-encoding": "gzip"} if packed else {})
        return await event_stream(feed.of_all(last_event_id, packed), headers)

    @routes.get(
        "/api/orders/{order_id:path}/events",
        summary="One order's events (server-sent events)",
        openapi_extra=READ_OWN,
    )
    async def order_events(  # pyright: ignore[reportUnusedFunction]
        order_id: str, owner: Owner, last_event_id: LastEventId = None
    ) -> StreamingResponse:
        page = await page_of(order_id)
        if page is None or owner not in (None, page.get("owner")):
            raise Problem(404, "unknown-order", f"There is no order {order_id} (yet).")
        return await event_stream(watching.of_order(str(page["orderId"]), last_event_id))

    return routes
