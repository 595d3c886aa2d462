"""The summary as it changes, for whoever listens: one question a second for all of them."""

import asyncio
from collections.abc import AsyncIterator, Callable, Generator
from contextlib import contextmanager
from typing import Any

import msgspec
import structlog

from orderstream.contract.errors import Unavailable
from orderstream.runtime.listener import HEARTBEAT, RETRY, CutOff, Listener

LOOK_EVERY_S = 1.0
LISTENERS_MAX = 200

log = structlog.get_logger("orderstream.analytics.feed")


class SummaryFeed:
    """Tells listeners the summary at once, and whenever it is another; for one event loop.

    Nothing can be missed: each event is the whole summary.
    """

    def __init__(self, read: Callable[[], dict[str, Any]], listeners_max: int = LISTENERS_MAX):
        """`read` asks the store, in a thread; it may raise Unavailable."""
        self._read = read
        self._listeners_max = listeners_max
        self._listeners: set[Listener[bytes]] = set()
        self._known = b""
        self._looking: asyncio.Task[None] | None = None
        self._closed = False

    async def listen(self) -> AsyncIterator[bytes]:
        """Give the summary as server-sent events. Raises Unavailable: too many listen."""
        with self._listening() as listener:
            yield RETRY + b"\n"
            while True:
                try:
                    told = await listener.take()
                except CutOff:
                    return
                yield told[-1] if told else HEARTBEAT

    async def close(self) -> None:
        """Cut every listener off."""
        self._closed = True
        for listener in self._listeners:
            listener.end()

    @contextmanager
    def _listening(self) -> Generator[Listener[bytes]]:
        if self._closed:
            raise Unavailable("the service is about to end")
        if len(self._listeners) >= self._listeners_max:
            raise Unavailable(f"{self._listeners_max} listen already, which is the most")
        listener = Listener[bytes]()
        if self._known:
            listener.put(self._known)
        self._listeners.add(listener)
        if self._looking is None:
            self._looking = asyncio.create_task(self._look())
        try:
            yield listener
        finally:
            self._listeners.discard(listener)

    async def _look(self) -> None:
        while self._listeners:
            try:
                summary = await asyncio.to_thread(self._read)
            except Exception as error:  # noqa: BLE001 - who listens waits; the next look may see
                log.warning("the summary cannot be read", reason=str(error))
            else:
                told = b"event: summary\ndata: %s\n\n" % msgspec.json.encode(summary)
                if told != self._known:
                    self._known = told
                    for listener in self._listeners:
                        listener.put(told)
            await asyncio.sleep(LOOK_EVERY_S)
        self._looking, self._known = None, b""
