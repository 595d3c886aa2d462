"""What the order service keeps: who claimed an order id or a key first, and which ids are given."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Claim:
    """A request to be the first under a name (`order:1001`, `key:abc`)."""

    name: str
    fingerprint: bytes
    order_id: int | str

    @classmethod
    def of_order(cls, order_id: int | str, fingerprint: bytes) -> "Claim":
        """Claim an order id."""
        return cls(f"order:{order_id}", fingerprint, order_id)

    @classmethod
    def of_key(cls, key: str, fingerprint: bytes, order_id: int | str) -> "Claim":
        """Claim an Idempotency-Key for this order id."""
        return cls(f"key:{key}", fingerprint, order_id)


@dataclass(frozen=True, slots=True)
class Held:
    """What stands under a name: its first claim, and whether that order is known to be on Kafka."""

    fingerprint: bytes
    order_id: int | str
    published: bool


class ClaimStore(Protocol):
    """Claims and order ids. Raises Unavailable."""

    def claim(self, claims: Sequence[Claim]) -> dict[str, Held | None]:
        """Return what stands under each name afterwards; the first to come stays.

        None for an order id that this service gives itself, and may have given to another order.
        """
        ...

    def published(self, names: Sequence[str]) -> None:
        """Note that the orders under these names are on Kafka. Safe to repeat."""
        ...

    def unknown(self, claims: Sequence[Claim]) -> None:
        """Claim ids that were given, for orders whose publishing has no known outcome."""
        ...

    def id_block(self, size: int) -> list[int]:
        """Return up to `size` order ids that nobody has and nobody will be given again."""
        ...
