import json
from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import permutations
from typing import Any, get_args

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orderstream.contract.events import InventoryRejected, InventoryReserved, OrderCreated
from orderstream.order_view import store_postgres
from orderstream.order_view.api import decode_cursor, encode_cursor
from orderstream.order_view.rules import Failed, Seen, Status, fold
from orderstream.order_view.store import Place, Query, Sort, TooMany
from orderstream.order_view.store_postgres import PostgresView
from orderstream.order_view.timeline import read_timeline
from orderstream.runtime.database import Database
from tests.builders import NOON, an_order, rejected, reserved
from tests.stores.conftest import Emptied, empty

LATER = NOON + timedelta(seconds=2)


@pytest.fixture
def database(emptied: Emptied) -> Database:
    return emptied("order_view")


@pytest.fixture
def view(database: Database) -> PostgresView:
    return PostgresView(database)


def seen(
    event: OrderCreated | InventoryReserved | InventoryRejected | Failed,
    offset: int = 0,
    at: datetime = LATER,
) -> Seen:
    match event:
        case OrderCreated(created_at=created_at):
            return Seen(event, "order.created", created_at or at, "order.created", 0, offset)
        case InventoryReserved(decided_at=at):
            return Seen(event, "inventory.reserved", at, "inventory.reserved", 0, offset)
        case InventoryRejected(decided_at=at):
            return Seen(event, "inventory.rejected", at, "inventory.rejected", 0, offset)
        case Failed():
            return Seen(event, "order.failed", at, "order.created.DLT", 0, offset)


def fold_in(database: Database, *batches: Sequence[Seen]) -> None:
    for batch in batches:
        with database.transaction() as tx:
            PostgresView(database).fold_in(tx, fold(batch).values())


MUGS = an_order(("MUG", 2), order_id=7, user_id="u'1")
TEXT = an_order(("CAP", 1), ("CAP", 2), order_id="7a", user_id=None)
FOREIGN = an_order(order_id="f").__class__(order_id="f", items=MUGS.items)  # No time, no user.

EVENTS = [
    seen(MUGS, 0),
    seen(Failed("7", "DrillFailure: no"), 1),
    seen(reserved(MUGS, LATER), 2),
    seen(MUGS, 3),  # Published twice after an unknown outcome.
    seen(TEXT, 4),
    seen(Failed("7a", "no"), 5),
    seen(rejected(TEXT, "CAP", at=LATER), 6),
    seen(FOREIGN, 7, NOON),
    seen(Failed("lost", "junk"), 8),
]


@st.composite
def batchings(draw: st.DrawFn) -> list[list[Seen]]:
    """The events in any order, cut anywhere into batches."""
    shuffled = draw(st.permutations(EVENTS))
    cuts = sorted(draw(st.sets(st.integers(1, len(shuffled) - 1))))
    return [shuffled[a:b] for a, b in zip([0, *cuts], [*cuts, len(shuffled)], strict=True)]


