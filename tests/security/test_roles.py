"""Every route of every service has its roles, and docs/security.md says which."""

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import httpx
import pytest
from fastapi import FastAPI

from orderstream.analytics.api import analytics_routes
from orderstream.dead_letters.api import dead_letter_routes
from orderstream.dead_letters.desk import Done
from orderstream.inventory.api import stock_routes
from orderstream.notification.api import notice_routes
from orderstream.order_view.api import view_routes
from orderstream.order_view.api_feed import feed_routes
from orderstream.orders.api import PLACED_BY, OrdersApi
from orderstream.orders.api_bulk import bulk_routes
from orderstream.orders.api_life import life_routes
from orderstream.runtime.access import roles_of
from orderstream.runtime.keys import OPEN, ROLES, Keys, Role, new_key
from orderstream.runtime.levels import logger_routes
from orderstream.runtime.web import web_app

PAGE = Path(__file__).parents[2] / "docs" / "security.md"
MADE = {role: new_key(f"the-{role}", role) for role in ROLES}
NOTHING = cast("Any", None)  # A request that gets through to it fails with 500, and so is told.

ROUTES = (
    feed_routes(NOTHING, NOTHING, NOTHING),
    bulk_routes(NOTHING),
    life_routes(NOTHING),
    view_routes(NOTHING),
    dead_letter_routes(NOTHING),
    stock_routes(NOTHING),
    notice_routes(NOTHING, {}, NOTHING, NOTHING),
    analytics_routes(NOTHING, NOTHING, NOTHING),
    logger_routes(),
)
BODIES: dict[str, Any] = {
    "/api/stock/{sku:path}": {"onHand": 1},
    "/api/stock/{sku:path}/adjust": {"change": 1},
    "/api/dead-letters/{place}/discard": {"note": "x"},
    "/api/loggers/{name}": {"level": None},
}


def service() -> OrdersApi:
    """All of the services' routes in one, with a key of each role."""
    keys = Keys([entry for _, entry in MADE.values()])
    app: FastAPI = web_app("all", {}, keys=keys)
    for routes in ROUTES:
        app.include_router(routes)
    return OrdersApi(app, NOTHING, NOTHING, 1, keys)


def routes() -> Iterator[tuple[str, str, tuple[Role, ...]]]:
    """Yield every route: method, path, roles."""
    yield "POST", "/api/orders", PLACED_BY
    for router in ROUTES:
        for route in cast("list[Any]", router.routes):
            if route.include_in_schema:
                for method in route.methods:
                    yield method, route.path, roles_of(route)


def ask(method: str, path: str, role: Role | None, **more: Any) -> httpx.Response:
    async def send() -> httpx.Response:
        transport = httpx.ASGITransport(service(), raise_app_exceptions=False)
        signed = {} if role is None else {"x-api-key": MADE[role][0]}
        async with httpx.AsyncClient(transport=transport, base_url="http://shop.example") as client:
            return await client.request(method, path, headers=signed, **more)

    return asyncio.run(send())


@pytest.mark.parametrize(("method", "path", "roles"), sorted(routes()))
class TestRoute:
    def test_is_for_its_roles_and_nobody_else(
        self, method: str, path: str, roles: tuple[Role, ...]
    ) -> None:
        where = re.sub(r"\{place\}", "order.created.DLT[0]@0", path)
        where = re.sub(r"\{\w+(:path)?\}", "x", where)
        content: dict[str, Any] = {"json": BODIES.get(path, {})} if method != "GET" else {}
        assert ask(method, where, None, **content).status_code == 401
        for role in ROLES:
            status = ask(method, where, role, **content).status_code
            if role in roles:
                assert status not in (401, 403), role
            else:
                assert status == 403, role

    def test_is_in_the_documentation_with_its_roles(
        self, method: str, path: str, roles: tuple[Role, ...]
    ) -> None:
        shown = re.sub(":path", "", path)
        row = f"| `{method} {shown}` | {', '.join(roles)} |"
        assert row in PAGE.read_text("utf-8")


class TestWithoutAKey:
    @pytest.mark.parametrize("path", sorted(OPEN - {"/docs/oauth2-redirect"}))
    def test_health_and_the_documentation_are_open(self, path: str) -> None:
        assert ask("GET", path, None).status_code == 200

    @pytest.mark.parametrize("path", ["/", "/nowhere", "/healthz/", "//healthz", "/api/orders/"])
    def test_nothing_else_is_and_nobody_learns_what_there_is(self, path: str) -> None:
        answer = ask("GET", path, None)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == "Bearer"
        assert answer.json()["type"] == "urn:orderstream:problem:unauthorized"

    def test_an_order_is_not_read(self) -> None:
        answer = ask("POST", "/orders", None, content=b"{")
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == "Bearer"


class TestWhoDidIt:
    def test_is_the_name_of_the_key(self) -> None:
        class Desk:
            by: str | None = None

            @property
            def ledger(self) -> Any:
                return self

            def oldest(self, *_: object) -> list[Any]:
                return []

            def read(self, _places: object) -> list[Any]:
                return []

            def handle(self, _letters: object, change: Any) -> Any:
                self.by = change.by
                return Done()

        for keys, signed, by in (
            (Keys([MADE["operator"][1]]), {"x-api-key": MADE["operator"][0]}, "the-operator"),
            (None, {}, "api"),
        ):
            desk = Desk()
            app = web_app("dead letters", {}, keys=keys)
            app.include_router(dead_letter_routes(cast("Any", desk)))

            async def send(app: FastAPI = app, signed: dict[str, str] = signed) -> int:
                transport = httpx.ASGITransport(app)
                async with httpx.AsyncClient(
                    transport=transport, base_url="http://localhost"
                ) as http:
                    path = "/api/dead-letters:redrive"
                    return (await http.post(path, json={}, headers=signed)).status_code

            assert asyncio.run(send()) == 200
            assert desk.by == by
