"""What is computed of what the console sees."""

import asyncio
import hashlib
import itertools
import json
from datetime import timedelta
from typing import Any

import pytest

from orderstream.console.api import STATIC, order_as_csv
from orderstream.console.sampler import Sample, Sampler, Seen, share
from orderstream.console.services import Services
from orderstream.runtime.admin import Lag
from orderstream.runtime.clock import utc_now

ORDER = {
    "orderId": "=1+1",
    "status": "REJECTED",
    "userId": None,
    "items": [{"sku": "MUG", "qty": 2}, {"sku": 'a,"b', "qty": 1}],
    "createdAt": "2026-11-21T10:00:00.000Z",
    "reason": "OUT_OF_STOCK",
    "short": ["MUG"],
}


def test_an_exported_order_is_one_line_and_no_formula() -> None:
    line = order_as_csv(ORDER).decode()
    assert line == (
        '\'=1+1,REJECTED,,"2xMUG 1xa,""b",2026-11-21T10:00:00.000Z,,OUT_OF_STOCK,MUG\r\n'
    )


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r"])
def test_a_cell_that_a_spreadsheet_would_run_is_text(start: str) -> None:
    assert f"'{start}cmd" in order_as_csv(ORDER | {"orderId": f"{start}cmd"}).decode()


def testshares_are_of_what_came() -> None:
    hundred = list(range(1, 101))
    assert (share(hundred, 0.5), share(hundred, 0.99), share([7], 0.99)) == (51, 100, 7)


def test_what_was_vendored_is_what_the_lock_says() -> None:
    vendor = STATIC / "vendor"
    lock = json.loads((vendor / "lock.json").read_text())
    files = {name: digest for kept in lock.values() for name, digest in kept.items()}
    assert {p.name for p in vendor.iterdir()} == {*files, "lock.json"}
    for name, digest in files.items():
        assert hashlib.sha256((vendor / name).read_bytes()).hexdigest() == digest, name


def looked(*counts: tuple[float, float]) -> list[float | None]:
    """Return the rates told of a counter at these seconds."""
    sampler = Sampler(Services({}), lambda: Seen(1, 0, {}, 0), lambda: None, utc_now)
    return [
        sampler._rate("x", count, Sample(int(at * 1000)))  # pyright: ignore[reportPrivateUsage] - the rule itself
        for at, count in counts
    ]


class TestARate:
    def test_is_what_came_since_the_look_before(self) -> None:
        assert looked((0, 10), (2, 30), (4, 30)) == [None, 10, 0]

    def test_is_none_of_what_went(self) -> None:
        assert looked((0, 1_000_000), (2, 6), (4, 16)) == [None, 0, 5]


def test_rates_are_of_all_workers_as_kafka_counts_them() -> None:
    # Two workers of the view, a partition each; the order service's orders, whoever took them.
    places = itertools.count(0, 100)

    def look() -> Seen:
        at = next(places)
        lags = [
            Lag("view", "order.created", 0, at, at),
            Lag("view", "order.created", 1, at, at + 7),
        ]
        return Seen(1, 2 * at, {"view": lags}, 0)

    async def two_looks() -> dict[str, Any]:
        seconds = itertools.count()
        start = utc_now()
        clock = lambda: start + timedelta(seconds=next(seconds))  # noqa: E731
        services = Services({})
        sampler = Sampler(services, look, lambda: None, clock)
        kept = [await sampler._look() for _ in range(2)]  # pyright: ignore[reportPrivateUsage] - without waiting
        await services.close()
        return {"accepted": kept[1].accepted, "handled": kept[1].handled, "lag": kept[1].lag}

    assert asyncio.run(two_looks()) == {
        "accepted": 200,
        "handled": {"view": 200},
        "lag": {"view": 7},
    }
