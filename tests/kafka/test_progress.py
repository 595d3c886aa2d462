"""A stage that keeps its offsets in its store shows them to Kafka, where others look for them."""

from collections.abc import Iterable
from contextlib import closing

from confluent_kafka import Producer

from orderstream.runtime.admin import Admin
from orderstream.runtime.broker_kafka import KafkaSource
from orderstream.runtime.stage import Partition, Positions
from tests.conftest import SettingsOf
from tests.waiting import until

GROUP = "shows"


class Stored:
    """Positions in a store that has none yet."""

    def load(self, partitions: Iterable[Partition]) -> Positions:  # noqa: ARG002
        return {}

    def begin(self, positions: Positions) -> None:
        raise AssertionError(f"a group that starts at the beginning has none to keep: {positions}")


def test_the_last_of_it_once_nothing_more_comes(settings_of: SettingsOf) -> None:
    settings = settings_of()
    topic = settings.topics.order_created
    admin = Admin(settings.kafka())
    admin.create([topic], 1)
    producer = Producer(settings.kafka())
    for _ in range(2):
        producer.produce(topic, b"{}")
    assert producer.flush(10) == 0
    with closing(KafkaSource(settings.kafka(), GROUP, 0, [topic], starts=Stored())) as source:
        read = 0

        def all_read() -> bool:
            nonlocal read
            read += len(source.poll(100, 0.05, 0.0))
            return read == 2

        def shown() -> int | None:
            return admin.lag(GROUP, [topic])[0].committed

        until(all_read, what="both records are read")
        for offset in (1, 2):  # The second so soon after the first that it waits.
            source.show_progress({(topic, 0): offset})
        assert source.poll(100, 0.05, 0.0) == ()
        until(lambda: shown() == 2, what="the second is shown")
