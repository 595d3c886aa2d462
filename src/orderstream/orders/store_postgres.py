"""Claims and order ids in PostgreSQL."""

from collections.abc import Sequence

from psycopg import Connection

from orderstream.contract.errors import Unavailable
from orderstream.orders.rules import number_of
from orderstream.orders.store import Claim, Held
from orderstream.runtime.database import Database

FIRST_ID = 100_000_001  # As in migrations/0001.

# Shared with other claims, against id_block's update: a number is claimed or given, never both.
NEXT_ID = "SELECT next FROM id_block FOR SHARE"
INSERT = """
    INSERT INTO claim (name, fingerprint, order_id, numeric_id, number)
    SELECT * FROM unnest(%s::text[], %s::bytea[], %s::text[], %s::bool[], %s::bigint[]) ORDER BY 1
    ON CONFLICT DO NOTHING
"""
READ = """
    SELECT name, fingerprint, order_id, numeric_id, published FROM claim WHERE name = ANY(%s)
"""
PUBLISHED = "UPDATE claim SET published = true WHERE name = ANY(%s) AND NOT published"
TAKE_BLOCK = "UPDATE id_block SET next = next + %s RETURNING next - %s"
CLAIMED_IN_BLOCK = "SELECT number FROM claim WHERE number >= %s AND number < %s"


class PostgresClaims:
    """The ClaimStore on PostgreSQL."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def claim(self, claims: Sequence[Claim]) -> dict[str, Held | None]:
        """See ClaimStore. One commit for all of them."""
        with self._database.transaction() as tx:
            next_id = _the_row(tx.execute(NEXT_ID).fetchone())
            mine = [claim for claim in claims if not _given(claim, next_id)]
            if mine:
                _insert(tx, mine)
            held: dict[str, Held | None] = dict.fromkeys(claim.name for claim in claims)
            return held | _read(tx, [claim.name for claim in claims])

    def held(self, names: Sequence[str]) -> dict[str, Held]:
        """See ClaimStore."""
        with self._database.transaction() as tx:
            return _read(tx, list(names))

    def published(self, names: Sequence[str]) -> None:
        """See ClaimStore."""
        with self._database.transaction() as tx:
            tx.execute(PUBLISHED, (list(names),))

    def unknown(self, claims: Sequence[Claim]) -> None:
        """See ClaimStore."""
        with self._database.transaction() as tx:
            _insert(tx, claims)

    def id_block(self, size: int) -> list[int]:
        """See ClaimStore. Numbers that clients have claimed are left out."""
        with self._database.transaction() as tx:
            first = _the_row(tx.execute(TAKE_BLOCK, (size, size)).fetchone())
            taken = {n for (n,) in tx.execute(CLAIMED_IN_BLOCK, (first, first + size))}
        return [number for number in range(first, first + size) if number not in taken]


def _the_row(row: tuple[int] | None) -> int:
    if row is None:  # To begin again would give ids twice.
        raise Unavailable("orders.id_block has lost its row: put in `next`, above every order id")
    return row[0]


def _given(claim: Claim, next_id: int) -> bool:
    """Tell whether the claim is for an order id that we have handed out already."""
    number = number_of(str(claim.order_id))
    return claim.name.startswith("order:") and number is not None and FIRST_ID <= number < next_id


def _insert(tx: Connection, claims: Sequence[Claim]) -> None:
    tx.execute(
        INSERT,
        (
            [claim.name for claim in claims],
            [claim.fingerprint for claim in claims],
            [str(claim.order_id) for claim in claims],
            [isinstance(claim.order_id, int) for claim in claims],
            [
                number_of(str(claim.order_id)) if claim.name.startswith("order:") else None
                for claim in claims
            ],
        ),
    )


def _read(tx: Connection, names: list[str]) -> dict[str, Held]:
    return {
        name: Held(bytes(fingerprint), int(order_id) if numeric else order_id, published)
        for name, fingerprint, order_id, numeric, published in tx.execute(READ, (names,))
    }
