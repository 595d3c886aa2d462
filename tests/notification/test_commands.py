"""`orderstream notify` beside a whole installation, whose gateway takes messages or does not."""

import json
from collections.abc import Iterator

import pytest

from tests.flow.installation import Installation, installation
from tests.notification.receivers import Gateway, sms_gateway
from tests.waiting import until


@pytest.fixture(scope="module")
def shop() -> Iterator[tuple[Installation, Gateway]]:
    with sms_gateway() as gateway:
        settings = {
            "ORDERSTREAM_NOTIFY": f"log,sms=json://127.0.0.1:{gateway.port}/{{phone}}",
            "ORDERSTREAM_NOTIFY_RETRIES": "0.1",
        }
        with installation("--quiet", home=None, **settings) as running:
            yield running, gateway


def said(running: Installation, *arguments: str, code: int = 0) -> str:
    result = running.run("notify", *arguments)
    assert result.returncode == code, result.stdout + result.stderr
    return result.stdout + result.stderr


def stands(running: Installation, order_id: str, status: str) -> dict[str, str]:
    """Return the text message about an order, once it stands so."""

    def look() -> dict[str, str] | None:
        listed = said(running, "list", "--order", order_id, "--channel", "sms", "--json")
        found = [json.loads(line) for line in listed.splitlines()]
        return next((one for one in found if one["status"] == status), None)

    return until(look, what=f"{order_id} is {status}")


def place(running: Installation, order_id: str, user: str, phone: str | None) -> None:
    notify = {} if phone is None else {"notify": {"phone": phone, "locale": "tr"}}
    order = {"orderId": order_id, "userId": user, "productId": "MUG", "quantity": 1}
    assert running.place(order | notify).status_code == 202


def test_what_was_given_up_is_listed_and_sent_again(shop: tuple[Installation, Gateway]) -> None:
    running, gateway = shop
    gateway.status = 500
    place(running, "a/1", "u", "+4915112345678")
    failed = stands(running, "a/1", "FAILED")
    assert "500" in failed["why"]
    assert "sms" in said(running, "channels")
    gateway.status = 200
    assert said(running, "retry", failed["id"]) == "1 will be sent again\n"
    stands(running, "a/1", "SENT")
    assert "is SENT" in said(running, "retry", failed["id"], code=1)
    assert "no notification" in said(running, "retry", "x:order.created:sms", code=1)
    ((path, body),) = [one for one in gateway.got if "+4915112345678" in one[0]]
    assert (path, "a/1" in body["title"]) == ("/+4915112345678", True)


def test_all_that_were_given_up_are_sent_again(shop: tuple[Installation, Gateway]) -> None:
    running, gateway = shop
    gateway.status = 500
    for number in range(3):
        place(running, f"all-{number}", "u", f"+491511111111{number}")
    for number in range(3):
        stands(running, f"all-{number}", "FAILED")
    gateway.status = 200
    assert said(running, "retry", "--all", "--channel", "sms") == "3 will be sent again\n"
    for number in range(3):
        stands(running, f"all-{number}", "SENT")


def test_who_opted_out_is_told_no_more(shop: tuple[Installation, Gateway]) -> None:
    running, gateway = shop
    gateway.status = 200
    said(running, "opt-out", "u/2")
    place(running, "out", "u/2", "+4915100000001")
    assert "opted out" in stands(running, "out", "SKIPPED")["why"]
    said(running, "opt-in", "u/2")
    place(running, "in", "u/2", "+4915100000002")
    stands(running, "in", "SENT")


def test_a_channel_is_tried_and_words_are_shown(shop: tuple[Installation, Gateway]) -> None:
    running, gateway = shop
    gateway.status = 200
    assert "SENT" in said(running, "test", "sms", "--phone", "+4915100000003")
    gateway.status = 500
    assert "NOT_SENT" in said(running, "test", "sms", "--phone", "+4915100000003", code=1)
    assert "There is no channel mail" in said(running, "test", "mail", code=1)
    assert "not silenced" in said(running, "enable", "sms", code=1)
    assert "подтверждён" in said(running, "preview", "confirmed", "--locale", "ru")
    assert said(running, "secret").startswith("whsec_")
