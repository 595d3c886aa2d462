"""One order's events as they happen: its page is looked at for everybody who watches one, at once.

What that costs depends on who watches, not on how many orders come: a thousand watched pages are
one question to PostgreSQL, and only pages that grew are fetched. Nothing can be missed, whenever
somebody comes or was cut off: a page tells its order's life from the beginning.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Generator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import structlog

from orderstream.contract.errors import Unavailable
from orderstream.order_view.feed_reader import event_of
from orderstream.order_view.last_id import decode_positions, encode_positions
from orderstream.order_view.store import ViewStore
from orderstream.runtime.clock import monotonic
from orderstream.runtime.listener import HEARTBEAT, RETRY, CutOff, Listener

LOOK_EVERY_S = 0.05
LOOK_AT_LEAST_EVERY_S = 1.0
RESTS_FOR = 50  # Times as long as a look takes: looking is 2 % of one core at the most.

log = structlog.get_logger("orderstream.watching")

Shown = dict[str, Any]


class Watching:
    """Tells those who watch one order what is in its timeline, and what comes; for one event loop.

    `topics` are those of timelines.
    """

    def __init__(self, store: ViewStore, topics: Sequence[str]) -> None:
        self._store = store
        self._topics = topics
        self._watched: defaultdict[str, set[Listener[Shown]]] = defaultdict(set)
        self._known: dict[str, int] = {}  # How much of each timeline all who watch were told.
        self._looking: asyncio.Task[None] | None = None
        self._look_now = asyncio.Event()
        self._closed = False

    async def of_order(self, order_key: str, last_id: str | None) -> AsyncIterator[bytes]:
        """Give the events of one order, from its first on, or from behind an id.

        Raises Unavailable, Malformed for a wrong id.
        """
        at = {} if not last_id else decode_positions(last_id, self._topics)
        with self._listening(order_key) as listener:
            yield RETRY + b"\n"
            while True:
                try:
                    pages = await listener.take()
                except CutOff:
                    return
                told = b""
                for entry in pages[-1]["timeline"] if pages else ():
                    place = entry["topic"], entry["partition"]
                    if entry["offset"] >= at.get(place, 0):
                        at[place] = entry["offset"] + 1
                        told += b"id: %s\n" % encode_positions(at, self._topics)
                        told += event_of(pages[-1]["orderId"], entry)
                if told or not pages:
                    yield told or HEARTBEAT

    async def close(self) -> None:
        """Cut off everybody who watches."""
        self._closed = True
        for listener in [one for some in self._watched.values() for one in some]:
            listener.end()

    @contextmanager
    def _listening(self, order_key: str) -> Generator[Listener[Shown]]:
        if self._closed:
            raise Unavailable("the service is about to end")
        listener = Listener[Shown]()
        self._watched[order_key].add(listener)
        self._known[order_key] = 0  # To be told from the beginning; others pass over what they had.
        self._look_now.set()
        if self._looking is None:
            self._looking = asyncio.create_task(self._look())
        try:
            yield listener
        finally:
            self._watched[order_key].discard(listener)
            if not self._watched[order_key]:
                del self._watched[order_key], self._known[order_key]

    async def _look(self) -> None:
        while self._watched:
            self._look_now.clear()
            began = monotonic()
            try:
                grown = await asyncio.to_thread(self._grown, dict(self._known))
            except Exception as error:  # noqa: BLE001 - who watches waits; the next look may see
                log.warning("watched orders cannot be looked at", reason=str(error))
                await asyncio.sleep(LOOK_AT_LEAST_EVERY_S)
                continue
            for order_key, (length, page) in grown.items():
                if order_key in self._watched:
                    self._known[order_key] = length
                    for listener in self._watched[order_key]:
                        listener.put(page)
            rest = min(RESTS_FOR * (monotonic() - began), LOOK_AT_LEAST_EVERY_S)
            await asyncio.sleep(LOOK_EVERY_S)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._look_now.wait(), rest)
        self._looking = None

    def _grown(self, known: dict[str, int]) -> dict[str, tuple[int, Shown]]:
        lengths = self._store.grown(known)
        pages = self._store.get(lengths)
        return {key: (lengths[key], page) for key, page in pages.items()}
