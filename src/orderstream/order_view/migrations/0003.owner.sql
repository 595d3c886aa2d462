-- The name of the API key that an order came with, where keys are needed: a client sees its own only.
ALTER TABLE orders ADD COLUMN owner text;
CREATE INDEX orders_of_owner ON orders (owner, created_at DESC, order_id DESC)
    WHERE owner IS NOT NULL;
