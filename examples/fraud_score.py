"""Scores every order: the more pieces, and the more of one user within a minute, the higher.

Rows of its own (who ordered when), and a topic of its own, `fraud.scored`, for others to read.

    orderstream run fraud_score:score
"""

from collections.abc import Iterator
from datetime import timedelta

from psycopg import Connection

from orderstream import Events, consumer

WINDOW = timedelta(minutes=1)
TABLES = """
    CREATE TABLE IF NOT EXISTS ordered (
        order_id text PRIMARY KEY, user_id text, at timestamptz NOT NULL, score int NOT NULL
    );
    CREATE INDEX IF NOT EXISTS ordered_by_user ON ordered (user_id, at);
"""
RECENT = "SELECT count(*) FROM ordered WHERE user_id = %s AND at BETWEEN %s AND %s"
REMEMBER = "INSERT INTO ordered VALUES (%s, %s, %s, %s) ON CONFLICT DO NOTHING"


def points(pieces: int, orders_before: int) -> int:
    """Return a score from 0 to 100."""
    return min(100, pieces // 10 + 20 * orders_before)


@consumer(
    "fraud", topics=["order.created"], publishes=["fraud.scored"], tables=TABLES, rebuild=True
)
def score(batch: Events, tx: Connection) -> Iterator[tuple[object, ...]]:
    """Score the orders of a batch, one after the other."""
    for event in batch:
        order, at = event.data, event.time
        user = None if order.user_id is None else str(order.user_id)
        (before,) = tx.execute(RECENT, (user, at - WINDOW, at)).fetchone() or (0,)
        score = points(sum(line.qty for line in order.items), before)
        # An order that a client sent twice is on the log twice: it counts once.
        if tx.execute(REMEMBER, (order.key, user, at, score)).rowcount:
            yield "fraud.scored", order.key, {"orderId": order.order_id, "score": score}
