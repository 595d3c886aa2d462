"""Redis as a memory that may forget or lie: whoever asks it must come to the same without it.

Nothing here raises, and nothing waits for long: after a fault Redis is left alone for a while, and
every question has the answer that it would have if Redis were empty.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, TypeVar, cast

import structlog

from orderstream.contract.errors import Unavailable
from orderstream.runtime.clock import monotonic

TIMEOUT_S = 0.05
AVOIDED_S = 1.0
PREFIX = "orderstream:"
MEMBERS_MAX = 10_000

T = TypeVar("T")

log = structlog.get_logger("orderstream.hints")


class Hints:
    """One Redis."""

    def __init__(self, url: str) -> None:
        """Connect when first asked. Only imported by those who use it."""
        from redis import Redis
        from redis.backoff import NoBackoff
        from redis.retry import Retry

        # redis-py's own types are incomplete.
        self._redis: Any = cast(Any, Redis).from_url(
            url,
            socket_timeout=TIMEOUT_S,
            socket_connect_timeout=TIMEOUT_S,
            retry=Retry(NoBackoff(), 0),
            protocol=2,
            max_connections=64,
        )
        self._avoided_until = 0.0
        self._away = False
        self._fault = ""

    def get(self, names: Sequence[str]) -> list[bytes | None]:
        """Return what is said of each name; None where nothing is."""
        nothing: list[bytes | None] = [None] * len(names)

        def ask() -> list[bytes | None]:
            found = self._redis.mget([PREFIX + name for name in names])
            return [value if isinstance(value, bytes) else None for value in found]

        found = self._try(ask, nothing) if names else nothing
        return found if len(found) == len(names) else nothing

    def put(self, said: Mapping[str, bytes], ttl_s: float) -> None:
        """Say something of each name, for a while."""

        def tell() -> None:
            with self._redis.pipeline(transaction=False) as pipe:
                for name, value in said.items():
                    pipe.set(PREFIX + name, value, px=round(ttl_s * 1000))
                pipe.execute()

        self._try(tell, None)

    def drop(self, names: Sequence[str]) -> None:
        """Say nothing of these names any more."""
        self._try(lambda: self._redis.delete(*(PREFIX + name for name in names)), None)

    def add(self, group: str, members: Collection[str], now_s: float, ttl_s: float) -> None:
        """Put members into a group, for a while."""

        def tell() -> None:
            with self._redis.pipeline(transaction=False) as pipe:
                pipe.zadd(PREFIX + group, dict.fromkeys(members, now_s + ttl_s))
                pipe.zremrangebyscore(PREFIX + group, 0, now_s)
                pipe.execute()

        self._try(tell, None)

    def remove(self, group: str, members: Sequence[str]) -> None:
        """Take members out of a group."""
        self._try(lambda: self._redis.zrem(PREFIX + group, *members), None)

    def members(self, group: str, now_s: float) -> frozenset[str]:
        """Return a group's members: those that came last, where there are very many."""

        def ask() -> frozenset[str]:
            found = self._redis.zrevrangebyscore(
                PREFIX + group, "+inf", now_s, start=0, num=MEMBERS_MAX
            )
            return frozenset(member.decode() for member in found)

        return self._try(ask, frozenset())

    def hold(self, name: str, holder: str, ttl_s: float) -> bool:
        """Take a lock or keep it; true also where Redis does not say that somebody else has it."""

        def ask() -> bool:
            key, ttl_ms = PREFIX + name, round(ttl_s * 1000)
            if self._redis.set(key, holder, nx=True, px=ttl_ms):
                return True
            if self._redis.get(key) != holder.encode():
                return False
            self._redis.pexpire(key, ttl_ms)
            return True

        return self._try(ask, True)

    def check(self) -> None:
        """Raise Unavailable while Redis is away, or has no answers for us."""
        if self._try(lambda: bool(self._redis.ping()), False) is False:
            raise Unavailable(f"Redis {self._fault}: everything works without it, slower")

    def close(self) -> None:
        """Close every connection."""
        self._redis.close()

    def _try(self, ask: Callable[[], T], otherwise: T) -> T:
        if monotonic() < self._avoided_until:
            return otherwise
        try:
            answer = ask()
        except Exception as error:  # noqa: BLE001 - whatever it is, it is no more than a hint
            self._avoided_until = monotonic() + AVOIDED_S
            self._fault = _fault_of(error)
            if not self._away:
                self._away = True
                log.warning("Redis is away: going on without it", reason=type(error).__name__)
            return otherwise
        if self._away:
            self._away = False
            log.info("Redis is back")
        return answer


def _fault_of(error: Exception) -> str:
    """Say what is wrong, never in Redis's own words: those may be anything."""
    from redis.exceptions import AuthenticationError, ResponseError

    if isinstance(error, AuthenticationError):
        return "refuses the password"
    if isinstance(error, ResponseError):
        return f"answers with an error, {type(error).__name__}"
    return "is away"
