"""A database that is older than Kafka: it is given what the log knows, and the flow goes on.

The backup is a copy of the stores at rest. What came after it is lost with the database, and must
be as it was when the copy has been reconciled: the lost database is still there to compare with.
"""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from pydantic import SecretStr

from orderstream.contract.errors import Unavailable
from orderstream.orders.rules import Request
from orderstream.orders.store import Claim
from orderstream.recovery import reconcile as module
from orderstream.recovery.guard import ahead
from orderstream.recovery.reconcile import IDS_LEFT_OUT_MAX, id_after, reconcile
from orderstream.runtime.admin import Admin
from orderstream.runtime.settings import Settings
from orderstream.runtime.stage import Output
from orderstream.wiring.replays import own_replays
from orderstream.wiring.setup import refuse_restored
from tests.builders import an_order, cancelled, encode, fulfilled, lines
from tests.conftest import database_copy
from tests.kafka.test_own_consumer import consuming, noting, said
from tests.kafka.test_own_consumer import rows as handled
from tests.kafka.test_replay import (
    STAGES,
    come_to_rest,
    flow_at_rest,
    forgotten,
    pages,
    rows,
    running,
)
from tests.kafka.topics import keys, put, read
from tests.waiting import until

GIVEN = 100_000_001
SINCE = [an_order(("MUG", 1), order_id=number) for number in range(30, 36)]
SINCE += [an_order(("RARE", 1), order_id="rare"), an_order(("FAIL", 1), order_id="fails")]
SINCE += [an_order(("NEW", 2), order_id=GIVEN), an_order(("RARE", 7), order_id=GIVEN + 4)]
BACKLOG = [an_order(("MUG", 1), order_id="later"), an_order(("LATE", 1), order_id=GIVEN + 5)]
CLAIMS = [
    Claim.of_order("mine", Request("mine", 42, lines(("MUG", 1))).fingerprint()),
    Claim.of_key("a key: of mine", Request("mine", 42, lines(("MUG", 1))).fingerprint(), "mine"),
    Claim.of_order(10**15, Request(10**15, 42, lines(("MUG", 1))).fingerprint()),
]

INVENTORY = (
    "SELECT * FROM inventory.reservation ORDER BY order_id",
    "SELECT * FROM inventory.stock ORDER BY sku",
)
TOLD = "SELECT event_id, channel FROM notification.notice ORDER BY 1, 2"


def claimed(order_id: int | str, *claims: Claim) -> Output:
    order = an_order(("MUG", 1), order_id=order_id)
    headers = [claim.header for claim in claims]
    return Output("", order.key.encode(), encode(order), headers)


def ends(settings: Settings, *events: Any) -> Iterator[Output]:
    for event in events:
        shipped = hasattr(event, "fulfilled_at")
        topic = settings.topics.order_fulfilled if shipped else settings.topics.order_cancelled
        yield Output(topic, event.key.encode(), encode(event), [])


def of(settings: Settings, dsn: str) -> Settings:
    return settings.model_copy(update={"database_url": SecretStr(dsn)})


@pytest.fixture(scope="module")
def lost(kafka: str, template_dsn: str) -> Iterator[tuple[Settings, str]]:
    """A flow whose database was lost at some moment, and the backup of the day before."""
    with database_copy(template_dsn) as dsn:
        settings = flow_at_rest(kafka, dsn)
        topics = settings.topics
        one, two, three, four = (an_order(("MUG", 1), order_id=n) for n in (1, 2, 3, 4))
        early = an_order(("MUG", 3), order_id="early"), an_order(("MUG", 3), order_id="shipped")
        put(settings, *ends(settings, cancelled(one), fulfilled(two)))
        put(settings, *ends(settings, cancelled(early[0]), fulfilled(early[1])))
        with consuming(noting(settings), settings):
            come_to_rest(settings, *STAGES)
            until(lambda: said(settings).total() == 22)
        with database_copy(dsn) as backup:
            rows(settings, "UPDATE inventory.stock SET on_hand = 8 WHERE sku = 'RARE' RETURNING 1")
            rows(settings, "INSERT INTO inventory.stock VALUES ('NEW', 2, 0) RETURNING 1")
            own = [claimed(name, *c) for name, c in (("mine", CLAIMS[:2]), (10**15, CLAIMS[2:]))]
            put(settings, *SINCE, *early)
            put(settings, *(output._replace(topic=topics.order_created) for output in own))
            with consuming(noting(settings), settings):
                come_to_rest(settings, *STAGES)
                put(settings, *ends(settings, cancelled(three), fulfilled(four)))
                put(settings, *ends(settings, cancelled(SINCE[0]), fulfilled(SINCE[1])))
                put(settings, *ends(settings, fulfilled(SINCE[8]), cancelled(SINCE[7])))
                put(settings, *ends(settings, cancelled(an_order(order_id="never"))))
                come_to_rest(settings, *STAGES)
                until(lambda: said(settings).total() == 22 + len(SINCE) + 4)
            put(settings, *BACKLOG)
            yield settings, backup


