"""What is computed of what the console sees."""

import hashlib
import json

import pytest

from orderstream.console.api import STATIC, order_as_csv
from orderstream.console.sampler import Sample, Sampler, Seen, share
from orderstream.console.services import Services
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


def looked(*counts: tuple[float, float], **how: bool) -> list[float | None]:
    """Return the rates told of a counter at these seconds."""
    sampler = Sampler(Services({}), lambda: Seen(1, {}, 0), lambda: None, utc_now)
    return [
        sampler._rate("x", count, Sample(int(at * 1000)), **how)  # pyright: ignore[reportPrivateUsage] - the rule itself
        for at, count in counts
    ]


class TestARate:
    def test_is_what_came_since_the_look_before(self) -> None:
        assert looked((0, 10), (2, 30), (4, 30)) == [None, 10, 0]

    def test_of_a_process_that_began_anew_counts_from_nothing(self) -> None:
        assert looked((0, 1_000_000), (2, 6)) == [None, 3]

    def test_of_orders_that_became_something_else_is_no_new_beginning(self) -> None:
        assert looked((0, 1_000_000), (2, 999_999), begins_anew=False) == [None, -0.5]
