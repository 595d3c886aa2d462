"""What a consumer's author tests: the rule, what it says, and that no crash changes any of it."""

from datetime import UTC, datetime

from fraud_score import points, score
from orderstream.contract.events import OrderCreated
from orderstream.contract.values import Line
from orderstream.testing import crash_everywhere, run


def order(number: int, user: str, pieces: int) -> OrderCreated:
    return OrderCreated(
        order_id=number,
        user_id=user,
        items=(Line("MUG", pieces),),
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
    )


ORDERS = [order(1, "ann", 1), order(2, "ann", 50), order(3, "bob", 5000), order(1, "ann", 1)]


def test_points() -> None:
    assert [points(1, 0), points(50, 1), points(5000, 9)] == [0, 25, 100]


def test_each_order_is_scored_once() -> None:
    outcome = run(score, ORDERS)
    said = [record.json for record in outcome.published("fraud.scored")]
    assert said == [
        {"orderId": 1, "score": 0},
        {"orderId": 2, "score": 25},
        {"orderId": 3, "score": 100},
    ]
    assert outcome.rows("SELECT user_id, count(*) FROM ordered GROUP BY 1 ORDER BY 1") == [
        ("ann", 2),
        ("bob", 1),
    ]


def test_no_crash_changes_anything() -> None:
    assert crash_everywhere(score, ORDERS) > 20


def test_an_order_that_cannot_be_read_holds_nobody_up() -> None:
    outcome = run(score, [("order.created", 7, b"not an order"), *ORDERS])
    assert len(outcome.published("fraud.scored")) == 3
