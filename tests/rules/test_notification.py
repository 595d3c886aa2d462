"""Which events a customer hears of, and what becomes of a message."""

import pytest

from orderstream.contract.events import OrderCancelled, OrderFulfilled
from orderstream.contract.values import Contact, contact_fault
from orderstream.notification.rules import (
    Failed,
    Kind,
    NotSent,
    Sent,
    Skipped,
    State,
    is_told,
    message,
    pause_s,
    verdict,
)
from tests.builders import NOON, an_order, rejected, reserved

WAITS = (5.0, 300.0)
NO = NotSent(why="no")


class TestAContact:
    @pytest.mark.parametrize(
        "contact",
        [
            Contact(),
            Contact(email="ada+shop@mail.example.co.uk", phone="+4915112345678", locale="pt-BR"),
            Contact(email="o'hara{x}%@example.com", locale="zh_Hant_TW"),
        ],
    )
    def test_that_can_be_told(self, contact: Contact) -> None:
        assert contact_fault(contact) is None

    @pytest.mark.parametrize(
        "email",
        [
            *("", "ada", "ada@", "@example.com", "ada@example", "a b@example.com"),
            *("ada@example.com\nBcc: x@y.zz", "ada@example.com,eve@example.com", "<a@b.cc>"),
            *(
                "ada@exa mple.com",
                "ada@b.cc\n",
                "=?utf-8?q?a=40b.cc?=@c.dd",
                f"{'a' * 250}@b.cc",
                "ада@пример.рф",
            ),
        ],
    )
    def test_an_address_that_is_none_or_several(self, email: str) -> None:
        assert (fault := contact_fault(Contact(email=email)))
        assert fault[0] == "email"

    @pytest.mark.parametrize(
        "phone",
        [
            "",
            "015112345678",
            "+0151",
            "+49 151 1",
            "+1" * 9,
            "+1\u0662\u0663\u0664\u0665\u0666\u0667\u0668",
        ],
    )
    def test_a_number_without_its_country_or_with_more(self, phone: str) -> None:
        assert (fault := contact_fault(Contact(phone=phone)))
        assert fault[0] == "phone"

    @pytest.mark.parametrize("locale", ["", "e", "../en", "en/..", "english", "en-", "a-b-c-d-e-f"])
    def test_a_language_that_is_none(self, locale: str) -> None:
        assert (fault := contact_fault(Contact(locale=locale)))
        assert fault[0] == "locale"


class TestAMessage:
    def test_says_what_the_event_says(self) -> None:
        order = an_order(("MUG", 2), order_id="x-1", user_id="u")
        said = message(rejected(order, "MUG"))
        assert (said.kind, said.order_id, said.user_id) == (Kind.REJECTED, "x-1", "u")
        assert (said.items, said.reason, said.short) == (order.items, "OUT_OF_STOCK", ("MUG",))
        assert message(reserved(order)).kind is Kind.CONFIRMED

    def test_of_an_end_tells_expiry_from_cancellation(self) -> None:
        to = Contact(email="a@b.cc")
        ended = OrderCancelled(order_id=1, cancelled_at=NOON, cause="EXPIRED", notify=to)
        assert (message(ended).kind, message(ended).notify) == (Kind.EXPIRED, to)
        assert message(OrderCancelled(order_id=1, cancelled_at=NOON)).kind is Kind.CANCELLED
        assert message(OrderFulfilled(order_id=1, fulfilled_at=NOON)).kind is Kind.FULFILLED

    def test_of_a_failure_knows_the_order_where_it_can_be_read(self) -> None:
        assert message(Failed("7", NOON)).order_id == "7"
        assert message(Failed("7", NOON, an_order(order_id=7))).items == an_order().items

    def test_a_rejection_for_a_cancellation_is_none(self) -> None:
        assert not is_told(rejected(an_order(), reason="CANCELLED"))


class TestAVerdict:
    def test_on_what_arrived_or_is_not_to_be_sent(self) -> None:
        assert verdict(Sent(), "m", 1, WAITS).state is State.SENT
        assert verdict(Skipped("why"), "m", 1, WAITS).state is State.SKIPPED

    def test_on_a_failure_waits_as_long_as_its_try_says_and_up_to_a_tenth_more(self) -> None:
        assert 5 <= verdict(NO, "m", 1, WAITS).due_s <= 5.5
        assert 300 <= verdict(NO, "m", 2, WAITS).due_s <= 330
        assert verdict(NO, "m", 3, WAITS).state is State.FAILED  # There are two waits: three tries.

    def test_spreads_those_that_failed_together_and_repeats_itself(self) -> None:
        waits = {verdict(NO, f"m{n}", 1, WAITS).due_s for n in range(100)}
        assert len(waits) > 90
        assert verdict(NO, "m", 1, WAITS) == verdict(NO, "m", 1, WAITS)

    def test_waits_as_long_as_the_channel_says_where_that_is_longer(self) -> None:
        assert verdict(NotSent(why="", after_s=77), "m", 1, WAITS).due_s == 77
        assert verdict(NotSent(why="", after_s=1), "m", 1, WAITS).due_s >= 5

    def test_gives_up_at_once_what_no_other_try_will_send(self) -> None:
        assert verdict(NotSent(why="", final=True), "m", 1, WAITS).state is State.FAILED
        assert verdict(NotSent(why="", gone=True), "m", 1, WAITS).state is State.FAILED


class TestAPause:
    def test_grows_with_failures_in_a_row_and_ends_at_a_minute(self) -> None:
        busy = NotSent(why="", busy=True)
        assert [pause_s(busy, n) for n in (1, 2, 3, 7, 99)] == [1, 2, 4, 60, 60]

    def test_is_for_faults_of_the_channel_alone(self) -> None:
        assert pause_s(NO, 9) == pause_s(Sent(), 9) == 0

    def test_is_as_long_as_the_channel_says(self) -> None:
        assert pause_s(NotSent(why="", busy=True, after_s=300), 1) == 300
        assert pause_s(NotSent(why="", busy=True, after_s=86_400), 1) == 600
