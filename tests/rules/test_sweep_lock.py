"""Who sweeps: whatever is said of a lock, nobody is kept out for long."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any, cast

from orderstream.orders.life import SWEPT_BY_OTHERS_S, Life

NOTHING = cast(Any, None)


def sweeps(held_by_others: list[bool]) -> list[bool]:
    """Return in which of these seconds one process sweeps."""
    now = datetime(2026, 1, 1, tzinfo=UTC)
    said = iter(held_by_others)

    def clock() -> datetime:
        return now

    life = Life(NOTHING, NOTHING, NOTHING, clock, NOTHING, NOTHING, None, lambda: not next(said))

    async def run() -> list[bool]:
        nonlocal now
        found: list[bool] = []
        for _ in held_by_others:
            found.append(await life.sweeps())
            now += timedelta(seconds=1)
        return found

    return asyncio.run(run())


class TestTheSweep:
    def test_is_done_by_who_has_the_lock(self) -> None:
        assert sweeps([False, False, True, True, False]) == [True, True, False, False, True]

    def test_is_done_now_and_then_by_who_never_gets_it(self) -> None:
        after = round(SWEPT_BY_OTHERS_S)
        assert sweeps([True] * (2 * after + 1)) == ([False] * after + [True]) + (
            [False] * (after - 1) + [True]
        )
