"""The promises, each as one statement that finds whatever breaks it.

All of them read one snapshot of the stores, and a log that was read past that snapshot. Services
may be at work meanwhile; what makes every check exact nevertheless:
    a store's rows        must be in the log, since the log was read further than the store
    what the log says     must be in a projection up to the projection's own stored position
    an input record       must have its outcome if inventory's committed offset is past it
    a decision on the log must be in inventory's store if it was there before the snapshot
Each statement gives order_id, place (topic number, partition, offset; or null) and detail.
"""

from typing import LiteralString

from psycopg import sql

from orderstream.audit import checks_orders, checks_projections

PROJECTIONS = ("order_view", "notification", "analytics")
CHECKS = (*checks_orders.CHECKS, *checks_projections.CHECKS)


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
        min(owner) AS owner_min, max(owner) AS owner_max, min(input_place) AS input_place,
        max(said_place) AS said_place, max(dead_place) AS dead_place
    FROM (
        SELECT order_id, fresh::int AS input, "offset" >= coalesce(answered, 0) AS under_way,
            0 AS reserved, 0 AS rejected, 0 AS early_said, 0 AS dead, 0 AS early_dead, 0 AS failed,
            coalesce(owner, '') AS owner, ARRAY[topic, partition, "offset"] AS input_place,
            NULL::bigint[] AS said_place, NULL::bigint[] AS dead_place
        FROM log_input LEFT JOIN log_mark USING (topic, partition)
        UNION ALL
        SELECT order_id, 0, false, reserved::int, (NOT reserved)::int,
            ("offset" < coalesce(early, 0) AND NOT redriven)::int, 0, 0, 0, NULL, NULL,
            ARRAY[topic, partition, "offset"], NULL
        FROM log_outcome LEFT JOIN log_mark USING (topic, partition)
        UNION ALL
        SELECT coalesce(i.order_id, d.order_id), 0, false, 0, 0, 0, 1,
            (d."offset" < coalesce(early, 0))::int, 0, NULL, NULL, NULL,
            ARRAY[d.topic, d.partition, d."offset"]
        FROM log_dead d LEFT JOIN log_mark m USING (topic, partition)
        LEFT JOIN log_topic t ON t.name = d.origin_topic
        LEFT JOIN log_input i ON i.topic = t.topic AND i.partition = d.origin_partition
            AND i."offset" = d.origin_offset
        WHERE d.fails AND coalesce(i.order_id, d.order_id) IS NOT NULL
        UNION ALL
        SELECT order_id, 0, false, 0, 0, 0, 0, 0, 1, NULL, NULL, NULL, NULL
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
        count(*) FILTER (WHERE becomes = 'RELEASED' AND NOT redriven
            AND "offset" < coalesce(early, 0)) AS early_released,
        bool_and("offset" < coalesce(answered, 0)) FILTER (WHERE becomes <> 'RELEASED')
            AS answered,
        max(ARRAY[topic, partition, "offset"]) AS place
    FROM log_change LEFT JOIN log_mark USING (topic, partition) GROUP BY order_id
"""

# Everything that tells a projection something; `says` is the status (order_view's number for it),
# `fact` what analytics counts (analytics' number for it), `at` when that was. `owner` is empty for
# an order of nobody's, and null where nothing is said of it.
SAYINGS: LiteralString = """
    CREATE TEMP VIEW log_saying AS
    SELECT order_id, ARRAY[topic, partition, "offset"] AS place, 0 AS says, 128 AS fact,
        at, at AS created_at, NULL::timestamptz AS decided_at,
        coalesce(owner, '') AS owner
    FROM log_input i WHERE topic = 0
    UNION ALL
    SELECT order_id, ARRAY[topic, partition, "offset"],
        CASE WHEN reserved THEN 20 WHEN reason = 'CANCELLED' THEN 31 ELSE 21 END,
        CASE WHEN reserved THEN 2 WHEN reason = 'CANCELLED' THEN 0 ELSE 4 END,
        decided_at, ordered_at, decided_at, coalesce(owner, '')
    FROM log_outcome
    UNION ALL
    SELECT order_id, ARRAY[topic, partition, "offset"], 10, 1, at, NULL, NULL, NULL
    FROM log_dead WHERE fails AND order_id IS NOT NULL
    UNION ALL
    SELECT order_id, ARRAY[topic, partition, "offset"], coalesce(s.status, 0),
        coalesce(f.fact, 64), at, NULL, NULL, NULL
    FROM log_change LEFT JOIN log_status s ON s.name = becomes
    LEFT JOIN log_fact f ON f.name = becomes
"""

# Orders that `orderstream prune` has forgotten, as far as the log still has them: over before the
# time that it was told, and without a reservation. Nothing where it never ran.
PRUNED: LiteralString = """
    CREATE TEMP TABLE log_pruned AS
    SELECT order_id FROM log_saying GROUP BY order_id
    HAVING (SELECT before FROM inventory.pruned) IS NOT NULL
        AND bool_or(says = 21 OR says >= 30)
        AND greatest(max(at), max(created_at), max(decided_at))
            < (SELECT before FROM inventory.pruned)
        AND NOT EXISTS (
            SELECT FROM inventory.reservation r WHERE r.order_id = log_saying.order_id
        )
"""

# What the log says of each order, as far as one projection has read it.
_SEEN: LiteralString = """
    CREATE TEMP TABLE {seen} AS
    SELECT s.order_id, max(s.says) AS status, bit_or(s.fact) AS facts,
        min(s.created_at) AS created_min, max(s.created_at) AS created_max,
        min(s.decided_at) AS decided_min, max(s.decided_at) AS decided_max,
        max(s.place) AS place, min(s.place) FILTER (WHERE s.decided_at IS NOT NULL) AS first_said
        {more}
    FROM log_saying s JOIN log_topic t ON t.topic = s.place[1]
    JOIN {position} p ON p.topic = t.name AND p.partition = s.place[2] AND s.place[3] < p.next
    GROUP BY s.order_id
"""

# Only pages have an owner. What was decided on stands before what was ordered.
_OWNERS: LiteralString = """
    , coalesce(min(s.owner) FILTER (WHERE s.decided_at IS NOT NULL), min(s.owner), '') AS owner_min
    , coalesce(max(s.owner) FILTER (WHERE s.decided_at IS NOT NULL), max(s.owner), '') AS owner_max
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
        PRUNED,
        "ANALYZE log_pruned",
    )
    steps = [sql.SQL(text).format() for text in texts]
    for schema in PROJECTIONS:
        seen = sql.Identifier(f"seen_by_{schema}")
        position = sql.Identifier(schema, "position")
        more = sql.SQL(_OWNERS if schema == "order_view" else "")
        steps.append(sql.SQL(_SEEN).format(seen=seen, position=position, more=more))
        steps.append(sql.SQL("ANALYZE {}").format(seen))
    return steps


# Orders by what the log says of them.
OUTCOMES: LiteralString = """
    SELECT CASE WHEN fulfilled > 0 THEN 'FULFILLED' WHEN cancelled > 0 THEN 'CANCELLED'
        WHEN expired > 0 THEN 'EXPIRED' WHEN rejected > 0 THEN 'REJECTED'
        WHEN reserved > 0 THEN 'CONFIRMED' WHEN dead + failed > 0 THEN 'FAILED'
        ELSE 'PENDING' END, count(*)
    FROM log_order LEFT JOIN log_end USING (order_id) GROUP BY 1
"""
