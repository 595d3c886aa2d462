"""Goods that are gone, so that orders for them can be refused at the door. Knows no HTTP.

Which SKUs to doubt is a hint, fetched aside; whether an order is refused is decided by what the
store says of them at that moment.
"""

import asyncio
from collections.abc import Callable, Collection

import structlog

from orderstream.contract.errors import OutcomeUnknown, Unavailable

LOOK_EVERY_S = 0.25

log = structlog.get_logger("orderstream.empties")


class Empties:
    """The SKUs in doubt, for one event loop."""

    def __init__(
        self,
        doubted: Callable[[], frozenset[str]],
        empty_of: Callable[[Collection[str]], frozenset[str]],
    ) -> None:
        """`doubted` gives the hint; `empty_of` those of which nothing is available, for certain."""
        self._doubted_now = doubted
        self._empty_of = empty_of
        self._doubted: frozenset[str] = frozenset()
        self._wanted: set[str] = set()
        self._next: asyncio.Task[frozenset[str]] | None = None
        self._one_at_a_time = asyncio.Lock()

    async def run(self) -> None:
        """Keep the hint fresh, until cancelled."""
        while True:
            try:
                self._doubted = await asyncio.to_thread(self._doubted_now)
            except Exception as error:
                self._doubted = frozenset()
                log.error("which goods are gone is not known", exc_info=error)
            await asyncio.sleep(LOOK_EVERY_S)

    def doubts(self, skus: Collection[str]) -> bool:
        """Tell whether it is worth asking."""
        return not self._doubted.isdisjoint(skus)

    async def of(self, skus: Collection[str]) -> list[str]:
        """Return which of these are gone; none when the store does not say so.

        Whoever asks while a question is under way is answered by the next one, with all others.
        """
        wanted = self._doubted.intersection(skus)
        self._wanted |= wanted
        if self._next is None:
            self._next = asyncio.create_task(self._ask())
        empty = await asyncio.shield(self._next)
        return sorted(empty & wanted)

    async def _ask(self) -> frozenset[str]:
        async with self._one_at_a_time:
            wanted, self._wanted, self._next = self._wanted, set(), None
            try:
                return await asyncio.to_thread(self._empty_of, wanted)
            except (Unavailable, OutcomeUnknown) as error:
                log.warning("no order is refused at the door", reason=str(error))
                return frozenset()
