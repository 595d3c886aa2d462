-- Up to where notices of orders that were over have been pruned: what is read again from below was
-- told, whether or not it still has its row here (runtime/forgotten.py).
CREATE TABLE forgotten (
    topic text NOT NULL,
    partition int NOT NULL,
    next bigint NOT NULL,
    PRIMARY KEY (topic, partition)
);
