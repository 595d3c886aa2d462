-- One intent per event and channel: written in the transaction of the offsets, so that an event
-- that is read twice is told once.
CREATE TABLE notice (
    event_id text NOT NULL,
    channel text NOT NULL,
    order_id text NOT NULL,
    user_id text,
    status text NOT NULL CHECK (status IN ('SENT', 'FAILED')),
    text text NOT NULL,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (event_id, channel)
);

CREATE INDEX notice_of_order ON notice (order_id, created_at);
CREATE INDEX notice_newest ON notice (created_at DESC);
