-- Who said an order id or an Idempotency-Key first, and for which order (design.md section 1).
-- Orders whose id we gave, and that brought no key, have no row here.
CREATE TABLE claim (
    name text PRIMARY KEY,         -- 'order:' or 'key:', then the order id or the key
    fingerprint bytea NOT NULL,    -- of the order asked for: another one under this name is refused
    order_id text NOT NULL,
    numeric_id boolean NOT NULL,
    number bigint,                 -- the order id, where it is a number: not to be given again
    published boolean NOT NULL DEFAULT false,  -- false: unknown, to be published (again)
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE INDEX claim_number ON claim (number) WHERE number IS NOT NULL;

-- The next order id nobody has been given. It starts where clients' own numbers seldom are.
CREATE TABLE id_block (
    singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    next bigint NOT NULL
);
INSERT INTO id_block (next) VALUES (100000001);
