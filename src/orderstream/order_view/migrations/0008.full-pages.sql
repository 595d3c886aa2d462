-- An order's later states change its entry in `orders_of_status`, so no update is a HOT one any more, and
-- room for those on every page would be kept in vain.
ALTER TABLE orders RESET (fillfactor);
