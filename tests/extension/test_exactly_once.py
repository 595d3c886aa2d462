"""A handler without any memory of its own has its effect once, whatever fails at which call.

Each of these would double or lose something were the loop's own memory left out; that a test of a
user's would notice is shown at the end.
"""

from collections.abc import Iterator
from typing import Any

import pytest
from psycopg import Connection

from orderstream import Events, Unavailable, consumer
from orderstream.contract.errors import OutcomeUnknown, TransactionAborted
from orderstream.runtime.crashing import Crash
from orderstream.testing import crash_everywhere, run
from tests.builders import an_order

TABLES = """
    CREATE TABLE IF NOT EXISTS seen (key text, first_topic text);
    CREATE TABLE IF NOT EXISTS total (pieces bigint NOT NULL);
    INSERT INTO total SELECT 0 WHERE NOT EXISTS (SELECT FROM total);
"""


@consumer("sums", topics=["order.created", "pay"], publishes=["sums"], tables=TABLES, retries=1)
def sums(batch: Events, tx: Connection) -> Iterator[tuple[Any, ...]]:
    """Add up, and say the sum: a record that comes twice would be counted twice."""
    for event in batch:
        if event.topic == "pay" and event.data == "poison":
            raise ValueError("poison")
        pieces = 1 if event.topic == "pay" else event.data.items[0].qty
        tx.execute("INSERT INTO seen VALUES (%s, %s)", (event.key, event.topic))
        (total,) = tx.execute(
            "UPDATE total SET pieces = pieces + %s RETURNING *", (pieces,)
        ).fetchone() or (0,)
        yield "sums", event.key, {"total": total}, {"piece": str(pieces)}


RECORDS = [
    an_order(("MUG", 1), order_id=1),
    an_order(("MUG", 2), order_id=2),
    ("order.created", "junk", b"nothing that is ours to park"),
    ("pay", "a", 1),
    ("pay", "b", "poison"),
    ("pay", "c", 1),
    ("pay", "c", 1),
]
FAULTS = [Crash, Unavailable, OutcomeUnknown, TransactionAborted]


class TestAConsumer:
    def test_handles_each_record_once(self) -> None:
        outcome = run(sums, RECORDS)
        seen = sorted(outcome.rows("SELECT first_topic, key FROM seen"))
        once = [("order.created", "1"), ("order.created", "2"), ("pay", "a")]
        assert seen == [*once, ("pay", "c"), ("pay", "c")]
        assert outcome.rows("SELECT * FROM total") == [(6,)]
        assert sorted(record.json["total"] for record in outcome.published("sums"))[-1] == 6
        assert len(outcome.published("sums")) == 5

    def test_parks_what_fails_for_good_after_its_tries(self) -> None:
        outcome = run(sums, [*RECORDS, ("pay", "junk", b"\xff")])
        parked = {(one.topic, one.key): one.reason for one in outcome.parked}
        assert parked.keys() == {("pay", "b"), ("pay", "junk")}
        assert (parked["pay", "b"], parked["pay", "junk"][:8]) == ("poison", "not JSON")
        tries = outcome.published("pay.testing-sums.retry")
        assert sorted(record.key or "" for record in tries) == ["b", "junk"]

    @pytest.mark.parametrize("fault", FAULTS)
    def test_is_the_same_with_a_fault_before_and_after_every_call(
        self, fault: type[BaseException]
    ) -> None:
        assert crash_everywhere(sums, RECORDS, fault=fault, batch=4) > 60

    def test_is_given_what_it_names(self) -> None:
        @consumer("strays", topics=["pay"], publishes=["a"])
        def stray(batch: Events, _tx: Connection) -> list[tuple[Any, ...]]:
            return [("b", event.key, None) for event in batch]

        (parked,) = run(stray, [("pay", "x", 1)]).parked
        assert parked.reason == "publishes=[...] does not name b"

    def test_may_not_commit_half_of_a_batch(self) -> None:
        @consumer("commits", topics=["pay"], tables="CREATE TABLE IF NOT EXISTS t (k text)")
        def commits(_batch: Events, tx: Connection) -> None:
            tx.execute("INSERT INTO t VALUES ('x')")
            tx.commit()

        with pytest.raises(AssertionError, match=r"commit\(\) forbidden"):
            run(commits, [("pay", "x", 1)])

    def test_with_sql_that_is_wrong_parks_nothing_and_says_so(self) -> None:
        @consumer("wrong", topics=["pay"])
        def wrong(_batch: Events, tx: Connection) -> None:
            tx.execute("SELECT nothing_of_this")

        with pytest.raises(AssertionError, match="nothing_of_this"):
            run(wrong, [("pay", "x", 1)])

    def test_sees_no_schema_but_its_own(self) -> None:
        @consumer("nosy", topics=["pay"])
        def nosy(_batch: Events, tx: Connection) -> None:
            tx.execute("SELECT * FROM consumers.consumer")

        with pytest.raises(AssertionError, match="permission denied"):
            run(nosy, [("pay", "x", 1)])

    def test_writes_any_payload_and_key(self) -> None:
        @consumer("payloads", topics=["pay"], publishes=["a"])
        def payloads(batch: Events, _tx: Connection) -> Iterator[tuple[Any, ...]]:
            for value in (b"bytes", "text", None, {"a": [1]}):
                yield "a", len(batch), value

        said = run(payloads, [("pay", "x", 1)]).published("a")
        assert [(s.key, s.value) for s in said] == [
            ("1", b"bytes"),
            ("1", b"text"),
            ("1", None),
            ("1", b'{"a":[1]}'),
        ]

    def test_of_many_partitions_handles_each_record_once(self) -> None:
        records = [("pay", str(number), number) for number in range(100)]
        outcome = run(sums, records, partitions=4, batch=7)
        assert outcome.rows("SELECT count(*), count(DISTINCT key) FROM seen") == [(100, 100)]
        assert len(outcome.published("sums")) == 100


class TestATestOfAUsers:
    def test_notices_what_is_done_outside_the_transaction(self) -> None:
        told: list[str] = []

        @consumer("outside", topics=["pay"], publishes=["told"])
        def outside(batch: Events, _tx: Connection) -> Iterator[tuple[Any, ...]]:
            for event in batch:
                told.append(event.key or "")
                yield "told", event.key, len(told)

        with pytest.raises(AssertionError, match=r"crashed before call \d+, "):
            crash_everywhere(outside, [("pay", "x", 1)])
        told.clear()

    def test_is_told_when_its_tables_are_those_of_another_run(self) -> None:
        outcome = run(sums, RECORDS)
        run(sums, RECORDS)
        with pytest.raises(RuntimeError, match="another run"):
            outcome.rows("SELECT 1")
