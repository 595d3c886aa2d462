-- Up to where orders that were over have been pruned from this store: what is read again from below
-- was decided, whether or not it still has its row here (runtime/forgotten.py).
CREATE TABLE forgotten (
    topic text NOT NULL,
    partition int NOT NULL,
    next bigint NOT NULL,
    PRIMARY KEY (topic, partition)
);

-- Orders that were over before this were pruned: `verify` does not miss them.
CREATE TABLE pruned (
    singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    before timestamptz NOT NULL
);
