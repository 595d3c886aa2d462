"""What is computed of what the console sees."""

import hashlib
import json

import pytest

from orderstream.console.api import STATIC, csv_line
from orderstream.console.sampler import share

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
    line = csv_line(ORDER).decode()
    assert line == (
        '\'=1+1,REJECTED,,"2xMUG 1xa,""b",2026-11-21T10:00:00.000Z,,OUT_OF_STOCK,MUG\r\n'
    )


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r"])
def test_a_cell_that_a_spreadsheet_would_run_is_text(start: str) -> None:
    assert f"'{start}cmd" in csv_line(ORDER | {"orderId": f"{start}cmd"}).decode()


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
