"""The promises, each as one statement that finds whatever breaks it.

All of them read one snapshot of the stores, and a log that was read past that snapshot. Services
may be at work meanwhile; what makes every check exact nevertheless:
    a store's rows        must be in the log, since the log was read further than the store
    what the log says     must be in a projection up to the projection's own stored position
    an input record       must have its outcome if inventory's committed offset is past it
    a decision on the log must be in inventory's store if it was there before the snapshot
Each statement gives order_id, place (topic number, partition, offset; or null) and detail.
"""

from dataclasses import dataclass
from typing import LiteralString

from psycopg import sql

PROJECTIONS = ("order_view", "notification", "analytics")


@dataclass(frozen=True)
class Check:
    """One promise: its sentence says what holds when the statement finds nothing."""

    name: str
    sentence: str
    sql: LiteralString
    whole_log: bool = True  # Cannot be decided once the log's beginning was deleted.


# What the checks have in common -----------------------------------------------------------

# One row per order that the log names. `dead` counts dead letters by the order of the record that
# was parked, `failed` those whose key is the order; neither counts what a projection gave up on.
# `early_` counts leave out what came to the log after the snapshot began: its cause may not have
# been read.
ORDERS: LiteralString = """
    CREATE TEMP TABLE log_order AS
    SELECT order_id, sum(input) AS inputs, bool_or(under_way) AS under_way,
        sum(reserved) AS reserved, sum(rejected) AS rejected, sum(early_said) AS early_said,
        sum(dead) AS dead, sum(early_dead) AS early_dead, sum(failed) AS failed,
        min(input_place) AS input_place, max(said_place) AS said_place,
        max(dead_place) AS dead_place
    FROM (
        SELECT order_id, fresh::int AS input, "offset" >= coalesce(answered, 0) AS under_way,
            0 AS reserved, 0 AS rejected, 0 AS early_said, 0 AS dead, 0 AS early_dead, 0 AS failed,
            ARRAY[topic, partition, "offset"] AS input_place,
            NULL::bigint[] AS said_place, NULL::bigint[] AS dead_place
        FROM log_input LEFT JOIN log_mark USING (topic, partition)
        UNION ALL
        SELECT order_id, 0, false, reserved::int, (NOT reserved)::int,
            ("offset" < coalesce(early, 0) AND NOT redriven)::int, 0, 0, 0, NULL,
            ARRAY[topic, partition, "offset"], NULL
        FROM log_outcome LEFT JOIN log_mark USING (topic, partition)
        UNION ALL
        SELECT coalesce(i.order_id, d.order_id), 0, false, 0, 0, 0, 1,
            (d."offset" < coalesce(early, 0))::int, 0, NULL, NULL,
            ARRAY[d.topic, d.partition, d."offset"]
        FROM log_dead d LEFT JOIN log_mark m USING (topic, partition)
        LEFT JOIN log_topic t ON t.name = d.origin_topic
        LEFT JOIN log_input i ON i.topic = t.topic AND i.partition = d.origin_partition
            AND i."offset" = d.origin_offset
        WHERE d.fails AND coalesce(i.order_id, d.order_id) IS NOT NULL
        UNION ALL
        SELECT order_id, 0, false, 0, 0, 0, 0, 0, 1, NULL, NULL, NULL
        FROM log_dead WHERE fails AND order_id IS NOT NULL
    ) AS fact GROUP BY order_id
"""

# One row per order that was changed after it was accepted. `answered`: inventory has read of it.
ENDS: LiteralString = """
    CREATE TEMP TABLE log_end AS
    SELECT order_id,
        count(*) FILTER (WHERE becomes = 'CANCELLED') AS cancelled,
        count(*) FILTER (WHERE becomes = 'EXPIRED') AS expired,
        count(*) FILTER (WHERE becomes = 'FULFILLED') AS fulfilled,
        count(*) FILTER (WHERE becomes = 'RELEASED') AS released,
        count(*) FILTER (WHERE becomes = 'RELEASED' AND "offset" < coalesce(early, 0))
            AS early_released,
        bool_and("offset" < coalesce(answered, 0)) FILTER (WHERE becomes <> 'RELEASED')
            AS answered,
        max(ARRAY[topic, partition, "offset"]) AS place
    FROM log_change LEFT JOIN log_mark USING (topic, partition) GROUP BY order_id
"""

