-- A later state changes the order's entry in `orders_of_status`, so hardly an update is a HOT one any more, and
-- room for those on every page would be kept in vain.
ALTER TABLE orders RESET (fillfactor);