class TestFold:
    def test_an_order_is_pending_until_it_is_decided(
        self, database: Database, view: PostgresView
    ) -> None:
        fold_in(database, [seen(MUGS)])
        assert view.get(["7"])["7"] == {
            "orderId": 7,
            "status": "PENDING",
            "userId": "u'1",
            "items": [{"sku": "MUG", "qty": 2}],
            "createdAt": "2026-11-21T12:00:00.000Z",
            "decidedAt": None,
            "timeline": [
                {
                    "type": "order.created",
                    "at": "2026-11-21T12:00:00.000Z",
                    "eventId": "7:order.created",
                    "topic": "order.created",
                    "partition": 0,
                    "offset": 0,
                }
            ],
        }

    def test_a_rejected_order_says_why_and_what_was_short(
        self, database: Database, view: PostgresView
    ) -> None:
        fold_in(database, [seen(TEXT), seen(rejected(TEXT, "CAP", at=LATER))])
        page = view.get(["7a"])["7a"]
        assert (page["status"], page["reason"], page["short"]) == (
            "REJECTED",
            "OUT_OF_STOCK",
            ["CAP"],
        )
        assert page["decidedAt"] == "2026-11-21T12:00:02.000Z"

    def test_a_failed_order_says_why_even_if_nothing_else_is_known(
        self, database: Database, view: PostgresView
    ) -> None:
        fold_in(database, [seen(Failed("lost", "not JSON"))])
        page = view.get(["lost"])["lost"]
        assert (page["orderId"], page["status"], page["reason"]) == ("lost", "FAILED", "not JSON")
        assert page["items"] == []
        assert page["createdAt"] is None

    def test_a_decision_after_a_failure_drops_the_failure_s_reason(
        self, database: Database, view: PostgresView
    ) -> None:
        failed = seen(Failed("7", "no"), at=NOON + timedelta(seconds=1))
        fold_in(database, [seen(MUGS), failed], [seen(reserved(MUGS, LATER))])
        page = view.get(["7"])["7"]
        assert page["status"] == "CONFIRMED"
        assert "reason" not in page
        assert [entry["type"] for entry in page["timeline"]] == [
            "order.created",
            "order.failed",
            "inventory.reserved",
        ]

    def test_an_event_read_twice_is_shown_once(
        self, database: Database, view: PostgresView
    ) -> None:
        fold_in(database, [seen(MUGS)], [seen(MUGS)], [seen(MUGS, 9)])
        assert [entry["offset"] for entry in view.get(["7"])["7"]["timeline"]] == [0]

    def test_an_entry_that_an_older_version_wrote_is_read(self) -> None:
        older = {"at": "2026-11-20T10:00:00Z", "partition": 1, "offset": 5}
        older |= {"type": "order.created", "eventId": "7:order.created", "topic": "order.created"}
        newer = {"at": "2026-11-20T10:00:00Z", "partition": 1, "offset": 5, "type": "order.created"}
        stored = json.dumps([older, newer, newer | {"topic": "orders"}])
        assert [
            (entry["eventId"], entry["topic"], entry["at"]) for entry in read_timeline("7", stored)
        ] == [
            ("7:order.created", "order.created", "2026-11-20T10:00:00.000Z"),
            ("7:order.created", "orders", "2026-11-20T10:00:00.000Z"),
        ]

    @settings(
        max_examples=60,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )
    @given(batches=batchings())
    def test_any_order_and_any_batching_give_the_same_pages(
        self, database: Database, view: PostgresView, batches: list[list[Seen]]
    ) -> None:
        keys = ["7", "7a", "f", "lost"]
        empty(database)
        fold_in(database, EVENTS)
        expected = view.get(keys)
        empty(database)
        fold_in(database, *batches)
        assert view.get(keys) == expected
        assert {key: page["status"] for key, page in expected.items()} == {
            "7": "CONFIRMED",
            "7a": "REJECTED",
            "f": "PENDING",
            "lost": "FAILED",
        }


class TestIds:
    def test_numbers_and_texts_come_back_as_they_were_given(
        self, database: Database, view: PostgresView
    ) -> None:
        ids: list[tuple[int | str, int | str | None]] = [
            (12, 1),
            ("13", "1"),
            ("012", "x"),
            (2**53 - 1, None),
            ('q"\\{},', "🦊"),
        ]
        fold_in(database, [seen(an_order(order_id=order, user_id=user)) for order, user in ids])
        pages = view.get([str(order) for order, _ in ids])
        assert {(page["orderId"], page["userId"]) for page in pages.values()} == set(ids)
        assert [type(pages[str(order)]["orderId"]) for order, _ in ids] == [
            type(order) for order, _ in ids
        ]

    def test_a_decision_read_first_knows_the_id_s_type_as_well(
        self, database: Database, view: PostgresView
    ) -> None:
        fold_in(database, [seen(reserved(MUGS))], [seen(Failed("7", "no"))])
        assert view.get(["7"])["7"]["orderId"] == 7

    def test_tells_which_timelines_grew(self, database: Database, view: PostgresView) -> None:
        known = {"7": 0, "7a": 0, "nobody": 0}
        assert view.grown(known) == {}
        fold_in(database, [seen(MUGS), seen(TEXT)])
        assert view.grown(known) == {"7": 1, "7a": 1}
        fold_in(database, [seen(reserved(MUGS))])
        assert view.grown({"7": 1, "7a": 1, "nobody": 0}) == {"7": 2}

    def test_unknown_orders_are_left_out(self, view: PostgresView) -> None:
        assert view.get(["nobody"]) == {}
        assert view.get([]) == {}


