-- How far this service has read each partition, written in the transaction of its rows.
CREATE TABLE position (
    topic text NOT NULL,
    partition int NOT NULL,
    next bigint NOT NULL,
    PRIMARY KEY (topic, partition)
);
