"""Everything that an operator can do, done by hand, and what came of it."""

from pathlib import Path
from urllib.parse import quote

import pytest
from playwright.sync_api import Page, expect

from orderstream.local import kafka
from orderstream.runtime.admin import Admin
from tests.browser.conftest import NARROW, Open
from tests.flow.installation import Installation
from tests.waiting import until


def placed(house: Installation, sku: str = "MUG", qty: int = 1) -> int:
    order_id = house.place({"userId": 9, "items": [{"sku": sku, "qty": qty}]}).json()["orderId"]
    house.decided(order_id)
    return order_id


def dialog(page: Page, button: str) -> None:
    page.get_by_role("dialog").get_by_role("button", name=button).click()


@pytest.fixture
def page(house: Installation, open_page: Open) -> Page:
    return open_page(house.url("console"))


class TestOrders:
    @pytest.mark.parametrize("narrow", [False, True])
    def test_one_is_placed_by_form_and_cancelled(
        self, house: Installation, open_page: Open, narrow: bool
    ) -> None:
        options = {"viewport": NARROW} if narrow else {}
        page = open_page(house.url("console"), **options)
        page.goto("/#/orders")
        page.get_by_role("button", name="Place an order").click()
        page.get_by_label("items, one a line").fill("MUG 3\nT-SHIRT 1")
        dialog(page, "Place it")
        expect(page.get_by_label("What it is").get_by_text("CONFIRMED")).to_be_visible()
        expect(page.get_by_label("Timeline")).to_contain_text("inventory.reserved")
        page.get_by_role("button", name="Cancel").click()
        page.get_by_label("reason").fill("a slip")
        dialog(page, "Cancel the order")
        expect(page.get_by_label("What it is").get_by_text("CANCELLED")).to_be_visible()
        expect(page.get_by_label("Timeline")).to_contain_text("a slip")

    def test_one_is_fulfilled(self, house: Installation, page: Page) -> None:
        order_id = placed(house)
        page.goto(f"/#/orders/{order_id}")
        page.get_by_role("button", name="Fulfil").click()
        dialog(page, "Fulfil it")
        expect(page.get_by_label("What it is").get_by_text("FULFILLED")).to_be_visible()

    def test_an_event_shows_its_record_and_headers(self, house: Installation, page: Page) -> None:
        page.goto(f"/#/orders/{placed(house)}")
        page.get_by_text("record and headers").first.click()
        expect(page.get_by_label("Timeline")).to_contain_text("ce_type")
        expect(page.get_by_label("Timeline").locator("pre").first).to_contain_text('"orderId"')

    def test_are_found_by_id_user_sku_and_status(self, house: Installation, page: Page) -> None:
        order_id = placed(house, "RARE-1", 9)
        page.goto("/#/orders")
        page.get_by_label("SKU").fill("RARE-1")
        page.get_by_label("status").select_option("REJECTED")
        page.get_by_label("user").fill("9")
        page.get_by_role("button", name="Search").click()
        expect(page.get_by_role("link", name=str(order_id), exact=True)).to_be_visible()
        expect(page.locator("main").get_by_text("CONFIRMED", exact=True)).to_have_count(1)
        page.get_by_label("order id").fill(str(order_id))
        page.get_by_role("button", name="Search").click()
        expect(page.get_by_role("heading", level=1)).to_have_text(f"Order {order_id}")

    def test_are_sorted_by_the_server(self, house: Installation, page: Page) -> None:
        order_id = placed(house)
        page.goto("/#/orders")
        first = page.get_by_role("table").locator("tbody tr").first
        expect(first).to_contain_text(str(order_id))
        for sort in ("oldest first", "slowest decision first"):
            page.get_by_label("sorted").select_option(sort)
            page.get_by_role("button", name="Search").click()
            expect(page.locator(".head p", has_text=sort)).to_be_visible()
        slowest = f"{house.url('order')}/api/orders?sort=-took&limit=1"
        expected = house.http.get(slowest).json()["orders"][0]["orderId"]
        expect(first.get_by_role("link", name=str(expected), exact=True)).to_be_visible()

    def test_a_new_one_comes_by_itself(self, house: Installation, page: Page) -> None:
        page.goto("/#/orders")
        expect(page.get_by_role("table")).to_be_visible()
        order_id = placed(house)
        expect(page.get_by_role("link", name=str(order_id), exact=True)).to_be_visible()

    def test_what_is_being_typed_stays_while_the_list_moves(
        self, house: Installation, page: Page
    ) -> None:
        page.goto("/#/orders")
        expect(page.get_by_role("table")).to_be_visible()
        page.get_by_label("user").fill("half a na")
        page.get_by_label("status").select_option("FAILED")
        order_id = placed(house)
        expect(page.get_by_role("link", name=str(order_id), exact=True)).to_be_visible()
        expect(page.get_by_label("user")).to_have_value("half a na")
        expect(page.get_by_label("status")).to_have_value("FAILED")

    def test_are_exported_as_they_fit(
        self, house: Installation, page: Page, tmp_path: Path
    ) -> None:
        order_id = placed(house, "T-SHIRT")
        page.goto("/#/orders?sku=T-SHIRT")
        for form, sign in (("CSV", f"{order_id},CONFIRMED"), ("NDJSON", f'"orderId": {order_id}')):
            with page.expect_download() as download:
                page.get_by_role("link", name=form, exact=True).click()
            download.value.save_as(tmp_path / form)
            text = (tmp_path / form).read_text()
            assert sign in text
            assert "RARE-1" not in text


