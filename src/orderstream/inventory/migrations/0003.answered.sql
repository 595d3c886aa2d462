-- Written by `orderstream replay`, before offsets are set back: up to where all had been answered on
-- the log, and which records the answer to was a dead letter. Nothing of these is said again.
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
