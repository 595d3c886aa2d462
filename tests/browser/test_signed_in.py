"""With API keys: who gets in, what each role is offered, and what a page of others can do."""

import threading
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from playwright.sync_api import Page, expect

from orderstream.console.sessions import COOKIE
from orderstream.runtime.keys import new_key
from tests.browser.conftest import NARROW, WIDE, Open
from tests.flow.installation import Installation, installation

KEYS = {role: new_key(f"the-{role}", role) for role in ("viewer", "operator")}
# Every action that a page has, by its button; of some a page has one for each row.
ACTIONS = {
    "orders": ["Place an order"],
    "orders/confirmed": ["Cancel", "Fulfil"],
    "stock": ["Import CSV", "New SKU", "Set what is on hand of MUG", "Adjust MUG"],
    "stock/MUG": ["Set", "Adjust"],
    "dead-letters": ["Discard all that fit", "Redrive all that fit", "Discard", "Redrive"],
    "dead-letters/{letter}": ["Discard", "Edit and redrive", "Redrive"],
    "topics/order.created": ["Produce a record"],
    "consumers/orderstream-view": ["Replay"],
    "notifications": ["Opt a customer out or in", "Send failed ones again"],
}


@pytest.fixture(scope="module")
def house() -> Iterator[Installation]:
    """An installation with a key for each role, an order and a dead letter."""
    keys = ",".join(str(entry) for _, entry in KEYS.values())
    with installation(
        "--quiet", ORDERSTREAM_API_KEYS=keys, ORDERSTREAM_RETRY_BACKOFF="0.1"
    ) as running:
        running.http.headers["x-api-key"] = KEYS["operator"][0]
        for order_id, sku in (("confirmed", "MUG"), ("failed", "FAIL")):
            order = {"orderId": order_id, "productId": sku, "quantity": 1}
            assert running.place(order).status_code == 202
        assert running.decided("confirmed")["status"] == "CONFIRMED"
        assert running.decided("failed")["status"] == "FAILED"
        yield running


@pytest.fixture(scope="module")
def letter(house: Installation) -> str:
    found = house.http.get(f"{house.url('order')}/api/dead-letters").json()["deadLetters"]
    return found[0]["place"]


def sign_in(page: Page, key: str) -> None:
    page.goto("/")
    page.get_by_label("API key").fill(key)
    page.get_by_role("button", name="Sign in").click()


def as_role(house: Installation, open_page: Open, role: str, refused: str = "none") -> Page:
    page = open_page(house.url("console"), expected=lambda fault: refused in fault)
    sign_in(page, KEYS[role][0])
    expect(page.get_by_text(f"the-{role} ({role})")).to_be_visible()
    return page


def go(page: Page, path: str) -> None:
    page.goto(f"/#/{path}")
    expect(page.get_by_role("heading", level=1)).to_be_visible()
    expect(page.locator("main .empty", has_text="…")).to_have_count(0)


@pytest.mark.parametrize("viewport", [WIDE, NARROW], ids=["1280", "390"])
def test_a_wrong_key_is_refused_in_words(
    house: Installation, open_page: Open, viewport: dict[str, int]
) -> None:
    page = open_page(house.url("console"), viewport, expected=lambda fault: "401" in fault)
    sign_in(page, "orderstream_wrong")
    expect(page.get_by_role("alert")).to_have_text("This is no key of this installation.")
    page.goto("/#/orders")
    expect(page.get_by_label("API key")).to_be_visible()


def test_a_viewer_sees_every_page_and_is_offered_no_action(
    house: Installation, open_page: Open, letter: str
) -> None:
    page = as_role(house, open_page, "viewer")
    for path, names in ACTIONS.items():
        go(page, path.format(letter=letter))
        for name in names:
            expect(page.locator("main").get_by_role("button", name=name, exact=True)).to_have_count(
                0
            )


def test_an_operator_is_offered_every_action(
    house: Installation, open_page: Open, letter: str
) -> None:
    page = as_role(house, open_page, "operator")
    for path, names in ACTIONS.items():
        go(page, path.format(letter=letter))
        for name in names:
            button = page.locator("main").get_by_role("button", name=name, exact=True)
            expect(button.first).to_be_visible()


def test_what_a_viewer_sends_all_the_same_is_refused(house: Installation, open_page: Open) -> None:
    page = as_role(house, open_page, "viewer", refused="403")
    sent = """async ([method, path, body]) => {
        const headers = { "content-type": "application/json" };
        const said = { method, headers, body: JSON.stringify(body) };
        return (await fetch(path, said)).status;
    }"""
    for method, path, body in (
        ("POST", "/services/order/api/orders/confirmed/cancel", {}),
        ("POST", "/services/order/api/dead-letters:discard", {"note": "no"}),
        ("PUT", "/services/inventory/api/stock/MUG", {"onHand": 1}),
        ("POST", "/console/topics/order.created/records", {"value": "{}"}),
        ("POST", "/console/groups/orderstream-view/reset", {"to": "beginning", "dryRun": False}),
    ):
        assert page.evaluate(sent, [method, path, body]) == 403, path
    assert house.decided("confirmed")["status"] == "CONFIRMED"


def test_what_an_operator_does_bears_the_name_of_the_key(
    house: Installation, open_page: Open
) -> None:
    page = as_role(house, open_page, "operator")
    go(page, "stock")
    page.get_by_role("button", name="New SKU").click()
    page.get_by_role("dialog").get_by_label("SKU").fill("SIGNED")
    page.get_by_role("dialog").get_by_label("on hand").fill("5")
    page.get_by_role("dialog").get_by_role("button", name="Set it").click()
    expect(page.get_by_role("row", name="SIGNED").first).to_be_visible()
    go(page, "audit")
    row = page.get_by_role("row", name="/api/stock/SIGNED").first
    expect(row).to_contain_text("the-operator")
    expect(row).to_contain_text("done")


def test_who_signs_out_is_out(house: Installation, open_page: Open) -> None:
    page = as_role(house, open_page, "operator", refused="401")
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_label("API key")).to_be_visible()
    assert COOKIE not in {cookie.get("name") for cookie in page.context.cookies()}
    page.goto("/#/orders")
    expect(page.get_by_label("API key")).to_be_visible()
    assert page.evaluate("fetch('/console/topics').then((answer) => answer.status)") == 401


FORGED = """<!doctype html><form method="post" enctype="text/plain" action="{to}">
<input name='{{"orderId":"forged","productId":"MUG","quantity":1,"x":"' value='"}}'>
<button>Win</button></form>"""


@contextmanager
def foreign(to: str) -> Generator[int]:
    """Serve a page of somebody else's that sends a form to this address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("content-type", "text/html")
            self.end_headers()
            self.wfile.write(FORGED.format(to=to).encode())

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_port
    server.shutdown()
    thread.join()
    server.server_close()


# Another port of this address is the same site to a browser: it sends the cookie along.
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_form_on_a_page_of_others_does_nothing(
    house: Installation, open_page: Open, host: str
) -> None:
    page = as_role(house, open_page, "operator", refused="403")
    with foreign(f"{house.url('console')}/services/order/api/orders") as port:
        page.goto(f"http://{host}:{port}/")
        with page.expect_response(lambda answer: answer.request.method == "POST") as answered:
            page.get_by_role("button", name="Win").click()
        assert answered.value.status == 403
        sent = answered.value.request.all_headers().get("cookie", "")
        assert (COOKIE in sent) == (host == "127.0.0.1")
    assert house.page("forged") is None