class TestStock:
    def test_is_set_and_adjusted(self, page: Page) -> None:
        page.goto("/#/stock")
        page.get_by_role("button", name="New SKU").click()
        page.get_by_role("dialog").get_by_label("SKU").fill("BY-HAND")
        page.get_by_role("dialog").get_by_label("on hand").fill("5")
        dialog(page, "Set it")
        row = page.get_by_role("row", name="BY-HAND")
        expect(row).to_contain_text("low")
        row.get_by_role("button", name="Adjust BY-HAND").click()
        page.get_by_label("what came in").fill("20")
        dialog(page, "Adjust it")
        expect(row).to_contain_text("25")

    def test_less_than_is_reserved_is_refused_with_the_reason(
        self, house: Installation, open_page: Open
    ) -> None:
        placed(house, "ABC-002", 4)
        page = open_page(house.url("console"), expected=lambda fault: "409" in fault)
        page.goto("/#/stock/ABC-002")
        page.get_by_role("button", name="Set", exact=True).click()
        page.get_by_role("dialog").get_by_label("on hand").fill("1")
        dialog(page, "Set it")
        expect(page.locator(".toast.bad")).to_contain_text("reserved")

    def test_an_import_shows_first_what_changes(
        self, house: Installation, open_page: Open, tmp_path: Path
    ) -> None:
        page = open_page(house.url("console"), expected=lambda fault: "404" in fault)
        file = tmp_path / "stock.csv"
        file.write_text("sku,onHand\nMUG,400000\nIMPORTED,7\n")
        page.goto("/#/stock")
        page.get_by_role("button", name="Import CSV").click()
        page.get_by_label("file").set_input_files(file)
        dialog(page, "Show what changes")
        expect(page.get_by_role("dialog").get_by_role("row", name="IMPORTED")).to_contain_text(
            "new"
        )
        assert house.http.get(f"{house.url('inventory')}/api/stock/IMPORTED").status_code == 404
        dialog(page, "Import all of them")
        expect(page.get_by_role("row", name="IMPORTED")).to_contain_text("7")

    def test_says_who_holds_it(self, house: Installation, page: Page) -> None:
        order_id = placed(house, "laptop", 2)
        page.goto("/#/stock/laptop")
        holders = page.get_by_label("Who holds it")
        expect(holders.get_by_role("link", name=str(order_id), exact=True)).to_be_visible()


class TestDeadLetters:
    def test_one_is_edited_and_redriven(self, house: Installation, page: Page) -> None:
        order_id = placed(house, "FAIL")
        page.goto("/#/dead-letters")
        group = page.get_by_role("row", name=str(order_id))
        group.get_by_role("link").last.click()
        expect(page.get_by_label("Payload")).to_contain_text('"FAIL"')
        expect(page.get_by_label("Payload")).to_contain_text("kafka_dlt-original-topic")
        expect(page.get_by_label("Stack trace")).to_contain_text("DrillFailure")
        page.get_by_role("button", name="Edit and redrive").click()
        value = page.get_by_role("dialog").get_by_label("value")
        value.fill(value.input_value().replace("FAIL", "MUG"))
        dialog(page, "Redrive the edited record")
        expect(page.get_by_label("What was done")).to_contain_text("at")
        until(lambda: house.page(order_id)["status"] == "CONFIRMED")  # pyright: ignore[reportOptionalSubscript]

    def test_many_are_discarded_with_progress_and_a_note(
        self, house: Installation, page: Page
    ) -> None:
        ids = [placed(house, "FAIL") for _ in range(3)]
        page.goto("/#/dead-letters")
        expect(page.get_by_role("row", name=str(ids[-1]))).to_be_visible()
        page.get_by_role("button", name="Discard all that fit").click()
        page.get_by_role("dialog").get_by_label("note").fill("a drill")
        dialog(page, "Discard them")
        expect(page.get_by_text("No dead letter fits")).to_be_visible()
        assert house.page(ids[0])["status"] == "FAILED"  # pyright: ignore[reportOptionalSubscript]

    def test_those_of_one_cause_are_redriven_together(
        self, house: Installation, page: Page
    ) -> None:
        ids = [placed(house, "FAIL") for _ in range(2)]
        cause = page.get_by_label("DrillFailure: order ... asks for the drill SKU FAIL (2)")
        page.goto("/#/dead-letters")
        expect(cause).to_be_visible()
        cause.get_by_role("button", name="Redrive").click()
        expect(page.get_by_role("dialog")).to_contain_text("Redrive 2 dead letters?")
        dialog(page, "Redrive them")
        expect(page.locator(".toast", has_text="2 redriven.")).to_be_visible()
        row = page.get_by_role("row", name=str(ids[0]))  # It fails again: the drill is still on.
        expect(row.get_by_role("cell", name="2", exact=True)).to_be_visible()


