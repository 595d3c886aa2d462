-- Where the consumer is, what it says until that is published, and what it said before a replay.
CREATE TABLE position (
    topic text NOT NULL,
    partition int NOT NULL,
    next bigint NOT NULL,
    PRIMARY KEY (topic, partition)
);
CREATE TABLE said (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    topic text NOT NULL,
    partition int NOT NULL,
    "offset" bigint NOT NULL,
    outputs bytea NOT NULL
);
CREATE INDEX said_of ON said (topic, partition, "offset");
CREATE TABLE answered (
    topic text NOT NULL,
    partition int NOT NULL,
    next bigint NOT NULL,
    PRIMARY KEY (topic, partition)
);
CREATE TABLE answered_by_parking (
    topic text NOT NULL,
    partition int NOT NULL,
    "offset" bigint NOT NULL,
    PRIMARY KEY (topic, partition, "offset")
);
