-- Sixty-four orders to a row: what is known of number n is byte n % 64 of row n / 64, so a batch
-- touches a hundredth of the rows, and an order costs a byte or two. Ids of other kinds keep a row each.
ALTER TABLE counted RENAME TO counted_names;
CREATE TABLE counted_numbers (
    block bigint PRIMARY KEY,
    facts bytea NOT NULL CHECK (octet_length(facts) = 64)
);
INSERT INTO counted_numbers
    SELECT block, string_agg(set_byte('\x00', 0, coalesce(facts, 0)), '' ORDER BY slot)
    FROM (SELECT DISTINCT order_id::bigint / 64 AS block FROM counted_names
        WHERE order_id ~ '^(0|[1-9][0-9]{0,17})$') AS blocks
    CROSS JOIN generate_series(0, 63) AS slot
    LEFT JOIN counted_names ON order_id = (block * 64 + slot)::text
    GROUP BY block;
DELETE FROM counted_names WHERE order_id ~ '^(0|[1-9][0-9]{0,17})$';

-- What is known of each order (analytics/rules.py).
CREATE VIEW counted AS
    SELECT (block * 64 + slot)::text AS order_id, get_byte(facts, slot)::smallint AS facts
    FROM counted_numbers CROSS JOIN generate_series(0, 63) AS slot
    WHERE get_byte(facts, slot) <> 0
    UNION ALL SELECT order_id, facts FROM counted_names;

-- The finest grain, once; hours and days of a zone are added up when they are asked for. A
-- quantity, like an order, stays in the minute (UTC) in which it happened: `sold` is less what was
-- given back in that minute, and may be below zero.
CREATE TABLE sku_minute (
    minute timestamptz NOT NULL,
    sku text COLLATE "C" NOT NULL,
    sold bigint NOT NULL,
    lost bigint NOT NULL,
    PRIMARY KEY (minute, sku)
);
-- The same by the quarter of an hour, for months and years: a fifteenth of the rows, and the hours and
-- days of every zone of today begin with one.
CREATE TABLE sku_quarter (LIKE sku_minute INCLUDING ALL);

-- Nearly every order of a minute is another user's, so a row for each would cost more than all else
-- together. A row holds the users of one batch with an outcome in a minute, each once. Who reads adds up.
CREATE TABLE user_batch (
    minute timestamptz NOT NULL,
    outcome text NOT NULL,
    users text[] NOT NULL,
    orders int[] NOT NULL
);
CREATE INDEX user_batch_minute ON user_batch (minute);
CREATE VIEW user_minute AS
    SELECT minute, user_id, outcome, sum(n)::bigint AS orders
    FROM user_batch CROSS JOIN LATERAL unnest(users, orders) AS each (user_id, n)
    GROUP BY minute, user_id, outcome;

-- As `latency`: histograms of minutes are merged by adding.
CREATE TABLE latency_minute (
    minute timestamptz NOT NULL,
    bucket smallint NOT NULL,
    orders bigint NOT NULL,
    PRIMARY KEY (minute, bucket)
);

-- From now on order.created is read as well. What the view passes over of it since a prune has to be
-- passed over here: an order that was pruned would come back, and count as PENDING.
DO $$ BEGIN
    IF to_regclass('order_view.forgotten') IS NOT NULL AND EXISTS (SELECT FROM forgotten) THEN
        INSERT INTO forgotten SELECT f.topic, f.partition, f.next FROM order_view.forgotten f
        WHERE f.topic NOT IN (SELECT topic FROM forgotten);
    END IF;
END $$;