# Everything that tells a projection something; `says` is the status (order_view's number for it),
# `fact` what analytics counts (analytics' number for it), `at` when that was.
SAYINGS: LiteralString = """
    CREATE TEMP VIEW log_saying AS
    SELECT order_id, ARRAY[topic, partition, "offset"] AS place, 0 AS says, 0 AS fact,
        NULL::timestamptz AS at, at AS created_at, NULL::timestamptz AS decided_at
    FROM log_input i WHERE topic = 0
    UNION ALL
    SELECT order_id, ARRAY[topic, partition, "offset"],
        CASE WHEN reserved THEN 20 WHEN reason = 'CANCELLED' THEN 31 ELSE 21 END,
        CASE WHEN reserved THEN 2 WHEN reason = 'CANCELLED' THEN 0 ELSE 4 END,
        decided_at, ordered_at, decided_at
    FROM log_outcome
    UNION ALL
    SELECT order_id, ARRAY[topic, partition, "offset"], 10, 1, at, NULL, NULL
    FROM log_dead WHERE fails AND order_id IS NOT NULL
    UNION ALL
    SELECT order_id, ARRAY[topic, partition, "offset"], coalesce(s.status, 0),
        coalesce(f.fact, 64), at, NULL, NULL
    FROM log_change LEFT JOIN log_status s ON s.name = becomes
    LEFT JOIN log_fact f ON f.name = becomes
"""

# What the log says of each order, as far as one projection has read it.
_SEEN: LiteralString = """
    CREATE TEMP TABLE {seen} AS
    SELECT s.order_id, max(s.says) AS status, bit_or(s.fact) AS facts,
        min(s.created_at) AS created_min, max(s.created_at) AS created_max,
        min(s.decided_at) AS decided_min, max(s.decided_at) AS decided_max,
        max(s.place) AS place, min(s.place) FILTER (WHERE s.decided_at IS NOT NULL) AS first_said
    FROM log_saying s JOIN log_topic t ON t.topic = s.place[1]
    JOIN {position} p ON p.topic = t.name AND p.partition = s.place[2] AND s.place[3] < p.next
    GROUP BY s.order_id
"""


def preparations() -> list[sql.Composed]:
    """Return the statements that come before the checks."""
    texts: tuple[LiteralString, ...] = (
        "ANALYZE log_mark",
        ORDERS,
        "ANALYZE log_order",
        ENDS,
        "ANALYZE log_end",
        SAYINGS,
    )
    steps = [sql.SQL(text).format() for text in texts]
    for schema in PROJECTIONS:
        seen = sql.Identifier(f"seen_by_{schema}")
        position = sql.Identifier(schema, "position")
        steps.append(sql.SQL(_SEEN).format(seen=seen, position=position))
        steps.append(sql.SQL("ANALYZE {}").format(seen))
    return steps


# The checks ---------------------------------------------------------------------------------

