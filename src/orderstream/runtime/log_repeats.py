"""What a logger says again and again is said a few times, and then counted.

Ten thousand records that fail for one reason must neither fill a disk nor hide everything else.
None is forgotten: when the minute is over one line says how many more there were, and
`orderstream_log_suppressed_total` has them all.
"""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from prometheus_client import Counter

from orderstream.contract.envelope import rfc3339
from orderstream.runtime.clock import monotonic, utc_now

REPEATS_MAX = 60
WITHIN_S = 60.0
_KEYS_MAX = 1_000  # Libraries may put anything into what they say.

_said = Counter("orderstream_log_events", "Log events by level, suppressed ones too", ["level"])
for _level in ("debug", "info", "warning", "error", "critical"):
    _said.labels(_level)  # Else a level begins with its first, which no rate sees.
_suppressed = Counter("orderstream_log_suppressed", "Log events that were only counted", ["logger"])

_Key = tuple[str, int, str]


@dataclass
class _Seen:
    until: float
    times: int = 0
    more: int = 0


class Repeats(logging.Filter):
    """Lets pass `most` a minute of one event of one logger and level, and says how many more."""

    def __init__(
        self, most: int, say: Callable[[logging.LogRecord], object], within_s: float = WITHIN_S
    ) -> None:
        super().__init__()
        self._most = most
        self._say = say
        self._within_s = within_s
        self._seen: dict[_Key, _Seen] = {}
        self._lock = threading.Lock()

    def filter(self, record: logging.LogRecord) -> bool:
        """Tell whether a line is written; from any thread."""
        if hasattr(record, "sums_up"):
            return True
        _said.labels(record.levelname.lower()).inc()
        return not self._most or self._passes((record.name, record.levelno, _event_of(record)))

    def _passes(self, key: _Key) -> bool:
        now = monotonic()
        with self._lock:
            seen = self._seen.get(key)
            if seen is None or (not seen.more and now >= seen.until):
                self._make_room(now)
                seen = self._seen[key] = _Seen(now + self._within_s)
            seen.times += 1
            if seen.times <= self._most:
                return True
            seen.more += 1
            first = seen.more == 1
        _suppressed.labels(key[0]).inc()
        if first:
            timer = threading.Timer(max(seen.until - now, 0.0), self._tell, [key])
            timer.daemon = True
            timer.start()
        return False

    def _make_room(self, now: float) -> None:
        if len(self._seen) >= _KEYS_MAX:
            self._seen = {k: s for k, s in self._seen.items() if s.more or now < s.until}
        if len(self._seen) >= _KEYS_MAX:
            self._seen = {k: s for k, s in self._seen.items() if s.more}

    def _tell(self, key: _Key) -> None:
        with self._lock:
            seen = self._seen.pop(key, None)
        if seen is None or not seen.more:
            return
        name, levelno, event = key
        level = logging.getLevelName(levelno)
        told = {
            "event": f"{event}: {seen.more} more in {self._within_s:g} s",
            "level": level.lower(),
            "logger": name,
            "timestamp": rfc3339(utc_now()),
            "suppressed": seen.more,
        }
        extra = {"_logger": None, "_name": level.lower(), "sums_up": True}  # As structlog's own.
        record: dict[str, Any] = {"name": name, "levelno": levelno, "levelname": level, "msg": told}
        self._say(logging.makeLogRecord(record | extra))

    def tell_all(self) -> None:
        """Say now what is counted: the process ends."""
        for key in list(self._seen):
            self._tell(key)


def _event_of(record: logging.LogRecord) -> str:
    """Return what is said, without what it is said of."""
    said: Any = record.msg
    return str(said["event"] if hasattr(record, "_logger") else said)  # structlog's is a mapping.
