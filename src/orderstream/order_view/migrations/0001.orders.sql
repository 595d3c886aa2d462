-- One row per order, folded from the log. `status` is a rank (order_view/rules.py): the greater of
-- two is the later one in an order's life, so events may be folded in any sequence.
CREATE TABLE orders (
    order_id text PRIMARY KEY,
    numeric_id boolean NOT NULL,
    status smallint NOT NULL,
    user_id text,
    numeric_user boolean NOT NULL,
    items jsonb,
    reason text,
    short jsonb,
    created_at timestamptz,
    decided_at timestamptz,
    timeline jsonb NOT NULL
) WITH (fillfactor = 80);  -- Most rows are updated once: room for a HOT update.

CREATE INDEX orders_newest ON orders (created_at DESC, order_id DESC);
CREATE INDEX orders_of_user ON orders (user_id, created_at DESC, order_id DESC);
