-- Every consumer of a user's own that ever started here: what `lag`, `replay` and the console know.
CREATE TABLE consumer (
    name text PRIMARY KEY,
    group_id text NOT NULL,
    reads text[] NOT NULL,
    retries text[] NOT NULL,
    rebuild boolean NOT NULL
);
