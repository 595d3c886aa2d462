-- An order's reservation may end: given back (CANCELLED, EXPIRED) or shipped (FULFILLED). Where the
-- end is read before the order, its row has no decision until the order comes.
ALTER TABLE reservation
    ADD released_at timestamptz,
    ALTER decided_at DROP NOT NULL,
    DROP CONSTRAINT reservation_status_check,
    DROP CONSTRAINT reservation_reason_check,
    ADD CONSTRAINT reservation_status_check
        CHECK (status IN ('RESERVED', 'REJECTED', 'CANCELLED', 'EXPIRED', 'FULFILLED')),
    ADD CONSTRAINT reservation_reason_check
        CHECK (reason IN ('OUT_OF_STOCK', 'UNKNOWN_SKU', 'CANCELLED')),
    ADD CONSTRAINT reservation_decided_check
        CHECK (decided_at IS NOT NULL OR status IN ('CANCELLED', 'EXPIRED', 'FULFILLED')),
    ADD CONSTRAINT reservation_released_check
        CHECK ((released_at IS NOT NULL) = (status IN ('CANCELLED', 'EXPIRED') AND decided_at IS NOT NULL));
