-- Messages that are sent through a channel: written as PENDING in the transaction of the offsets,
-- taken by a worker for a while (SENDING until due_at), and settled by what the channel said.
ALTER TABLE notice DROP CONSTRAINT notice_status_check;
ALTER TABLE notice ADD CONSTRAINT notice_status_check
    CHECK (status IN ('PENDING', 'SENDING', 'SENT', 'FAILED', 'SKIPPED')) NOT VALID;
ALTER TABLE notice
    ADD COLUMN message text,                       -- rules.Message as JSON; none on the log.
    ADD COLUMN tries int NOT NULL DEFAULT 0,
    ADD COLUMN doubtful int NOT NULL DEFAULT 0,    -- Tries of which nobody knows what came of them.
    ADD COLUMN why text,                           -- What was wrong the last time.
    ADD COLUMN due_at timestamptz,
    ADD COLUMN worker int,                         -- Who has it in hand.
    ADD COLUMN sent_at timestamptz;

-- A channel that is not to be used: its endpoint said that it is gone.
CREATE TABLE silenced (
    channel text PRIMARY KEY,
    why text NOT NULL,
    at timestamptz NOT NULL
);

-- Customers who do not want to be told.
CREATE TABLE opted_out (
    user_id text PRIMARY KEY,
    at timestamptz NOT NULL
);
