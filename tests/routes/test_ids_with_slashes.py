"""Ids and SKUs of any characters can be read back, and none is taken for another route."""

from collections.abc import Iterator
from urllib.parse import quote

import pytest
from fastapi import FastAPI

from orderstream.inventory.api import stock_routes
from orderstream.inventory.store_postgres import PostgresStock
from orderstream.order_view.api import view_routes
from orderstream.order_view.rules import Seen, fold
from orderstream.order_view.store_postgres import PostgresView
from orderstream.runtime.database import Database
from orderstream.runtime.web import web_app
from tests.builders import NOON, an_order
from tests.routes.asking import ask, problem_of

TEXTS = ("a/b c", "/a", "a/", "a//b", "x/adjust", "adjust", "100%", "a%2Fb", "a?b#c", "é/ü", "..")


def encoded(text: str) -> str:
    """Encode every character that can be; dots too, or `..` would be the folder above."""
    return quote(text, safe="").replace(".", "%2E")


@pytest.fixture
def orders(dsn: str) -> Iterator[FastAPI]:
    """The order view's API over a database with one order for each of TEXTS."""
    database = Database(dsn, "order_view")
    view = PostgresView(database)
    seen = [
        Seen(an_order(order_id=text), "order.created", NOON, "order.created", 0, offset)
        for offset, text in enumerate(TEXTS)
    ]
    with database.transaction() as tx:
        view.fold_in(tx, fold(seen).values())
    app = web_app("orders", {})
    app.include_router(view_routes(view))
    yield app
    database.close()


@pytest.fixture
def stock(dsn: str) -> Iterator[FastAPI]:
    """Inventory's API over a database without stock."""
    database = Database(dsn, "inventory")
    app = web_app("stock", {})
    app.include_router(stock_routes(PostgresStock(database)))
    yield app
    database.close()


class TestOrders:
    @pytest.mark.parametrize("text", TEXTS)
    def test_an_order_is_found_by_its_encoded_id(self, orders: FastAPI, text: str) -> None:
        answer = ask(orders, "GET", f"/api/orders/{encoded(text)}")
        assert answer.status_code == 200
        assert answer.json()["orderId"] == text

    def test_an_unknown_id_with_a_slash_is_an_unknown_order(self, orders: FastAPI) -> None:
        answer = ask(orders, "GET", "/api/orders/a%2Fb")
        assert (answer.status_code, problem_of(answer)) == (404, "unknown-order")

    @pytest.mark.parametrize("path", ["/api/orders", "/api/orders/"])
    def test_no_id_is_the_list(self, orders: FastAPI, path: str) -> None:
        answer = ask(orders, "GET", path)
        assert answer.status_code == 200
        assert {order["orderId"] for order in answer.json()["orders"]} == set(TEXTS)

    def test_the_document_names_the_id_without_its_converter(self, orders: FastAPI) -> None:
        assert set(orders.openapi()["paths"]) >= {"/api/orders", "/api/orders/{order_id}"}


class TestStock:
    @pytest.mark.parametrize("text", TEXTS)
    def test_what_is_set_is_read_back_and_adjusted(self, stock: FastAPI, text: str) -> None:
        path = f"/api/stock/{encoded(text)}"
        put = ask(stock, "PUT", path, json={"onHand": 5})
        assert (put.status_code, put.json()["sku"], put.json()["onHand"]) == (200, text, 5)
        adjusted = ask(stock, "POST", f"{path}/adjust", json={"change": -2})
        assert (adjusted.status_code, adjusted.json()["sku"]) == (200, text)
        got = ask(stock, "GET", path)
        assert (got.status_code, got.json()["sku"], got.json()["onHand"]) == (200, text, 3)

    def test_each_text_is_a_sku_of_its_own(self, stock: FastAPI) -> None:
        for on_hand, text in enumerate(TEXTS):
            ask(stock, "PUT", f"/api/stock/{encoded(text)}", json={"onHand": on_hand})
        for on_hand, text in enumerate(TEXTS):
            got = ask(stock, "GET", f"/api/stock/{encoded(text)}")
            assert got.json()["onHand"] == on_hand

    def test_adjust_of_an_unknown_sku_with_a_slash_is_an_unknown_sku(self, stock: FastAPI) -> None:
        answer = ask(stock, "POST", "/api/stock/a%2Fb/adjust", json={"change": 1})
        assert (answer.status_code, problem_of(answer)) == (404, "unknown-sku")

    def test_import_is_no_sku(self, stock: FastAPI) -> None:
        answer = ask(stock, "POST", "/api/stock:import", content=b"sku,onHand\na/b c,7\n")
        assert (answer.status_code, answer.json()) == (200, {"imported": 1})
        assert ask(stock, "GET", "/api/stock/a%2Fb%20c").json()["onHand"] == 7

    @pytest.mark.parametrize("path", ["/api/stock", "/api/stock/"])
    def test_no_sku_is_the_list(self, stock: FastAPI, path: str) -> None:
        answer = ask(stock, "GET", path)
        assert (answer.status_code, answer.json()) == (200, {"stock": [], "nextAfter": None})

    @pytest.mark.parametrize("sku", ["", "MUG%0A", "MUG%09"])
    def test_what_is_no_sku_is_refused_and_changes_nothing(self, stock: FastAPI, sku: str) -> None:
        ask(stock, "PUT", "/api/stock/MUG", json={"onHand": 5})
        answer = ask(stock, "PUT", f"/api/stock/{sku}", json={"onHand": 9})
        assert (answer.status_code, problem_of(answer)) == (422, "invalid-request")
        assert ask(stock, "GET", "/api/stock/MUG").json()["onHand"] == 5
