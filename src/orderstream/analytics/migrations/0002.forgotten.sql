-- Up to where what was counted of orders that were over have been pruned: what is read again from below
-- was counted, whether or not it still has its row here (runtime/forgotten.py). A rebuild forgets it.
CREATE TABLE forgotten (
    topic text NOT NULL,
    partition int NOT NULL,
    next bigint NOT NULL,
    PRIMARY KEY (topic, partition)
);
