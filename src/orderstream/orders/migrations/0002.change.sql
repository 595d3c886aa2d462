-- The one change that ends each order's life, decided here: the first to come stays, so an order is
-- never both cancelled and fulfilled. `event` is the record's value, kept until it is on Kafka.
CREATE TABLE change (
    order_id text PRIMARY KEY,
    becomes text NOT NULL CHECK (becomes IN ('CANCELLED', 'FULFILLED', 'EXPIRED')),
    event bytea NOT NULL,
    at timestamptz NOT NULL,
    published boolean NOT NULL DEFAULT false
);

CREATE INDEX change_unpublished ON change (at) WHERE NOT published;
