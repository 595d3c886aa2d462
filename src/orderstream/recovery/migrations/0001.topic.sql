-- The topics that the stores were written by, by the ids that Kafka gives them: one that was deleted
-- and made anew has another, and offsets of the first mean nothing in the second. `adopted_at`: when
-- it was taken for another; orders from before that are not on the log any more.
CREATE TABLE topic (
    name text PRIMARY KEY,
    id text NOT NULL,
    adopted_at timestamptz
);
