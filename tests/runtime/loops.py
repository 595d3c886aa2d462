"""A loop whose offsets are in a store that keeps nothing."""

from collections.abc import Generator, Iterable
from contextlib import contextmanager
from typing import Any, cast

from orderstream.runtime.broker import Source
from orderstream.runtime.failure import RetryPolicy
from orderstream.runtime.loop import Loop
from orderstream.runtime.observe import StageMetrics
from orderstream.runtime.stage import Partition, Positions, Stage
from tests.builders import NOON


class Store:
    """Database and stored positions in one: takes everything, keeps nothing."""

    @contextmanager
    def transaction(self) -> Generator[Any]:
        yield None

    def load(self, _partitions: Iterable[Partition]) -> Positions:
        return {}

    def advance(self, _tx: Any, _after: Positions) -> None:
        pass

    def confirm(self, _after: Positions) -> None:
        pass


def loop_of(stage: Stage, source: Source, store: Store, records_max: int) -> Loop:
    """Return a loop that publishes nothing and tries nothing again."""
    return Loop(
        stage,
        stage.name,
        source,
        cast(Any, None),
        cast(Any, store),
        clock=lambda: NOON,
        policy=RetryPolicy(0, 0),
        dead_letter_suffix=".DLT",
        metrics=StageMetrics("test"),
        records_max=records_max,
        positions=cast(Any, store),
    )
