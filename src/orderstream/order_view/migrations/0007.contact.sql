-- How the customer is told; what ends the order's life repeats it.
ALTER TABLE orders ADD COLUMN notify jsonb;
