"""What the log says that a restored store does not know, and how it is put in.

The facts stand in temporary tables (`facts.py` fills them). Each statement does what is missing and
no more: done again, it does nothing.
"""

TABLES = """
    -- What inventory said: an order's outcome, and what it gave back.
    CREATE TEMP TABLE log_decided (
        order_id text, quantities jsonb, reason text, short jsonb, decided_at timestamptz
    ) ON COMMIT DROP;
    CREATE TEMP TABLE log_released (
        order_id text, cause text, released_at timestamptz
    ) ON COMMIT DROP;
    -- How orders ended. `answered`: inventory has dealt with it. The event where the order service
    -- may not know of it.
    CREATE TEMP TABLE log_ended (
        order_id text, becomes text, at timestamptz, answered boolean, event bytea
    ) ON COMMIT DROP;
    CREATE TEMP TABLE log_claim (
        name text, fingerprint bytea, order_id text, numeric_id boolean, number bigint
    ) ON COMMIT DROP;
    CREATE TEMP TABLE log_shipped (sku text PRIMARY KEY, quantity bigint) ON COMMIT DROP;
"""

# Inventory: as store_postgres.py decides, but what is said on the log is not decided anew. -------

DECIDED = """
    INSERT INTO inventory.reservation AS r
        (order_id, status, quantities, reason, short, decided_at)
    SELECT DISTINCT ON (order_id) order_id,
        CASE WHEN reason IS NULL THEN 'RESERVED' ELSE 'REJECTED' END,
        quantities, reason, short, decided_at
    FROM log_decided ORDER BY order_id, decided_at
    ON CONFLICT (order_id) DO UPDATE SET status = excluded.status,
        quantities = excluded.quantities, reason = excluded.reason, short = excluded.short,
        decided_at = excluded.decided_at
    WHERE r.decided_at IS NULL
"""
RELEASED = """
    UPDATE inventory.reservation r SET status = l.cause, released_at = l.released_at
    FROM (SELECT DISTINCT ON (order_id) * FROM log_released ORDER BY order_id, released_at) AS l
    WHERE r.order_id = l.order_id AND r.status = 'RESERVED'
"""
SHIPPED = """
    WITH gone AS (
        UPDATE inventory.reservation r SET status = 'FULFILLED' FROM log_ended e
        WHERE r.order_id = e.order_id AND r.status = 'RESERVED'
            AND e.answered AND e.becomes = 'FULFILLED'
        RETURNING r.quantities
    ), shipped AS (
        INSERT INTO log_shipped SELECT key, sum(value::bigint)
        FROM gone CROSS JOIN jsonb_each_text(quantities) GROUP BY key
    )
    SELECT count(*) FROM gone
"""
# Of an order that inventory heard the end of before the order itself.
ENDED = """
    INSERT INTO inventory.reservation (order_id, status, quantities)
    SELECT DISTINCT ON (order_id) order_id, becomes, '{}'::jsonb FROM log_ended
    WHERE answered ORDER BY order_id, at
    ON CONFLICT DO NOTHING
"""
# Stock that was put on the shelf by hand after the backup stands nowhere. There was at least what
# orders were given of it.
STOCK = """
    WITH held AS (
        SELECT key AS sku, sum(value::bigint) AS reserved
        FROM inventory.reservation CROSS JOIN jsonb_each_text(quantities)
        WHERE status = 'RESERVED' GROUP BY key
    ), due AS (
        SELECT sku, coalesce(reserved, 0) AS reserved, on_hand AS before,
            coalesce(on_hand, 0) - coalesce(quantity, 0) AS left_over
        FROM (SELECT sku, on_hand FROM inventory.stock) AS s
        FULL JOIN held USING (sku) FULL JOIN log_shipped USING (sku)
    ), put AS (
        INSERT INTO inventory.stock AS s (sku, on_hand, reserved)
        SELECT sku, greatest(left_over, reserved), reserved FROM due ORDER BY sku
        ON CONFLICT (sku) DO UPDATE SET on_hand = excluded.on_hand, reserved = excluded.reserved
        WHERE (s.on_hand, s.reserved) IS DISTINCT FROM (excluded.on_hand, excluded.reserved)
    )
    SELECT sku, greatest(left_over, reserved), greatest(left_over, reserved) - left_over
    FROM due WHERE left_over < reserved ORDER BY sku
"""

# The order service -------------------------------------------------------------------------------

CHANGES = """
    INSERT INTO orders.change AS c (order_id, becomes, event, at, published)
    SELECT DISTINCT ON (order_id) order_id, becomes, event, at, true FROM log_ended
    WHERE event IS NOT NULL ORDER BY order_id, at
    ON CONFLICT (order_id) DO UPDATE SET published = true
    WHERE NOT c.published AND c.becomes = excluded.becomes
"""
CLAIMS = """
    INSERT INTO orders.claim AS c (name, fingerprint, order_id, numeric_id, number, published)
    SELECT DISTINCT ON (name) *, true FROM log_claim ORDER BY name
    ON CONFLICT (name) DO UPDATE SET published = true WHERE NOT c.published
"""
NEXT_ID = "SELECT next FROM orders.id_block FOR UPDATE"
SET_NEXT_ID = "UPDATE orders.id_block SET next = %s"

# Notification ------------------------------------------------------------------------------------

TOLD = """
    INSERT INTO notification.told AS t (topic, partition, next) VALUES (%s, %s, %s)
    ON CONFLICT (topic, partition) DO UPDATE SET next = greatest(t.next, excluded.next)
"""
# What waited then has been sent since, most likely.
SKIP_WAITING = """
    UPDATE notification.notice SET status = 'SKIPPED', why = %s, due_at = NULL
    WHERE status IN ('PENDING', 'SENDING')
"""
