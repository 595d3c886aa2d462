"""How long a loop leaves alone what is away."""

from collections.abc import Generator
from contextlib import contextmanager
from functools import partial
from itertools import count
from typing import Any, cast

import pytest

from orderstream.contract.errors import Unavailable
from orderstream.contract.topics import Topics
from orderstream.order_view.stage import view_stage
from orderstream.runtime.broker_memory import MemoryBroker, MemorySource
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
