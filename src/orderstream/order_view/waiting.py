"""Waits for decisions on behalf of clients that asked to (`Prefer: wait`)."""

import asyncio
from typing import Any

import structlog

from orderstream.order_view.rules import Status
from orderstream.order_view.store import ViewStore

LOOK_EVERY_S = 0.01
AFTER_A_FAULT_S = 0.5
SEEN_WITHIN_S = 2.0
LOOKS = 20

log = structlog.get_logger("orderstream.waiting")


class Waiting:
    """Looks once for all who wait, and not at all while nobody does."""

    def __init__(self, store: ViewStore) -> None:
        self._store = store
        self._waiting: dict[str, list[asyncio.Future[dict[str, Any]]]] = {}
        self._looking: asyncio.Task[None] | None = None

    async def decided(self, order_key: str, seconds: float) -> dict[str, Any] | None:
        """Return the order's page once it is decided, or None when the time is up."""
        future: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(order_key, []).append(future)
        if self._looking is None:
            self._looking = asyncio.create_task(self._look())
        try:
            return await asyncio.wait_for(future, seconds)
        except TimeoutError:
            return None
        finally:
            self._forget(order_key, future)

    async def page(self, order_key: str) -> dict[str, Any] | None:
        """Return the order's page, or None: an order just accepted is given a while to be seen.

        Raises Unavailable.
        """
        for _ in range(LOOKS):
            pages = await asyncio.to_thread(self._store.get, [order_key])
            if order_key in pages:
                return pages[order_key]
            await asyncio.sleep(SEEN_WITHIN_S / LOOKS)
        return None

    def _forget(self, order_key: str, future: asyncio.Future[dict[str, Any]]) -> None:
        futures = self._waiting.get(order_key, [])
        if future in futures:
            futures.remove(future)
        if not futures:
            self._waiting.pop(order_key, None)

    async def _look(self) -> None:
        while self._waiting:
            try:
                pages = await asyncio.to_thread(self._store.get, list(self._waiting))
            except Exception as error:  # noqa: BLE001 - clients have their orders; they wait in vain
                log.warning("decisions cannot be looked up", reason=str(error))
                await asyncio.sleep(AFTER_A_FAULT_S)
                continue
            for order_key, page in pages.items():
                if page["status"] != Status.PENDING.name:
                    for future in self._waiting.pop(order_key, []):
                        if not future.done():
                            future.set_result(page)
            await asyncio.sleep(LOOK_EVERY_S)
        self._looking = None
