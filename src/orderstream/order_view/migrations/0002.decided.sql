-- Finds what was decided in a span of time. BRIN: next to nothing to keep, and a page's update stays
-- a HOT update (PostgreSQL 16 and newer).
CREATE INDEX orders_decided ON orders USING brin (decided_at);
