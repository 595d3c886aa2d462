-- For lists of one state, the newest first: those that wait to be shipped, or failed, are few among many.
CREATE INDEX orders_of_status ON orders (status, created_at DESC, order_id DESC);
-- For lists of orders with one SKU. Items never change once they are known, so updates stay HOT.
CREATE INDEX orders_items ON orders USING gin (items jsonb_path_ops);
