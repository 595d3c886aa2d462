"""How long a loop leaves alone what is away, and what is no fault."""

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import count
from typing import Any, cast

import pytest
from prometheus_client import REGISTRY

from orderstream.contract.errors import PartitionsGone, Unavailable
from orderstream.contract.topics import Topics
from orderstream.order_view.stage import view_stage
from orderstream.runtime.broker_memory import MemoryBroker, MemorySource
from orderstream.runtime.stage import Batch, Keeps, Output, Record, Stage
from tests.builders import an_order, encode, key_of
from tests.runtime.loops import Store, loop_of

TOPICS = Topics()
WAITS = 5


class Refusing(Store):
    @contextmanager
    def transaction(self) -> Generator[Any]:
        raise Unavailable("the store takes nothing")
        yield


class Rests:
    """Stands for the loop's event: notes how long it was to be waited, and ends it then."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def is_set(self) -> bool:
        return len(self.seconds) == WAITS

    def wait(self, seconds: float) -> bool:
        self.seconds.append(seconds)
        return self.is_set()


def test_it_grows_though_records_are_read_that_wait_for_their_other_half(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("orderstream.runtime.loop.monotonic", partial(next, count(0, 0.1)))
    broker = MemoryBroker()
    for number in range(3000):  # Of a busy stage: it keeps them back first.
        order = an_order(order_id=number)
        broker.put(TOPICS.order_created, key_of(order), encode(order))
    stage = view_stage(cast(Any, None), TOPICS, "inventory")
    store = Refusing()
    source = MemorySource(broker, "view", stage.reads, cast(Any, store))
    loop = loop_of(stage, source, store, 4000)
    rests = Rests()
    monkeypatch.setattr(loop, "_stopping", rests)
    loop.run()
    assert rests.seconds == [0.1, 0.1, 0.2, 0.4, 0.8]


def test_partitions_that_go_are_no_fault() -> None:
    handled: list[bytes | None] = []

    class Rebalanced(MemorySource):
        polls = rewinds = 0

        def poll(self, records_max: int, wait_s: float, linger_s: float) -> Sequence[Record]:
            self.polls += 1
            if self.polls == 2:
                raise PartitionsGone("partitions were taken away")
            return super().poll(records_max, wait_s, linger_s)

        def rewind(self) -> None:
            self.rewinds += 1
            super().rewind()

    def handle(batch: Batch, _tx: Any) -> Sequence[Output]:
        handled.extend(record.key() for record, _ in batch)
        if source.polls > 2:
            loop.stop()
        return ()

    def aborted() -> float | None:
        labels = {"stage": "test", "event": "aborted"}
        return REGISTRY.get_sample_value("orderstream_stage_events_total", labels)

    broker = MemoryBroker()
    broker.put("orders", b"1", b"{}")
    stage = Stage("shop", {"orders": lambda record: record}, handle, Keeps.OFFSETS_IN_STORE)
    store = Store()
    source = Rebalanced(broker, "shop", stage.reads, cast(Any, store))
    loop = loop_of(stage, source, store, 10)
    before = aborted()
    assert before is not None
    loop.run()
    assert handled == [b"1", b"1"]  # From what is stored, which is nothing.
    assert source.rewinds == 2
    assert aborted() == before
