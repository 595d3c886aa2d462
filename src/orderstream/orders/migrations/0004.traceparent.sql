-- The trace context of the request that ended the order: it travels with the event, which may go out
-- later than the request.
ALTER TABLE change ADD COLUMN traceparent bytea;
