"""Every page, at both widths: it is there, it is whole, and everybody can use it."""

import re
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from tests.browser.conftest import NARROW, WIDE, Open
from tests.flow.installation import Installation
from tests.waiting import until

PAGES = {
    "": "Overview",
    "orders": "Orders",
    "stock": "Stock",
    "dead-letters": "Dead letters",
    "topics": "Topics",
    "topics/order.created": "order.created",
    "consumers": "Consumers",
    "consumers/orderstream-inventory": "orderstream-inventory",
    "notifications": "Notifications",
    "analytics": "Analytics",
    "audit": "Audit log",
}


@pytest.fixture(scope="module", autouse=True)
def orders(house: Installation) -> list[int]:
    """Something to show: orders of each kind."""
    kinds = [("MUG", 2), ("RARE-1", 9), ("FAIL", 1), ("ABC-001", 1)]
    ids = [
        house.place({"userId": 7, "items": [{"sku": sku, "qty": qty}]}).json()["orderId"]
        for sku, qty in kinds
    ]
    assert [house.decided(i)["status"] for i in ids] == [
        "CONFIRMED",
        "REJECTED",
        "FAILED",
        "CONFIRMED",
    ]
    return ids


def faults_of(page: Page) -> list[dict[str, Any]]:
    """Return what axe-core finds that keeps people from using the page."""
    found = Axe().run(page).response["violations"]
    return [{"id": one["id"], "at": [n["html"] for n in one["nodes"][:3]]} for one in found]


def is_too_wide(page: Page) -> bool:
    script = "document.documentElement.scrollWidth > document.documentElement.clientWidth"
    return page.evaluate(script)


@pytest.mark.parametrize("viewport", [WIDE, NARROW], ids=["1280", "390"])
@pytest.mark.parametrize("path", list(PAGES))
def test_a_page(house: Installation, open_page: Open, path: str, viewport: dict[str, int]) -> None:
    page = open_page(house.url("console"), viewport)
    page.goto(f"/#/{path}")
    expect(page.get_by_role("heading", level=1)).to_have_text(PAGES[path])
    expect(page.locator("main .empty", has_text="…")).to_have_count(0)
    assert not is_too_wide(page)
    assert faults_of(page) == []


@pytest.mark.parametrize("path", ["", "orders", "analytics"])
def test_a_page_in_dark_colours(house: Installation, open_page: Open, path: str) -> None:
    page = open_page(house.url("console"), color_scheme="dark")
    page.goto(f"/#/{path}")
    expect(page.get_by_role("heading", level=1)).to_have_text(PAGES[path])
    assert faults_of(page) == []


def test_colours_are_kept(house: Installation, open_page: Open) -> None:
    page = open_page(house.url("console"), color_scheme="light")
    page.goto("/")
    page.get_by_role("button", name="Dark colours").click()
    page.reload()
    expect(page.get_by_role("button", name="Light colours")).to_be_visible()
    assert page.locator("html").get_attribute("data-theme") == "dark"


def test_the_overview_shows_what_flows(house: Installation, open_page: Open) -> None:
    page = open_page(house.url("console"))
    page.goto("/")
    for name in ("order", "inventory", "view", "notification", "analytics", "kafka"):
        expect(page.get_by_label("Health").get_by_text(name, exact=True)).to_be_visible()
    expect(page.locator(".figure", has_text="decision p50").locator("b")).to_contain_text("ms")
    expect(page.locator(".figure", has_text="open dead letters").locator("b")).to_have_text("1")
    expect(page.locator(".chart canvas")).to_have_count(4)


def test_the_overview_moves_by_itself(house: Installation, open_page: Open) -> None:
    page = open_page(house.url("console"))
    page.goto("/")
    accepted = page.locator(".figure", has_text="accepted /s").locator("b")
    expect(accepted).to_have_text("0")

    def moves() -> bool:
        house.place({"userId": 7, "items": [{"sku": "MUG", "qty": 1}]})
        return accepted.inner_text() != "0"

    until(moves, what="the overview shows that orders come")


def test_topics_have_their_size_on_disk(house: Installation, open_page: Open) -> None:
    page = open_page(house.url("console"))
    page.goto("/#/topics")
    row = page.get_by_role("row", name="order.created 4")
    expect(row.get_by_role("cell").last).to_have_text(re.compile(r"^[\d,.]+ [KM]?i?B$"))


def test_keys_lead_everywhere(house: Installation, open_page: Open) -> None:
    page = open_page(house.url("console"))
    page.goto("/")
    expect(page.get_by_role("heading", level=1)).to_have_text("Overview")
    keys = {"o": "Orders", "s": "Stock", "d": "Dead letters", "t": "Topics", "c": "Consumers"}
    for key, title in (keys | {"n": "Notifications", "a": "Analytics", "h": "Overview"}).items():
        page.keyboard.press("g")
        page.keyboard.press(key)
        expect(page.get_by_role("heading", level=1)).to_have_text(title)
    page.keyboard.press("g")
    page.keyboard.press("o")
    expect(page.get_by_label("order id")).to_be_visible()
    page.keyboard.press("/")
    expect(page.get_by_label("order id")).to_be_focused()
    page.keyboard.press("Escape")
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_contain_text("search on this page")


def test_times_are_local_and_utc_on_hover(
    house: Installation, open_page: Open, orders: list[int]
) -> None:
    page = open_page(house.url("console"), timezone_id="Asia/Seoul")
    page.goto(f"/#/orders/{orders[0]}")
    placed = page.get_by_label("What it is").locator("time").first
    utc = house.decided(orders[0])["createdAt"]
    expect(placed).to_have_attribute("datetime", utc)
    expect(placed).to_have_attribute("title", utc.replace("T", " ").replace("Z", " UTC"))
    hour = (int(utc[11:13]) + 9) % 24
    expect(placed).to_contain_text(f"{hour:02}:{utc[14:16]}")
