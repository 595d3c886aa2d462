"""How long a loop waits for a fuller batch."""

from collections.abc import Sequence
from typing import Any, cast

import pytest

from orderstream.runtime.broker_memory import MemoryBroker, MemorySource
from orderstream.runtime.stage import Batch, Keeps, Output, Record, Stage
from tests.runtime.loops import Store, loop_of

TOPIC = "orders"
BUSY = 20
FULL = 50


class Shop:
    """A stage whose batches have so many records and take so many seconds."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, least_s: float, most_s: float) -> None:
        self._now = 1000.0
        self._takes_s = 0.0
        self._lingered: list[float] = []
        monkeypatch.setattr("orderstream.runtime.loop.monotonic", lambda: self._now)
        shop = self

        class Source(MemorySource):
            def poll(self, records_max: int, wait_s: float, linger_s: float) -> Sequence[Record]:
                shop._lingered.append(linger_s)
                return super().poll(records_max, wait_s, linger_s)

        def handle(_batch: Batch, _tx: Any) -> Sequence[Output]:
            self._now += self._takes_s
            return ()

        self._broker = MemoryBroker()
        stage = Stage(
            "shop",
            {TOPIC: lambda record: record},
            handle,
            Keeps.OFFSETS_IN_STORE,
            linger_s=(least_s, most_s),
            busy_records=BUSY,
        )
        store = Store()
        source = Source(self._broker, "shop", stage.reads, cast(Any, store))
        self._loop = loop_of(stage, source, store, FULL)

    def takes(self, records: int, seconds: float) -> float:
        """Handle one batch; return how long it was waited for."""
        for number in range(records):
            self._broker.put(TOPIC, b"%d" % number, b"{}")
        self._takes_s = seconds
        self._loop.step()
        return self._lingered[-1]


def test_at_rest_it_waits_its_least(monkeypatch: pytest.MonkeyPatch) -> None:
    shop = Shop(monkeypatch, 0.01, 0.2)
    assert [shop.takes(0, 0.0) for _ in range(3)] == [0.01, 0.01, 0.01]


def test_the_time_a_busy_batch_takes_is_part_of_the_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    shop = Shop(monkeypatch, 0.01, 0.2)
    shop.takes(BUSY, 0.0)
    assert shop.takes(BUSY, 0.15) == pytest.approx(0.2)
    assert shop.takes(BUSY, 0.5) == pytest.approx(0.05)
    assert shop.takes(BUSY, 0.0) == pytest.approx(0.01)


def test_behind_a_busy_batch_it_waits_for_a_fetch_at_least(monkeypatch: pytest.MonkeyPatch) -> None:
    shop = Shop(monkeypatch, 0.0, 0.2)
    shop.takes(BUSY, 0.5)
    assert shop.takes(BUSY // 2, 0.5) == pytest.approx(0.01)
    assert shop.takes(BUSY // 2, 0.5) == pytest.approx(0.005)


def test_half_as_busy_it_waits_half_as_long(monkeypatch: pytest.MonkeyPatch) -> None:
    shop = Shop(monkeypatch, 0.0, 0.2)
    shop.takes(BUSY // 2, 0.04)
    assert shop.takes(BUSY, 0.0) == pytest.approx(0.06)


def test_behind_a_full_batch_it_does_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    shop = Shop(monkeypatch, 0.01, 0.2)
    shop.takes(FULL, 0.0)
    assert shop.takes(1, 0.0) == 0.0
