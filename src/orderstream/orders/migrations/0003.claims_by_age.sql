-- Finds claims that are old enough to be pruned. BRIN: next to nothing to keep.
CREATE INDEX claim_created ON claim USING brin (created_at);