def shown(view: PostgresView, **query: Any) -> list[object]:
    return [found.shown["orderId"] for found in view.find(Query(**query))]


class TestFind:
    @pytest.fixture(autouse=True)
    def _orders(self, database: Database) -> None:
        orders = [
            an_order(
                ("MUG" if n % 2 else "CAP", 1),
                ("PEN", 1),
                order_id=n,
                user_id=42 if n < 3 else "42x",
                at=NOON + timedelta(minutes=n),
            )
            for n in range(6)
        ]
        fold_in(database, [seen(order) for order in orders])
        fold_in(database, [seen(reserved(orders[1])), seen(rejected(orders[2], "CAP"))])
        fold_in(database, [seen(Failed("3", "no")), seen(Failed("junk", "no"))])

    def test_newest_first(self, view: PostgresView) -> None:
        assert shown(view) == [5, 4, 3, 2, 1, 0]

    @pytest.mark.parametrize(
        ("query", "expected"),
        [
            ({"status": Status.PENDING}, [5, 4, 0]),
            ({"status": Status.CONFIRMED}, [1]),
            ({"status": Status.REJECTED}, [2]),
            ({"status": Status.FAILED}, [3]),
            ({"user_id": "42"}, [2, 1, 0]),
            ({"user_id": "42x"}, [5, 4, 3]),
            ({"sku": "MUG"}, [5, 3, 1]),
            ({"sku": "PEN"}, [5, 4, 3, 2, 1, 0]),
            ({"sku": "NOPE"}, []),
            ({"since": NOON + timedelta(minutes=4)}, [5, 4]),
            ({"until": NOON + timedelta(minutes=2)}, [1, 0]),
            ({"sku": "MUG", "user_id": "42", "status": Status.CONFIRMED}, [1]),
            ({"limit": 2}, [5, 4]),
        ],
    )
    def test_only_orders_that_fit_every_filter(
        self, view: PostgresView, query: dict[str, Any], expected: list[int]
    ) -> None:
        assert shown(view, **query) == expected

    @pytest.mark.parametrize("windows", [(), (1,), (2, 3)])
    def test_those_with_an_sku_are_found_wherever_they_are(
        self, database: Database, view: PostgresView, monkeypatch: pytest.MonkeyPatch, windows: Any
    ) -> None:
        monkeypatch.setattr(store_postgres, "WINDOWS", windows)
        skus = ["A", "B", "B", "A", "B", "C"]
        orders = [
            an_order((sku, 1), order_id=10 + number, at=NOON + timedelta(seconds=number))
            for number, sku in enumerate(skus)
        ]
        fold_in(database, [seen(order, n) for n, order in enumerate(orders)])
        for sku, newest in (("A", [13, 10]), ("B", [14, 12, 11]), ("C", [15]), ("D", [])):
            for limit in (1, 2, 50):
                found = view.find(Query(sku=sku, limit=limit))
                assert [one.shown["orderId"] for one in found] == newest[:limit]

    def test_pages_miss_and_repeat_nothing_among_equal_times(
        self, database: Database, view: PostgresView
    ) -> None:
        empty(database)
        ids = [f"order-{number:02}" for number in range(11)]
        fold_in(database, [seen(an_order(order_id=order)) for order in ids])
        pages: list[list[str]] = []
        before: Place | None = None
        while found := view.find(Query(behind=before, limit=4)):
            pages.append([str(page.shown["orderId"]) for page in found])
            before = found[-1].place
        assert [len(page) for page in pages] == [4, 4, 3]
        assert sorted(order for page in pages for order in page) == ids

    @pytest.mark.parametrize(
        ("query", "expected"),
        [
            ({"sort": "created"}, [0, 1, 2, 3, 4, 5]),
            ({"sort": "created", "status": Status.PENDING}, [0, 4, 5]),
            ({"sort": "created", "sku": "MUG"}, [1, 3, 5]),
            ({"sort": "created", "user_id": "42", "limit": 2}, [0, 1]),
        ],
    )
    def test_the_oldest_first(
        self, view: PostgresView, query: dict[str, Any], expected: list[int]
    ) -> None:
        assert shown(view, **query) == expected

    def test_a_list_has_no_timelines(self, view: PostgresView) -> None:
        assert all("timeline" not in found.shown for found in view.find(Query()))