@pytest.fixture
def restored(lost: tuple[Settings, str]) -> Iterator[Settings]:
    """The backup, restored; what a test does to Kafka is done to the last of them only."""
    settings, backup = lost
    for name in (*STAGES, "noting"):
        until(lambda name=name: forgotten(settings, name), what="the group is empty")
    with database_copy(backup) as dsn:
        yield of(settings, dsn)


class TestAServiceThatIsStarted:
    def test_waits_until_the_database_is_reconciled(self, restored: Settings) -> None:
        with pytest.raises(Unavailable, match=r"older than Kafka.*db reconcile"):
            refuse_restored(restored, Admin(restored.kafka()))

    def test_does_not_wait_for_the_one_that_was_not_lost(self, lost: tuple[Settings, str]) -> None:
        refuse_restored(lost[0], Admin(lost[0].kafka()))


class TestReconcile:
    def test_is_refused_while_a_service_runs(self, lost: tuple[Settings, str]) -> None:
        settings, backup = lost
        with running(settings, "analytics"), database_copy(backup) as dsn:
            until(lambda: not forgotten(settings, "analytics"))
            with pytest.raises(Unavailable, match=r"stop every service first; there are analytics"):
                reconcile(of(settings, dsn), {})

    def test_changes_nothing_in_a_dry_run(self, restored: Settings) -> None:
        before = [rows(restored, query) for query in INVENTORY]
        places = ahead(restored, Admin(restored.kafka()))
        found = reconcile(restored, own_replays(restored), dry_run=True)
        assert (found.done, found.orders, found.consumers) == (False, 16, ["noting"])
        assert [rows(restored, query) for query in INVENTORY] == before
        assert ahead(restored, Admin(restored.kafka())) == places

    def test_refuses_a_log_that_does_not_reach_back(self, restored: Settings) -> None:
        topic = restored.topics.order_created
        with psycopg.connect(restored.dsn()) as connection:
            connection.execute(
                "UPDATE order_view.position SET next = 9999 WHERE topic = %s", [topic]
            )
        with pytest.raises(
            Unavailable, match=r"does not reach back.*order_view|view had read 9999"
        ):
            reconcile(restored, {})
        assert ahead(restored, Admin(restored.kafka())) != []

    def test_that_crashed_is_done_again(
        self, restored: Settings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def crash(*_: object) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as patched:
            patched.setattr(module, "_set_back", crash)
            with pytest.raises(KeyboardInterrupt):
                reconcile(restored, {})
        assert ahead(restored, Admin(restored.kafka())) != []
        found = reconcile(restored, {}, dry_run=True)
        assert (found.decided, found.shipped, found.claims, found.not_told_again) == (0, 0, 0, 0)

    def test_gives_the_stores_what_they_had_and_the_flow_goes_on(
        self, lost: tuple[Settings, str], restored: Settings
    ) -> None:
        topics = restored.topics
        outcomes = (topics.inventory_reserved, topics.inventory_rejected, topics.inventory_released)
        before = keys(read(restored, *outcomes))
        noted = said(restored)

        found = reconcile(restored, own_replays(restored))

        assert [rows(restored, query) for query in INVENTORY] == [
            rows(lost[0], query) for query in INVENTORY
        ]
        assert {(raised.sku, raised.by) for raised in found.raised} == {("RARE", 7), ("NEW", 2)}
        claims = "SELECT name, fingerprint, order_id, published FROM orders.claim ORDER BY name"
        assert rows(restored, claims) == sorted(
            (c.name, c.fingerprint, str(c.order_id), True) for c in CLAIMS
        )
        assert rows(restored, "SELECT next FROM orders.id_block") == [
            (GIVEN + 6 + IDS_LEFT_OUT_MAX,)
        ]
        assert ahead(restored, Admin(restored.kafka())) == []

        more = Counter(order.key for order in BACKLOG)
        with consuming(noting(restored), restored):
            come_to_rest(restored, *STAGES)  # Until `verify` finds nothing.
            until(lambda: said(restored) == noted + more, what="what is new is published, once")
            until(lambda: handled(restored) == noted + more, what="its rows are whole again")
        assert keys(read(restored, *outcomes)) == sorted([*before, *more])
        assert pages(lost[0]) == [page for page in pages(restored) if page[0] not in more]
        told = Counter(rows(restored, TOLD))
        assert max(told.values()) == 1
        assert Counter(rows(lost[0], TOLD)) < told

        again = reconcile(restored, {}, dry_run=True)
        assert (again.decided, again.claims, again.ended, again.raised) == (0, 0, 0, [])
        assert again.next_id == GIVEN + 6 + IDS_LEFT_OUT_MAX


class TestIdsThatWereGiven:
    @pytest.mark.parametrize(
        ("given", "after"),
        [
            ([], 100),
            ([50, 99], 100),
            ([100], 101 + IDS_LEFT_OUT_MAX),
            ([130, 110], 131 + IDS_LEFT_OUT_MAX),
            ([110, 10**15], 111 + IDS_LEFT_OUT_MAX),  # A program's that is not ours.
            ([10**15], 100),
        ],
    )
    def test_are_not_given_again(self, given: list[int], after: int) -> None:
        assert id_after(100, given) == after
