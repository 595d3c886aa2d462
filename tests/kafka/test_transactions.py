"""Transactions on a real broker: outputs and offsets together, and only from who is in charge."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from orderstream.contract.errors import Fenced, TransactionAborted
from orderstream.runtime.admin import Admin
from orderstream.runtime.broker_kafka import KafkaSink, KafkaSource
from orderstream.runtime.settings import Settings
from orderstream.runtime.stage import Output, Positions, Record
from tests.builders import an_order
from tests.conftest import SettingsOf
from tests.kafka.topics import create, keys, put, read
from tests.waiting import until


class Member:
    """A worker's two ends, without a loop between them."""

    def __init__(
        self, settings: Settings, number: int = 0, generation_of: Callable[[], Any] | None = None
    ) -> None:
        group = settings.group("inventory")
        self.source = KafkaSource(
            settings.kafka(log_level=0), group, number, [settings.topics.order_created]
        )
        generation = generation_of or self.source.generation
        self.sink = KafkaSink(settings.kafka(log_level=0), f"{group}-{number}", generation)
        self._topic = settings.topics.inventory_reserved

    def poll(self) -> Record | None:
        """Return one record, if there is one; also takes part in a rebalance."""
        return next(iter(self.source.poll(1, 0.02, 0)), None)

    def produce(self, record: Record) -> Positions:
        """Answer a record inside an open transaction, and return where to go on after it."""
        self.sink.produce(Output(self._topic, record.key(), b"{}", []))
        return {(record.topic() or "", record.partition() or 0): (record.offset() or 0) + 1}

    def close(self) -> None:
        self.sink.close()
        self.source.close()


Joins = Callable[..., Member]


@pytest.fixture
def settings(settings_of: SettingsOf) -> Settings:
    """Two partitions with an order in each."""
    settings = create(settings_of())
    put(settings, *(an_order(order_id=number) for number in range(1, 9)))
    return settings


@pytest.fixture
def joins(settings: Settings) -> Iterator[Joins]:
    with ExitStack() as stack:

        def join(number: int = 0, **more: Any) -> Member:
            member = Member(settings, number, **more)
            stack.callback(member.close)
            return member

        yield join


def answered(settings: Settings, *, committed: bool = True) -> list[str]:
    return keys(read(settings, settings.topics.inventory_reserved, committed=committed))


def consumed(settings: Settings) -> int:
    """Return up to where the group has committed, summed over the partitions."""
    lags = Admin(settings.kafka()).lag(settings.group("inventory"), [settings.topics.order_created])
    return sum(lag.committed or 0 for lag in lags)


class TestATransaction:
    def test_publishes_outputs_and_offsets_together(self, settings: Settings, joins: Joins) -> None:
        member = joins()
        member.sink.ready()
        record = until(member.poll)
        member.sink.begin()
        member.sink.send_offsets(member.produce(record))
        member.sink.commit()
        assert answered(settings) == [(record.key() or b"").decode()]
        assert consumed(settings) == 1

    def test_aborted_leaves_nothing_to_read(self, settings: Settings, joins: Joins) -> None:
        member = joins()
        member.sink.ready()
        record = until(member.poll)
        member.sink.begin()
        member.sink.send_offsets(member.produce(record))
        member.sink.abort()
        assert answered(settings) == []
        assert consumed(settings) == 0

    def test_open_is_not_read_and_holds_no_reader_up_once_it_is_ended(
        self, settings: Settings, joins: Joins
    ) -> None:
        member = joins()
        member.sink.ready()
        record = until(member.poll)
        member.sink.begin()
        member.produce(record)
        until(lambda: answered(settings, committed=False), what="it is written")
        assert answered(settings) == []
        member.close()
        until(lambda: ended(settings), what="it is ended")
        assert answered(settings) == []

    def test_rewound_is_read_again_from_what_is_committed(self, joins: Joins) -> None:
        member = joins()
        member.sink.ready()
        first = until(member.poll)
        until(member.poll)
        member.sink.begin()
        member.sink.send_offsets(member.produce(first))
        member.sink.commit()
        member.source.rewind()
        rest = [until(member.poll) for _ in range(7)]
        assert len({record.key() for record in [first, *rest]}) == 8
        assert member.poll() is None


def ended(settings: Settings) -> bool:
    """Tell whether no transaction is open: a new record can be read at once."""
    put(settings, Output(settings.topics.inventory_rejected, b"after", b"{}", []))
    return bool(read(settings, settings.topics.inventory_rejected))


class TestAZombie:
    def test_whose_place_was_taken_commits_nothing(self, settings: Settings, joins: Joins) -> None:
        old = joins()
        old.sink.ready()
        record = until(old.poll)
        old.sink.begin()
        after = old.produce(record)
        joins().sink.ready()
        with pytest.raises(Fenced):
            finish(old, after)
        assert answered(settings) == []
        assert consumed(settings) == 0

    def test_whose_partitions_went_to_another_commits_nothing(
        self, settings: Settings, joins: Joins
    ) -> None:
        frozen: list[Any] = []
        zombie = joins(generation_of=lambda: frozen[0])
        zombie.sink.ready()
        record = until(zombie.poll)
        frozen.append(zombie.source.generation())
        other = joins(1)
        until(lambda: (zombie.poll() and None) or other.poll(), what="partitions taken over")
        zombie.sink.begin()
        after = zombie.produce(record)
        with pytest.raises(TransactionAborted):
            finish(zombie, after)
        assert answered(settings) == []
        assert consumed(settings) == 0

    def test_is_told_so_when_it_reads_even_after_a_rewind(self, joins: Joins) -> None:
        old = joins()
        until(old.poll)
        until(joins().poll, what="the new one has its partitions")

        def fenced() -> bool:
            old.source.rewind()
            try:
                old.poll()
            except Fenced:
                return True
            return False

        until(fenced, what="the old one is fenced")


def finish(member: Member, after: Positions) -> None:
    member.sink.send_offsets(after)
    member.sink.commit()