CHECKS = (
    Check(
        "lost",
        "Every accepted order is decided, among the dead letters, or still on its way.",
        """
        SELECT order_id, input_place, 'accepted; no outcome and no dead letter'
        FROM log_order
        WHERE inputs > 0 AND NOT under_way AND reserved = 0 AND rejected = 0 AND dead = 0
        """,
    ),
    Check(
        "doubled",
        "No order has two outcomes, and none is said more often than the order was put in.",
        """
        WITH several AS (
            SELECT order_id FROM log_order WHERE reserved + rejected > 1
        ), differing AS (
            SELECT order_id FROM log_outcome JOIN several USING (order_id) GROUP BY order_id
            HAVING count(DISTINCT (quantities, decided_at, reason, short)) > 1
        )
        SELECT order_id, said_place, CASE
            WHEN reserved > 0 AND rejected > 0 THEN 'both reserved and rejected'
            WHEN d.order_id IS NOT NULL THEN 'said twice with different contents'
            ELSE format('put in %s times, said %s times', inputs, early_said) END
        FROM log_order o JOIN several USING (order_id) LEFT JOIN differing d USING (order_id)
        WHERE (reserved > 0 AND rejected > 0) OR d.order_id IS NOT NULL
            OR (inputs > 0 AND early_said > inputs)
        """,
    ),
    Check(
        "unordered",
        "Every outcome is that of an order that was accepted.",
        """
        SELECT order_id, said_place, 'decided, but never accepted'
        FROM log_order WHERE early_said > 0 AND inputs = 0
        """,
    ),
    Check(
        "altered",
        "An outcome is about the items that were ordered.",
        """
        WITH stray AS MATERIALIZED (
            SELECT o.* FROM log_outcome o LEFT JOIN log_input i USING (order_id, quantities)
            WHERE i.order_id IS NULL
        )
        SELECT o.order_id, ARRAY[o.topic, o.partition, o."offset"],
            format('decided %s, ordered %s', o.quantities, min(i.quantities::text))
        FROM stray o JOIN log_input i USING (order_id)
        GROUP BY o.order_id, o.topic, o.partition, o."offset", o.quantities
        """,
    ),
    Check(
        "misnamed",
        "An outcome's event id is the one that belongs to the order and the outcome.",
        """
        SELECT order_id, ARRAY[topic, partition, "offset"], format('event id %s', event_id)
        FROM log_outcome WHERE event_id IS DISTINCT FROM order_id || CASE
            WHEN reserved THEN ':inventory.reserved' ELSE ':inventory.rejected' END
        """,
        whole_log=False,
    ),
    Check(
        "parked_though_decided",
        "A record is decided or parked as a dead letter, never both.",
        """
        SELECT order_id, dead_place,
            format('put in %s times, decided %s times, parked %s times',
                inputs, early_said, early_dead)
        FROM log_order
        WHERE inputs > 0 AND early_said BETWEEN 1 AND inputs AND early_said + early_dead > inputs
        """,
    ),
    Check(
        "parked_twice",
        "No record is among the dead letters twice.",
        """
        SELECT max(order_id), max(ARRAY[topic, partition, "offset"]),
            format('%s[%s] offset %s was parked %s times',
                origin_topic, origin_partition, origin_offset, count(*))
        FROM log_dead WHERE origin_offset IS NOT NULL
        GROUP BY origin_topic, origin_partition, origin_offset, fails HAVING count(*) > 1
        """,
    ),
    Check(
        "unreadable_unparked",
        "Every unreadable order record is among the dead letters, or will be tried again.",
        """
        WITH record AS (
            SELECT u.*, t.name, u."offset" >= coalesce(m.answered, 0) AS under_way
            FROM log_unreadable u JOIN log_topic t USING (topic)
            LEFT JOIN log_mark m USING (topic, partition) WHERE t.topic IN (0, 1)
        )
        SELECT min(order_id), min(ARRAY[topic, partition, "offset"]), min(why)
        FROM record r
        WHERE NOT EXISTS (
            SELECT FROM log_dead d WHERE d.origin_topic = r.origin_topic
                AND d.origin_partition = r.origin_partition AND d.origin_offset = r.origin_offset
        )
        GROUP BY origin_topic, origin_partition, origin_offset HAVING NOT bool_or(under_way)
        """,
    ),
    Check(
        "outcome_unstored",
        "What inventory said is what it has stored.",
        """
        SELECT o.order_id, ARRAY[o.topic, o.partition, o."offset"], CASE
            WHEN r.order_id IS NULL THEN 'said, but not in the store'
            WHEN r.decided_at IS NULL OR (r.reason IS NULL) <> o.reserved
                THEN 'the store says ' || r.status
            WHEN r.quantities <> o.quantities
                THEN format('said %s, the store has %s', o.quantities, r.quantities)
            ELSE format('said %s at %s, the store has %s at %s',
                coalesce(o.reason || ' ' || o.short, 'no reason'), o.decided_at,
                coalesce(r.reason || ' ' || r.short, 'no reason'), r.decided_at) END
        FROM log_outcome o LEFT JOIN log_mark m USING (topic, partition)
        LEFT JOIN inventory.reservation r ON r.order_id = o.order_id
        WHERE CASE WHEN r.order_id IS NULL THEN o."offset" < coalesce(m.early, 0)
            ELSE (r.reason IS NULL) <> o.reserved OR r.quantities <> o.quantities
                OR r.reason IS DISTINCT FROM o.reason OR r.short IS DISTINCT FROM o.short
                OR r.decided_at IS DISTINCT FROM o.decided_at END
        """,
        whole_log=False,
    ),
    Check(
        "reservation_unsaid",
        "What inventory has stored, it has said, unless the order is still on its way.",
        """
        SELECT r.order_id, o.input_place, format('the store says %s, the log does not', r.status)
        FROM inventory.reservation r LEFT JOIN log_order o USING (order_id)
        WHERE NOT coalesce(o.under_way, false) AND r.decided_at IS NOT NULL
            AND coalesce(CASE WHEN r.reason IS NULL THEN o.reserved ELSE o.rejected END, 0) = 0
        """,
    ),
    Check(
        "ended_twice",
        "No order is both cancelled and fulfilled.",
        """
        SELECT order_id, place, format('cancelled %s times, expired %s times, fulfilled %s times',
            cancelled, expired, fulfilled)
        FROM log_end WHERE cancelled + expired > 0 AND fulfilled > 0
        """,
    ),
    Check(
        "ended_in_vain",
        "Of an order that is over, nothing is set aside any more.",
        """
        SELECT order_id, e.place, 'over, but the store says RESERVED'
        FROM log_end e JOIN inventory.reservation r USING (order_id)
        WHERE e.answered AND r.status = 'RESERVED'
        """,
    ),
    Check(
        "released_unsaid",
        "What inventory has released, it has said, unless the change is still on its way.",
        """
        SELECT order_id, e.place, format('released at %s, the log does not say so', r.released_at)
        FROM inventory.reservation r JOIN log_end e USING (order_id)
        WHERE r.released_at IS NOT NULL AND e.released = 0 AND e.answered
        """,
    ),
    Check(
        "released_unstored",
        "What inventory said it released is what it has stored.",
        """
        SELECT c.order_id, ARRAY[c.topic, c.partition, c."offset"],
            format('released %s at %s, the store says %s %s at %s', c.quantities, c.at,
                coalesce(r.status, 'nothing'), r.quantities, r.released_at)
        FROM log_change c LEFT JOIN log_mark m USING (topic, partition)
        LEFT JOIN inventory.reservation r ON r.order_id = c.order_id
        WHERE c.becomes = 'RELEASED' AND CASE WHEN r.released_at IS NULL
            THEN c."offset" < coalesce(m.early, 0)
            ELSE r.released_at <> c.at OR r.quantities <> c.quantities END
        """,
        whole_log=False,
    ),
    Check(
        "released_twice",
        "Nothing is released more often than the order was cancelled or expired.",
        """
        SELECT order_id, place, format('over %s times, released %s times',
            cancelled + expired, early_released)
        FROM log_end WHERE early_released > cancelled + expired
        """,
    ),
    Check(
        "stock_sum",
        "What a SKU has reserved is the sum of its reservations.",
        """
        SELECT NULL, NULL::bigint[],
            format('SKU %s: reserved %s, its reservations sum to %s', sku, reserved, total)
        FROM (
            SELECT sku, coalesce(s.reserved, 0) AS reserved, coalesce(r.total, 0) AS total
            FROM inventory.stock s FULL JOIN (
                SELECT q.key AS sku, sum(q.value::numeric) AS total
                FROM inventory.reservation, jsonb_each_text(quantities) AS q
                WHERE status = 'RESERVED' GROUP BY q.key
            ) AS r USING (sku)
        ) AS both_sides WHERE reserved <> total
        """,
        whole_log=False,
    ),
    Check(
        "stock_range",
        "No SKU has less than nothing on hand or reserved, nor more reserved than on hand.",
        """
        SELECT NULL, NULL::bigint[],
            format('SKU %s: on hand %s, reserved %s', sku, on_hand, reserved)
        FROM inventory.stock WHERE on_hand < 0 OR reserved < 0 OR reserved > on_hand
        """,
        whole_log=False,
    ),
    Check(
        "view_missing",
        "Every order that the view has read of has a page.",
        """
        SELECT s.order_id, s.place, 'no page' FROM seen_by_order_view s
        LEFT JOIN order_view.orders v USING (order_id) WHERE v.order_id IS NULL
        """,
    ),
    Check(
        "view_extra",
        "Every page is that of an order in the log.",
        """
        SELECT v.order_id, NULL::bigint[], 'a page, but nothing in the log'
        FROM order_view.orders v LEFT JOIN log_order o USING (order_id)
        LEFT JOIN log_end e USING (order_id)
        WHERE o.order_id IS NULL AND e.order_id IS NULL
        """,
    ),
    Check(
        "view_status",
        "A page's status is what the log says.",
        """
        SELECT order_id, s.place, format('the page says %s, the log says %s', p.name, l.name)
        FROM seen_by_order_view s JOIN order_view.orders v USING (order_id)
        LEFT JOIN log_status p ON p.status = v.status LEFT JOIN log_status l ON l.status = s.status
        WHERE v.status <> s.status
        """,
    ),
    Check(
        "view_times",
        "A page's times are those of the log.",
        """
        SELECT order_id, s.place, format('created %s, decided %s; the log says %s, %s',
            coalesce(v.created_at::text, 'never'), coalesce(v.decided_at::text, 'never'),
            coalesce(s.created_min::text, 'never'), coalesce(s.decided_min::text, 'never'))
        FROM seen_by_order_view s JOIN order_view.orders v USING (order_id)
        WHERE (v.created_at IS NULL) <> (s.created_min IS NULL)
            OR v.created_at NOT BETWEEN s.created_min AND s.created_max
            OR (v.decided_at IS NULL) <> (s.decided_min IS NULL)
            OR v.decided_at NOT BETWEEN s.decided_min AND s.decided_max
        """,
    ),
    Check(
        "notice_missing",
        "Every outcome and every failure that notification has read of is on the log channel.",
        """
        SELECT s.order_id, s.place, format('no notice of %s', k.type)
        FROM seen_by_notification s CROSS JOIN LATERAL (VALUES ('inventory.reserved', 2),
            ('inventory.rejected', 4), ('order.failed', 1), ('order.cancelled', 24),
            ('order.fulfilled', 32)) AS k (type, fact)
        LEFT JOIN notification.notice n
            ON n.event_id = s.order_id || ':' || k.type AND n.channel = 'log'
        WHERE s.facts & k.fact <> 0 AND n.event_id IS NULL
        """,
    ),
    Check(
        "notice_extra",
        "Every notice is of something that the log says.",
        """
        SELECT n.order_id, NULL::bigint[],
            format('a notice on %s of %s, which the log does not have', n.channel, n.event_id)
        FROM notification.notice n LEFT JOIN log_order o USING (order_id)
        LEFT JOIN log_end e USING (order_id)
        WHERE coalesce(CASE n.event_id
            WHEN n.order_id || ':inventory.reserved' THEN o.reserved
            WHEN n.order_id || ':inventory.rejected' THEN o.rejected
            WHEN n.order_id || ':order.failed' THEN o.failed
            WHEN n.order_id || ':order.cancelled' THEN e.cancelled + e.expired
            WHEN n.order_id || ':order.fulfilled' THEN e.fulfilled END, 0) = 0
        """,
    ),
    Check(
        "analytics_counted",
        "Of every order analytics knows what the log says, as far as it has read it.",
        """
        SELECT order_id, s.place, format('counts as %s, the log says %s',
            coalesce(pg_temp.log_facts(c.facts), 'nothing'),
            coalesce(pg_temp.log_facts(s.facts), 'nothing'))
        FROM seen_by_analytics s FULL JOIN analytics.counted c USING (order_id)
        WHERE coalesce(c.facts, 0) <> coalesce(s.facts, 0)
        """,
    ),
    Check(
        "analytics_outcomes",
        "The counts per outcome are the orders that count as it.",
        """
        SELECT NULL, NULL::bigint[],
            format('%s: counted %s, the log has %s', outcome, coalesce(a.orders, 0),
                coalesce(s.orders, 0))
        FROM analytics.per_outcome a FULL JOIN (
            SELECT f.name AS outcome, count(*) AS orders FROM seen_by_analytics s
            JOIN log_fact f ON f.fact <= s.facts & 63 AND s.facts & 63 < f.fact * 2 GROUP BY 1
        ) AS s USING (outcome) WHERE coalesce(a.orders, 0) <> coalesce(s.orders, 0)
        """,
    ),
    Check(
        "analytics_skus",
        "What was sold of each SKU, and lost for want of it, is what the log says.",
        """
        SELECT NULL, NULL::bigint[],
            format('SKU %s: sold %s, lost %s; the log says %s, %s', sku, coalesce(a.sold, 0),
                coalesce(a.lost, 0), coalesce(s.sold, 0), coalesce(s.lost, 0))
        FROM analytics.per_sku a FULL JOIN (
            SELECT sku, sum(sold) AS sold, sum(lost) AS lost FROM (
                SELECT q.key AS sku, CASE WHEN o.reserved THEN q.value::numeric ELSE 0 END AS sold,
                    CASE WHEN o.short ? q.key THEN q.value::numeric ELSE 0 END AS lost
                FROM seen_by_analytics s JOIN log_outcome o USING (order_id),
                    jsonb_each_text(o.quantities) AS q
                WHERE s.first_said = ARRAY[o.topic, o.partition, o."offset"]
                    AND (o.reserved OR o.short ? q.key)
                UNION ALL
                SELECT q.key, -q.value::numeric, 0 FROM (
                    SELECT DISTINCT ON (order_id) c.quantities
                    FROM seen_by_analytics s JOIN log_change c USING (order_id)
                    WHERE s.facts & 64 <> 0 AND c.becomes = 'RELEASED'
                    ORDER BY order_id, c."offset"
                ) AS freed, jsonb_each_text(freed.quantities) AS q
            ) AS moved GROUP BY sku
        ) AS s USING (sku)
        WHERE coalesce(a.sold, 0) <> coalesce(s.sold, 0)
            OR coalesce(a.lost, 0) <> coalesce(s.lost, 0)
        """,
    ),
    Check(
        # Each stays in its minute, whatever becomes of the order later.
        "analytics_minutes",
        "The counts per minute are what happened to orders in it.",
        """
        SELECT NULL, NULL::bigint[],
            format('%s %s: counted %s, the log has %s', minute, outcome, coalesce(a.orders, 0),
                coalesce(s.orders, 0))
        FROM analytics.per_minute a FULL JOIN (
            SELECT date_trunc('minute', at) AS minute, f.name AS outcome, count(*) AS orders
            FROM (
                SELECT DISTINCT ON (order_id, fact) fact, at
                FROM log_saying s JOIN log_topic t ON t.topic = s.place[1]
                JOIN analytics.position p
                    ON p.topic = t.name AND p.partition = s.place[2] AND s.place[3] < p.next
                WHERE fact BETWEEN 1 AND 32 ORDER BY order_id, fact, place
            ) AS first JOIN log_fact f USING (fact) GROUP BY 1, 2
        ) AS s USING (minute, outcome)
        WHERE coalesce(a.orders, 0) <> coalesce(s.orders, 0)
        """,
    ),
    Check(
        "analytics_latency",
        "Every decided order has one place in the histogram of latency.",
        """
        SELECT NULL, NULL::bigint[], format('the histogram has %s orders, the log %s', a, s)
        FROM (SELECT coalesce(sum(orders), 0) AS a FROM analytics.latency) AS a,
            (SELECT count(*) AS s FROM seen_by_analytics WHERE facts & 6 <> 0) AS s
        WHERE a <> s
        """,
    ),
)

# Orders by what the log says of them.
OUTCOMES: LiteralString = """
    SELECT CASE WHEN fulfilled > 0 THEN 'FULFILLED' WHEN cancelled > 0 THEN 'CANCELLED'
        WHEN expired > 0 THEN 'EXPIRED' WHEN rejected > 0 THEN 'REJECTED'
        WHEN reserved > 0 THEN 'CONFIRMED' WHEN dead + failed > 0 THEN 'FAILED'
        ELSE 'PENDING' END, count(*)
    FROM log_order LEFT JOIN log_end USING (order_id) GROUP BY 1
"""
