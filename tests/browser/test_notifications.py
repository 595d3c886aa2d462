"""The page of what customers were told, beside a real web server that takes webhooks or not."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import NARROW, Open
from tests.browser.test_actions import dialog, placed
from tests.flow.installation import Installation, installation
from tests.notification.receivers import SECRET, Hooks, web_server
from tests.waiting import until


@pytest.fixture(scope="module")
def hooks() -> Iterator[Hooks]:
    with web_server() as hooks:
        yield hooks


@pytest.fixture(scope="module")
def house(hooks: Hooks) -> Iterator[Installation]:
    settings = {
        "ORDERSTREAM_WEBHOOK_URLS": f"erp={hooks.address}",
        "ORDERSTREAM_WEBHOOK_SECRET": SECRET,
        "ORDERSTREAM_WEBHOOK_ALLOW_PRIVATE": "1",
        "ORDERSTREAM_NOTIFY_RETRIES": "0.1",
        "ORDERSTREAM_NOTIFY": "log,sms=json://127.0.0.1:9/{phone}",
    }
    with installation("--quiet", home=None, **settings) as running:
        yield running


@pytest.fixture
def page(house: Installation, open_page: Open) -> Page:
    page = open_page(house.url("console"))
    page.goto("/#/notifications")
    return page


def again_button(order_id: int) -> str:
    return f"Send {order_id}:inventory.reserved:erp again"


class TestNotifications:
    def test_one_that_was_given_up_is_sent_again(
        self, house: Installation, page: Page, hooks: Hooks
    ) -> None:
        hooks.answer = lambda _: (500, {})
        order_id = placed(house)
        again = page.get_by_role("button", name=again_button(order_id))
        expect(again).to_be_visible()
        expect(page.locator("main")).to_contain_text("the endpoint answered 500")
        hooks.answer = lambda _: (204, {})
        again.click()
        dialog(page, "Send it")
        expect(page.get_by_text("It will be sent.")).to_be_visible()
        expect(again).to_have_count(0)
        until(lambda: any(told["data"]["orderId"] == order_id for told in hooks.got))

    def test_all_that_were_given_up_are_sent_again(
        self, house: Installation, page: Page, hooks: Hooks
    ) -> None:
        hooks.answer = lambda _: (500, {})
        order_ids = [placed(house) for _ in range(2)]
        for order_id in order_ids:
            again = page.get_by_role("button", name=again_button(order_id))
            expect(again).to_be_visible()
        hooks.answer = lambda _: (204, {})
        page.get_by_role("button", name="Send failed ones again").click()
        dialog(page, "Send them")
        expect(page.get_by_text("2 will be sent.")).to_be_visible()
        expect(page.get_by_role("link", name="0", exact=True).first).to_be_visible()

    def test_who_left_no_number_is_skipped_and_says_so(
        self, house: Installation, page: Page
    ) -> None:
        placed(house)
        page.get_by_label("status").select_option("SKIPPED")
        page.get_by_role("button", name="Search").click()
        expect(page.locator("main")).to_contain_text("ORDERSTREAM_NOTIFY_PHONE is not set")

    @pytest.mark.parametrize("narrow", [False, True])
    def test_a_channel_is_tested(
        self, house: Installation, open_page: Open, hooks: Hooks, narrow: bool
    ) -> None:
        hooks.answer = lambda _: (204, {})
        page = open_page(house.url("console"), **({"viewport": NARROW} if narrow else {}))
        page.goto("/#/notifications")
        page.get_by_role("button", name="Test erp").click()
        dialog(page, "Send a test")
        expect(page.get_by_text("erp took it.")).to_be_visible()

    def test_a_channel_that_was_gone_is_used_again(
        self, house: Installation, page: Page, hooks: Hooks
    ) -> None:
        hooks.answer = lambda _: (410, {})
        placed(house)
        use = page.get_by_role("button", name="Use erp again")
        expect(use).to_be_visible()
        expect(page.get_by_role("region", name="Channels")).to_contain_text("410 Gone")
        use.click()
        dialog(page, "Use it")
        expect(use).to_have_count(0)

    def test_what_a_customer_reads_is_shown_in_their_language(self, page: Page) -> None:
        words = page.get_by_label("What a customer reads")
        expect(words).to_contain_text("Order 100000001 is confirmed")
        words.get_by_label("event").select_option("failed")
        words.get_by_label("language").fill("ko")
        words.get_by_label("language").press("Enter")
        expect(words).to_contain_text("주문 100000001")

    def test_a_customer_opts_out_and_in(self, page: Page) -> None:
        for told, said in (("no more", "u/7 is told no more."), ("again", "u/7 is told again.")):
            page.get_by_role("button", name="Opt a customer out or in").click()
            page.get_by_label("user", exact=True).fill("u/7")
            page.get_by_label("is told").select_option(told)
            dialog(page, "Do it")
            expect(page.get_by_text(said)).to_be_visible()
