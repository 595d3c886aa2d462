"""Claims that Redis says are there already: read, where they would have been written in vain."""

from collections.abc import Sequence

from orderstream.orders.store import Claim, ClaimStore, Held
from orderstream.runtime.hints import Hints

KNOWN_S = 24 * 3600.0


class HintedClaims:
    """A ClaimStore before another. A repeat costs one SELECT there, and no commit.

    What is answered comes from that store alone: a name that Redis knows and the store does not is
    claimed like any other, and one that Redis does not know is refused like any other.
    """

    def __init__(self, store: ClaimStore, hints: Hints) -> None:
        self._store = store
        self._hints = hints

    def claim(self, claims: Sequence[Claim]) -> dict[str, Held | None]:
        """See ClaimStore."""
        said = self._hints.get([_hint(claim.name) for claim in claims])
        repeated = [claim.name for claim, hint in zip(claims, said, strict=True) if hint]
        held: dict[str, Held | None] = {}
        if repeated:
            held |= self._store.held(repeated)
        new = [claim for claim in claims if claim.name not in held]
        if new:
            claimed = self._store.claim(new)
            held |= claimed
            known = {_hint(name): b"1" for name, claim in claimed.items() if claim is not None}
            if known:
                self._hints.put(known, KNOWN_S)
        return held

    def held(self, names: Sequence[str]) -> dict[str, Held]:
        """See ClaimStore."""
        return self._store.held(names)

    def published(self, names: Sequence[str]) -> None:
        """See ClaimStore."""
        self._store.published(names)

    def unknown(self, claims: Sequence[Claim]) -> None:
        """See ClaimStore."""
        self._store.unknown(claims)

    def id_block(self, size: int) -> list[int]:
        """See ClaimStore."""
        return self._store.id_block(size)


def _hint(name: str) -> str:
    return f"claim:{name}"
