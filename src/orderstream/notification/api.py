"""Notices over HTTP."""

from typing import Annotated

from fastapi import APIRouter, Query, Response

from orderstream.notification.store import NoticeStore
from orderstream.runtime.web import json_response


def notice_routes(store: NoticeStore) -> APIRouter:
    """What was sent, and what was not."""
    routes = APIRouter(tags=["notifications"])

    @routes.get("/api/notifications", summary="Notices, newest first")
    def list_notices(  # pyright: ignore[reportUnusedFunction]
        orderId: Annotated[str | None, Query(max_length=128)] = None,
        status: Annotated[str | None, Query(pattern="^(SENT|FAILED)$")] = None,
        limit: Annotated[int, Query(ge=1, le=500)] = 50,
    ) -> Response:
        return json_response({"notifications": store.find(orderId, status, limit)})

    return routes
