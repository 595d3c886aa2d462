"""Numbers over HTTP."""

from datetime import timedelta
from typing import Annotated

from fastapi import APIRouter, Query, Response

from orderstream.analytics.store import CountStore
from orderstream.runtime.clock import Clock
from orderstream.runtime.web import Time, json_response


def analytics_routes(store: CountStore, clock: Clock) -> APIRouter:
    """Summary, orders per minute, best sellers."""
    routes = APIRouter(tags=["analytics"])

    @routes.get("/api/analytics/summary", summary="Orders by outcome, and decision latency")
    def summary() -> Response:  # pyright: ignore[reportUnusedFunction]
        return json_response(store.summary())

    @routes.get("/api/analytics/timeseries", summary="Orders by outcome per minute")
    def timeseries(  # pyright: ignore[reportUnusedFunction]
        since: Annotated[Time | None, Query(alias="from")] = None,
        until: Annotated[Time | None, Query(alias="to")] = None,
    ) -> Response:
        end = until or clock() + timedelta(minutes=1)
        begin = since or end - timedelta(hours=1)
        return json_response({"minutes": store.timeseries(begin, end)})

    @routes.get("/api/analytics/top", summary="The SKUs that sold most")
    def top(limit: Annotated[int, Query(ge=1, le=1000)] = 10) -> Response:  # pyright: ignore[reportUnusedFunction]
        return json_response({"skus": store.top(limit)})

    return routes
