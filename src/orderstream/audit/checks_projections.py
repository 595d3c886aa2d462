"""The promises about what follows: pages, notices and numbers against the log."""

from orderstream.audit.check import Check

CHECKS = (
    Check(
        "view_missing",
        "Every order that the view has read of has a page.",
        """
        SELECT s.order_id, s.place, 'no page' FROM seen_by_order_view s
        LEFT JOIN order_view.orders v USING (order_id) LEFT JOIN log_pruned p USING (order_id)
        WHERE v.order_id IS NULL AND p.order_id IS NULL
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
        "view_owner",
        "A page belongs to whom the log says that the order is of.",
        """
        SELECT order_id, s.place, format('the page is of %s, the log says %s',
            coalesce(v.owner, 'nobody'), coalesce(nullif(s.owner_max, ''), 'nobody'))
        FROM seen_by_order_view s JOIN order_view.orders v USING (order_id)
        WHERE coalesce(v.owner, '') NOT BETWEEN s.owner_min AND s.owner_max
        """,
    ),
    Check(
        "notice_missing",
        "Every outcome and failure that notification has read of is written down for a channel.",
        """
        SELECT s.order_id, s.place, format('no notice of %s', k.type)
        FROM seen_by_notification s CROSS JOIN LATERAL (VALUES ('inventory.reserved', 2),
            ('inventory.rejected', 4), ('order.failed', 1), ('order.cancelled', 24),
            ('order.fulfilled', 32)) AS k (type, fact)
        LEFT JOIN log_pruned p ON p.order_id = s.order_id
        WHERE s.facts & k.fact <> 0 AND p.order_id IS NULL AND NOT EXISTS (
            SELECT FROM notification.notice n WHERE n.event_id = s.order_id || ':' || k.type)
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
            WHEN n.order_id || ':order.fulfilled' THEN e.fulfilled
            WHEN n.order_id || ':order.created' THEN o.inputs END, 0) = 0
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
        LEFT JOIN log_pruned p USING (order_id)
        WHERE coalesce(c.facts, CASE WHEN p.order_id IS NULL THEN 0 ELSE s.facts END)
            <> coalesce(s.facts, 0)
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
            SELECT coalesce(f.name, 'PENDING') AS outcome, count(*) AS orders
            FROM seen_by_analytics s
            LEFT JOIN log_fact f ON f.fact <= s.facts & 63 AND s.facts & 63 < f.fact * 2
            WHERE s.facts & 191 <> 0 GROUP BY 1  -- Released alone, it counts as nothing.
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
                WHERE fact & 191 <> 0 ORDER BY order_id, fact, place
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
