"""The promises about orders and stock: the log against itself, and against inventory's store."""

from orderstream.audit.check import Check

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
        "owner_altered",
        "An outcome names the owner that the order came with, or none if it came with none.",
        """
        SELECT order_id, ARRAY[o.topic, o.partition, o."offset"],
            format('decided as an order of %s, accepted as one of %s',
                coalesce(o.owner, 'nobody'), coalesce(nullif(l.owner_max, ''), 'nobody'))
        FROM log_outcome o JOIN log_order l USING (order_id)
        WHERE coalesce(o.owner, '') NOT BETWEEN owner_min AND owner_max
        """,
    ),
    Check(
        "claimed_by_another",
        "An Idempotency-Key stands for an order of the owner that it was said by.",
        """
        SELECT order_id, input_place, format('%s stands for an order of %s',
            name, coalesce(nullif(owner_max, ''), 'nobody'))
        FROM (
            SELECT order_id, name, CASE WHEN name LIKE 'key@%:%'
                THEN substring(name FROM '@([^:]*)') ELSE '' END AS said_by
            FROM orders.claim WHERE name LIKE 'key%'
        ) AS c JOIN log_order l USING (order_id)
        WHERE said_by NOT BETWEEN owner_min AND owner_max
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
        "No record is among the dead letters twice by the same group.",
        """
        SELECT max(order_id), max(ARRAY[topic, partition, "offset"]),
            format('%s[%s] offset %s was parked %s times',
                origin_topic, origin_partition, origin_offset, count(*))
        FROM log_dead WHERE origin_offset IS NOT NULL
        GROUP BY origin_topic, origin_partition, origin_offset,
            fails, CASE WHEN NOT fails THEN parked_by END
        HAVING count(*) > 1
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
                AND NOT EXISTS (SELECT FROM log_pruned p WHERE p.order_id = o.order_id)
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
                AND NOT EXISTS (SELECT FROM log_pruned p WHERE p.order_id = c.order_id)
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
)
