"""An order's page is one, in whatever order its events come and however often each does."""

from collections.abc import Sequence
from datetime import timedelta
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orderstream.contract.events import Event, OrderCreated
from orderstream.order_view.rules import Failed, Page, Seen, Status, fold
from tests.builders import NOON, an_order, lines, rejected, reserved

MUGS = an_order(("MUG", 2), order_id=7)
CAPS = an_order(("CAP", 9), order_id="7a", user_id="ann")
FOREIGN = OrderCreated(order_id="f", items=lines(("MUG", 1)))
REDRIVEN = an_order(order_id="r")
LATER = NOON + timedelta(seconds=2)


def seen(event: Event | Failed, offset: int = 0) -> Seen:
    topic = type(event).__name__
    return Seen(event, topic, NOON, topic, 0, offset)


EVENTS = [
    seen(MUGS),
    seen(MUGS, 1),  # Published twice after an unknown outcome.
    seen(reserved(MUGS, LATER)),
    seen(CAPS, 2),
    seen(rejected(CAPS, "CAP", at=LATER)),
    seen(FOREIGN, 3),
    seen(REDRIVEN, 4),
    seen(Failed("r", "no")),
    seen(reserved(REDRIVEN, LATER), 1),
    seen(Failed("lost", "not JSON"), 1),
]


def pages(events: Sequence[Seen]) -> dict[str, Page]:
    """Fold, and put each timeline in one order: when it is shown it is sorted."""
    found = fold(events)
    for page in found.values():
        page.timeline.sort(key=lambda entry: (entry.topic, entry.partition, entry.offset))
    return found


class TestFold:
    @given(st.permutations(EVENTS))
    def test_any_order_of_events_gives_the_same_pages(self, events: list[Seen]) -> None:
        assert pages(events) == pages(EVENTS)

    def test_each_order_has_a_page_of_its_own(self) -> None:
        assert {key: page.status for key, page in pages(EVENTS).items()} == {
            "7": Status.CONFIRMED,
            "7a": Status.REJECTED,
            "f": Status.PENDING,
            "r": Status.CONFIRMED,
            "lost": Status.FAILED,
        }

    def test_no_event_no_page(self) -> None:
        assert fold([]) == {}

    def test_a_decision_alone_tells_all_of_the_order(self) -> None:
        (page,) = fold([seen(rejected(CAPS, "CAP", at=LATER))]).values()
        assert (page.user_id, page.items) == (CAPS.user_id, CAPS.items)
        assert (page.created_at, page.decided_at) == (CAPS.created_at, LATER)
        assert (page.reason, page.short) == ("OUT_OF_STOCK", ("CAP",))

    def test_a_dead_letter_alone_tells_the_key_and_the_reason(self) -> None:
        (page,) = fold([seen(Failed("lost", "not JSON"))]).values()
        assert (page.order_key, page.reason) == ("lost", "not JSON")
        assert (page.items, page.created_at) == (None, None)

    def test_the_reason_of_a_failure_goes_with_it(self) -> None:
        (page,) = fold([seen(Failed("r", "no")), seen(reserved(REDRIVEN))]).values()
        assert page.reason is None

    def test_an_order_without_a_time_has_its_record_s(self) -> None:
        (page,) = fold([seen(FOREIGN)]).values()
        assert page.created_at == NOON

    @pytest.mark.parametrize(("order", "numeric"), [(MUGS, True), (CAPS, False)])
    def test_a_number_stays_a_number(self, order: OrderCreated, numeric: bool) -> None:
        (page,) = fold([seen(order)]).values()
        assert page.numeric_id is numeric

    def test_an_event_nobody_knows_is_an_error(self) -> None:
        with pytest.raises(TypeError, match="no page knows Event"):
            fold([seen(Event(order_id=1))])


class TestAnOrderPutBackWithOtherItems:
    def test_shows_what_was_decided_on_in_whatever_order_it_is_read(self) -> None:
        first, mended = an_order(("FAIL", 1)), an_order(("MUG", 1), user_id="ann")
        for order in permutations([seen(first), seen(mended, 1), seen(reserved(mended))]):
            page = fold(order)["1"]
            assert (page.items, page.user_id) == (mended.items, "ann")