class TestTopics:
    def test_a_record_is_written_found_and_seen_live(self, house: Installation, page: Page) -> None:
        servers = kafka.status(house.home).bootstrap_servers
        Admin({"bootstrap.servers": servers}).create(["notes"], 1)
        page.goto("/#/topics/notes")
        page.get_by_role("button", name="Live tail").click()
        expect(page.get_by_role("button", name="Stop the live tail")).to_be_visible()
        expect(page.get_by_text("0 shown")).to_be_visible()
        page.get_by_role("button", name="Produce a record").click()
        box = page.get_by_role("dialog")
        box.get_by_label("key (may be empty)").fill("k-1")
        box.get_by_label("value", exact=True).fill('{"said":"hello"}')
        box.get_by_label("headers").fill("source=by hand")
        dialog(page, "Write it")
        expect(page.get_by_role("row", name="k-1")).to_be_visible()
        page.get_by_role("button", name="Stop the live tail").click()
        page.get_by_label("header has").fill("source=by")
        page.get_by_label("text has").fill("HELLO")
        page.get_by_role("button", name="Search").click()
        row = page.get_by_role("row", name="k-1")
        row.locator("summary").click()
        expect(row.locator("pre")).to_contain_text('"said": "hello"')
        page.get_by_label("text has").fill("nothing of the kind")
        page.get_by_role("button", name="Search").click()
        expect(page.get_by_text("No record fits.")).to_be_visible()


class TestConsumers:
    def test_a_service_is_replayed_after_a_dry_run(self, house: Installation, page: Page) -> None:
        order_id = placed(house)
        page.goto("/#/consumers/orderstream-view")
        page.get_by_role("button", name="Replay").click()
        dialog(page, "Show what it would do")
        expect(page.get_by_role("dialog")).to_contain_text("emptied and built anew")
        assert house.page(order_id) is not None
        dialog(page, "Do it")
        expect(page.locator(".toast", has_text="view reads again")).to_be_visible(timeout=60_000)
        until(lambda: (house.page(order_id) or {}).get("status") == "CONFIRMED")


class TestAuditLog:
    def test_says_who_did_what(self, house: Installation, page: Page) -> None:
        order_id = placed(house)
        page.goto(f"/#/orders/{order_id}")
        page.get_by_role("button", name="Fulfil").click()
        dialog(page, "Fulfil it")
        expect(page.get_by_label("What it is").get_by_text("FULFILLED")).to_be_visible()
        page.goto("/#/audit")
        rows = page.get_by_role("row", name=f"/api/orders/{order_id}/fulfil")
        expect(rows).to_have_count(2)
        expect(rows.first).to_contain_text("done")
        expect(rows.last).to_contain_text("asked")
        expect(rows.first).to_contain_text("anybody at 127.0.0.1")


SCRIPT = "<script>window.hacked=1</script><img src=x onerror=window.hacked=1>"


class TestPayloads:
    def test_are_never_run_wherever_they_are_shown(self, house: Installation, page: Page) -> None:
        sku = SCRIPT[:32]
        level = f"{house.url('inventory')}/api/stock/{quote(sku, safe='')}"
        assert house.http.put(level, json={"onHand": 5}).status_code == 200
        order = {"orderId": SCRIPT, "userId": SCRIPT, "items": [{"sku": sku, "qty": 1}]}
        assert house.place(order).status_code == 202
        failing = {"orderId": "x" + SCRIPT, "userId": SCRIPT, "items": [{"sku": "FAIL", "qty": 1}]}
        assert house.place(failing).status_code == 202
        page.goto("/#/orders")
        expect(page.get_by_role("link", name=SCRIPT, exact=True)).to_be_visible()
        page.get_by_role("link", name=SCRIPT, exact=True).click()
        expect(page.get_by_role("heading", level=1)).to_have_text(f"Order {SCRIPT}")
        page.get_by_text("record and headers").first.click()
        expect(page.get_by_label("Timeline")).to_contain_text("ce_type")
        page.get_by_role("button", name="Cancel").click()
        page.get_by_label("reason").fill(SCRIPT)
        dialog(page, "Cancel the order")
        expect(page.get_by_label("Timeline")).to_contain_text(SCRIPT)
        for path, seen in (
            ("stock", sku),
            ("dead-letters", "x" + SCRIPT),
            ("topics/order.created", SCRIPT),
            ("notifications", SCRIPT),
            ("audit", "script"),
        ):
            page.goto(f"/#/{path}")
            expect(page.locator("main").get_by_text(seen).first).to_be_visible()
        assert page.evaluate("window.hacked") is None
