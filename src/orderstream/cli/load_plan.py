"""What a load is to be, when each order of it goes out, and what came of it."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from orderstream.cli.load_histogram import Histogram

TICK_S = 0.001  # A timetable's shortest step: above 1,000/s several orders go out together.


@dataclass(frozen=True)
class Plan:
    """What to send where. Without a rate each connection sends its next order when answered.

    `orders` or `seconds` (or both) end it. An order that is refused with Retry-After waits aside
    and is sent again, at most `waiting_max` at once. Nothing accepted for `stall_s` ends it too.
    """

    host: str
    port: int
    requests: Sequence[bytes]
    connections: int = 64
    orders: int | None = None
    seconds: float | None = None
    rate: float | None = None
    waiting_max: int = 100_000
    stall_s: float = 30.0


@dataclass
class Tally:
    """What came of it. Each order that was to be sent is in one of the first five counts."""

    accepted: int = 0
    refused: int = 0  # Answered with a no that trying again does not mend.
    unknown: int = 0  # Sent, but the connection ended before the answer.
    given_up: int = 0  # Asked to come again later, but it was over, or too many waited.
    unsent: int = 0  # Its time had come, but it was over before a connection was free.
    retries: int = 0
    statuses: Counter[int] = field(default_factory=Counter[int])
    connections_lost: int = 0
    connects_failed: int = 0
    from_schedule: Histogram = field(default_factory=Histogram)  # To the 202, waits included.
    from_sending: Histogram = field(default_factory=Histogram)  # Of the accepted try only.
    began: float = 0.0  # By perf_counter, like `ended`: the first POST and the last answer.
    ended: float = 0.0
    last_accepted: bytes = b""
    trouble: str = ""  # The first thing that went wrong, in words.

    @property
    def unplaced(self) -> int:
        """Orders that are not known to be accepted."""
        return self.refused + self.unknown + self.given_up + self.unsent

    @property
    def settled(self) -> int:
        """Orders that were handed out and of which nothing more is to come."""
        return self.accepted + self.refused + self.unknown + self.given_up


class Schedule:
    """A timetable, fixed in advance: order n goes out at `at(n)` seconds, however slow answers are.

    Orders are evenly spaced, except that steps are no shorter than a millisecond.
    """

    def __init__(self, rate: float) -> None:
        self.tick_s = max(1 / rate, TICK_S)
        self._per_tick = rate * self.tick_s

    def at(self, number: int) -> float:
        """Return when order `number` goes out, counted from 0."""
        return math.ceil(number / self._per_tick - 1e-9) * self.tick_s

    def due(self, elapsed_s: float) -> int:
        """Return how many orders' time has come."""
        ticks = math.floor(elapsed_s / self.tick_s + 1e-9)
        return math.floor(ticks * self._per_tick + 1e-9) + 1 if ticks >= 0 else 0