class TestSortedByWhatHasNoIndex:
    TOOK_S = (5, 1, 9, 1, 3)  # Order 0 was decided after 5 s, order 1, placed a minute later, ...

    @pytest.fixture(autouse=True)
    def _orders(self, database: Database) -> None:
        for n, took in enumerate(self.TOOK_S):
            order = an_order(("MUG" if n % 2 else "CAP", 1), order_id=n, at=self.at(n))
            decided = reserved(order, at=self.at(n) + timedelta(seconds=took))
            fold_in(database, [seen(order, n), seen(decided, n)])
        fold_in(database, [seen(an_order(order_id=99), 99)])  # Still open.

    def at(self, n: int) -> datetime:
        return NOON + timedelta(minutes=n % 3)

    @pytest.mark.parametrize(
        ("query", "expected"),
        [
            ({"sort": "-took"}, [2, 0, 4, 3, 1]),
            ({"sort": "took"}, [1, 3, 4, 0, 2]),
            ({"sort": "-decided"}, [2, 4, 1, 0, 3]),
            ({"sort": "decided"}, [3, 0, 1, 4, 2]),
            ({"sort": "-took", "sku": "MUG"}, [3, 1]),
            ({"sort": "-took", "status": Status.PENDING}, []),
            ({"sort": "took", "since": NOON + timedelta(minutes=1)}, [1, 4, 2]),
        ],
    )
    def test_only_decided_orders_are(
        self, view: PostgresView, query: dict[str, Any], expected: list[int]
    ) -> None:
        assert shown(view, **query) == expected

    @pytest.mark.parametrize("sort", get_args(Sort))
    def test_pages_miss_and_repeat_nothing(self, view: PostgresView, sort: Sort) -> None:
        whole = shown(view, sort=sort)
        pages: list[object] = []
        behind: Place | None = None
        while found := view.find(Query(sort=sort, behind=behind, limit=2)):
            pages += [page.shown["orderId"] for page in found]
            behind = decode_cursor(encode_cursor(found[-1].place), sort)
        assert pages == whole

    def test_too_many_are_refused_whatever_their_sku(
        self, view: PostgresView, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(store_postgres, "SORTED_MAX", 5)
        for query in ({}, {"sku": "MUG"}, {"sku": "NOPE"}):
            with pytest.raises(TooMany):
                shown(view, sort="-took", **query)
        assert len(shown(view, sort="-took", since=NOON + timedelta(minutes=1))) == 3


class TestAnOrderPutBackWithOtherItems:
    @pytest.mark.parametrize("cut", [(3, 3), (2, 3), (1, 3), (1, 2), (2, 2)])
    @pytest.mark.parametrize("order", list(permutations(range(3))))
    def test_shows_what_was_decided_on_however_it_is_read(
        self,
        database: Database,
        view: PostgresView,
        order: tuple[int, ...],
        cut: tuple[int, int],
    ) -> None:
        mended = an_order(("MUG", 1), user_id="ann")
        events = [seen(an_order(("FAIL", 1)), 0), seen(mended, 1), seen(reserved(mended, LATER))]
        read = [events[number] for number in order]
        fold_in(database, read[: cut[0]], read[cut[0] : cut[1]], read[cut[1] :])
        page = view.get(["1"])["1"]
        assert (page["items"], page["userId"]) == ([{"sku": "MUG", "qty": 1}], "ann")
