-- By themselves: a table of millions of rows is read for them, and readers need not wait for that.
-- What waits or was given up is little, whatever has been; no index has the rest.
CREATE INDEX notice_due ON notice (channel, due_at, event_id)
    WHERE status IN ('PENDING', 'SENDING');
CREATE INDEX notice_open ON notice (created_at)
    WHERE status IN ('PENDING', 'SENDING', 'FAILED');
