"""Somebody who listens: what has yet to be sent to them, and until when they are waited for."""

import asyncio
from typing import Generic, TypeVar

HEARTBEAT_S = 15.0
HEARTBEAT = b": still here\n\n"
RETRY = b"retry: 1000\n"

T = TypeVar("T")


class CutOff(Exception):
    """The listener is too slow, or the service ends: the client comes again with its last id."""


class Listener(Generic[T]):
    """What one client has yet to be sent."""

    def __init__(self) -> None:
        self._waiting: list[T] = []
        self.ended = False
        self._wake = asyncio.Event()
        self.behind = 0  # In the units of `put`.

    def put(self, thing: T, size: int = 1) -> None:
        """Add something to be sent."""
        self._waiting.append(thing)
        self.behind += size
        self._wake.set()

    def end(self) -> None:
        """Send no more."""
        self.ended = True
        self._wake.set()

    async def take(self) -> list[T]:
        """Return what is there, or nothing after a while. Raises CutOff."""
        if not self._waiting and not self.ended:
            try:
                await asyncio.wait_for(self._wake.wait(), HEARTBEAT_S)
            except TimeoutError:
                return []
        if self.ended:
            raise CutOff
        self._wake.clear()
        taken, self._waiting, self.behind = self._waiting, [], 0
        return taken
