"""Numbers over HTTP."""

from datetime import UTC, datetime, timedelta
from typing import Annotated

from fastapi import APIRouter, Query, Response

from orderstream.analytics.store import CountStore
from orderstream.runtime.clock import Clock
from orderstream.runtime.web import json_response


def analytics_routes(store: CountStore, clock: Clock) -> APIRouter:
    """Summary, orders per minute, best sellers."""
    routes = APIRouter(tags=["analytics"])

    @routes.get("/api/analytics/summary", summary="Orders by outcome, and decision latency")
    def summary() -> Response:  # pyright: ignore[reportUnusedFunction]
        return json_response(store.summary())

    @routes.get("/api/analytics/timeseries", summary="Orders by outcome per minute")
    def timeseries(  # pyright: ignore[reportUnusedFunction]
        since: Annotated[datetime | None, Query(alias="from")] = None,
        until: Annotated[datetime | None, Query(alias="to")] = None,
    ) -> Response:
        end = _utc(until) or clock() + timedelta(minutes=1)
        begin = _utc(since) or end - timedelta(hours=1)
        return json_response({"minutes": store.timeseries(begin, end)})

    @routes.get("/api/analytics/top", summary="The SKUs that sold most")
    def top(limit: Annotated[int, Query(ge=1, le=1000)] = 10) -> Response:  # pyright: ignore[reportUnusedFunction]
        return json_response({"skus": store.top(limit)})

    return routes


def _utc(at: datetime | None) -> datetime | None:
    return at.replace(tzinfo=UTC) if at is not None and at.tzinfo is None else at
