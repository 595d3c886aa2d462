"""What the order service keeps: who claimed an id or a key first, ids given, how orders end."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from orderstream.contract.envelope import CLAIM
from orderstream.orders.rules import Becomes


@dataclass(frozen=True, slots=True)
class Claim:
    """A request to be the first under a name (`order:1001`, `key:abc`, `key@shop:abc`)."""

    name: str
    fingerprint: bytes
    order_id: int | str

    @classmethod
    def of_order(cls, order_id: int | str, fingerprint: bytes) -> "Claim":
        """Claim an order id."""
        return cls(f"order:{order_id}", fingerprint, order_id)

    @classmethod
    def of_key(
        cls, key: str, fingerprint: bytes, order_id: int | str, owner: str | None = None
    ) -> "Claim":
        """Claim an Idempotency-Key for this order id."""
        return cls(name_of_key(key, owner), fingerprint, order_id)

    @property
    def header(self) -> tuple[str, bytes]:
        """Write the claim down with the order's record: a store can be given it back from there."""
        return CLAIM, self.fingerprint.hex().encode() + b" " + self.name.encode()

    @classmethod
    def of_header(cls, value: bytes, order_id: int | str) -> "Claim":
        """Read what `header` wrote. Raises ValueError."""
        fingerprint, _, name = value.decode().partition(" ")
        return cls(name, bytes.fromhex(fingerprint), order_id)


def name_of_key(key: str, owner: str | None) -> str:
    """Name an Idempotency-Key: each owner's are its own, and one without owner is nobody's else."""
    return f"key:{key}" if owner is None else f"key@{owner}:{key}"


@dataclass(frozen=True, slots=True)
class Held:
    """What stands under a name: its first claim, and whether that order is known to be on Kafka."""

    fingerprint: bytes
    order_id: int | str
    published: bool


@dataclass(frozen=True, slots=True)
class Change:
    """What an order becomes at the end, and the event that says so (a record's value).

    `traceparent` is that of whoever made it so.
    """

    order_key: str
    becomes: Becomes
    event: bytes
    at: datetime
    traceparent: bytes | None = None


class ChangeStore(Protocol):
    """The one change that ends each order's life. Raises Unavailable."""

    def decide(self, changes: Sequence[Change]) -> dict[str, tuple[Change, bool]]:
        """Return each order's change afterwards, and whether it is on Kafka; the first stays."""
        ...

    def published(self, order_keys: Sequence[str]) -> None:
        """Note that the changes of these orders are on Kafka. Safe to repeat."""
        ...

    def unpublished(self, before: datetime, limit: int) -> list[Change]:
        """Return changes decided before this time and not published, the oldest first."""
        ...


class ClaimStore(Protocol):
    """Claims and order ids. Raises Unavailable."""

    def claim(self, claims: Sequence[Claim]) -> dict[str, Held | None]:
        """Return what stands under each name afterwards; the first to come stays.

        None for an order id that this service gives itself, and may have given to another order.
        """
        ...

    def held(self, names: Sequence[str]) -> dict[str, Held]:
        """Return what stands under those of the names that are claimed."""
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
