-- Written by `orderstream db reconcile` after this store was restored from a backup: up to where
-- customers had been told. What is read again from below is kept, and told to nobody.
CREATE TABLE told (
    topic text NOT NULL,
    partition int NOT NULL,
    next bigint NOT NULL,
    PRIMARY KEY (topic, partition)
);
