-- Stock, and every outcome ever given. The database itself refuses an oversell.
CREATE TABLE stock (
    sku text PRIMARY KEY,
    on_hand bigint NOT NULL CHECK (on_hand >= 0),
    reserved bigint NOT NULL DEFAULT 0 CHECK (reserved >= 0),
    CONSTRAINT no_oversell CHECK (reserved <= on_hand)
) WITH (fillfactor = 50);  -- Rows change all the time: room for HOT updates.

-- One row per order that was ever decided, written once. `quantities` maps SKU to how many: one
-- column and not a table of lines, so that a decision costs one row (docs/decisions/0006).
CREATE TABLE reservation (
    order_id text PRIMARY KEY,
    status text NOT NULL CHECK (status IN ('RESERVED', 'REJECTED')),
    quantities jsonb NOT NULL,
    reason text CHECK (reason IN ('OUT_OF_STOCK', 'UNKNOWN_SKU')),
    short jsonb,
    decided_at timestamptz NOT NULL,
    CHECK ((status = 'REJECTED') = (reason IS NOT NULL))
);
