-- What is known of each order (analytics/rules.py, Fact), so that an event that is read twice
-- counts once, and an order moves from count to count in whatever order its events are read.
CREATE TABLE counted (
    order_id text PRIMARY KEY,
    facts smallint NOT NULL
);

CREATE TABLE per_outcome (
    outcome text PRIMARY KEY,
    orders bigint NOT NULL
);

-- Orders by outcome, in the minute (UTC) of the decision.
CREATE TABLE per_minute (
    minute timestamptz NOT NULL,
    outcome text NOT NULL,
    orders bigint NOT NULL,
    PRIMARY KEY (minute, outcome)
);

CREATE TABLE per_sku (
    sku text PRIMARY KEY,
    sold bigint NOT NULL DEFAULT 0,
    lost bigint NOT NULL DEFAULT 0
);

-- Decision latency as a histogram: bucket b holds orders that took at most latency_ms(b)
-- (analytics/rules.py). Histograms of two minutes, or two workers, are merged by adding.
CREATE TABLE latency (
    bucket smallint PRIMARY KEY,
    orders bigint NOT NULL
);
