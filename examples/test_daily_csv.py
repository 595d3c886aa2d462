"""The file has each item once, also after a crash anywhere."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from daily_csv import export
from orderstream.contract.events import InventoryReserved
from orderstream.contract.values import Line
from orderstream.testing import crash_everywhere, run


def reserved(order_id: int | str, day: int, *items: tuple[str, int]) -> InventoryReserved:
    at = datetime(2026, 1, day, 23, 59, tzinfo=UTC)
    lines = tuple(Line(sku, qty) for sku, qty in items)
    return InventoryReserved(
        order_id=order_id, items=lines, user_id="ann", ordered_at=at, decided_at=at
    )


ORDERS = [
    reserved(1, 1, ("MUG", 2), ("MUG", 1)),
    reserved(2, 2, ("CAP", 1)),
    reserved("=3", 1, ("CAP", 5)),
    reserved(2, 2, ("CAP", 1)),  # Put back by a redrive.
]
FIRST_DAY = """\
at,order,user,sku,qty
2026-01-01T23:59:00+00:00,1,ann,MUG,3
2026-01-01T23:59:00+00:00,'=3,ann,CAP,5
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DAILY_CSV", str(tmp_path))
    return tmp_path


def test_each_day_has_its_file(folder: Path) -> None:
    run(export, ORDERS)
    assert sorted(path.name for path in folder.iterdir()) == ["2026-01-01.csv", "2026-01-02.csv"]
    assert (folder / "2026-01-01.csv").read_text() == FIRST_DAY


@pytest.mark.parametrize("after", [False, True])
def test_a_crash_anywhere_leaves_the_same_file(folder: Path, after: bool) -> None:
    for number in range(len(run(export, ORDERS, batch=1).calls)):
        run(export, ORDERS, batch=1, crash=number, after=after)
        assert (folder / "2026-01-01.csv").read_text() == FIRST_DAY


def test_no_crash_changes_the_rows() -> None:
    assert crash_everywhere(export, ORDERS) > 10
