"""What the console tells Prometheus of Kafka, under kafka_exporter's names."""

from types import SimpleNamespace
from typing import Any

from orderstream.console.metrics import KafkaMetrics
from orderstream.console.sampler import Seen
from orderstream.runtime.admin import Lag

AT = {"consumergroup": "g-inventory", "topic": "order.created"}
LAGS = [
    Lag("g-inventory", "order.created", 0, 40, 50),
    Lag("g-inventory", "order.created", 1, None, 3),
    Lag("g-inventory", "order.created.retry", 0, 7, 9, all_read=True),  # Ends of transactions.
]


def told(seen: Seen | None, dead_letters: int | None) -> dict[tuple[str, str], float]:
    sampler: Any = SimpleNamespace(seen=seen, dead_letters=dead_letters)
    return {
        (sample.name, ",".join(sample.labels.values())): sample.value
        for family in KafkaMetrics(sampler, lambda name: f"g-{name}").collect()
        for sample in family.samples
    }


def test_lag_and_places_of_each_group_by_partition_and_topic() -> None:
    found = told(Seen(3, 0, {"inventory": LAGS}, 0), 2)
    assert found["kafka_consumergroup_lag", "g-inventory,order.created,0"] == 10
    assert found["kafka_consumergroup_lag", "g-inventory,order.created,1"] == 3
    assert found["kafka_consumergroup_lag", "g-inventory,order.created.retry,0"] == 0
    assert found["kafka_consumergroup_lag_sum", "g-inventory,order.created"] == 13
    assert found["kafka_consumergroup_current_offset_sum", "g-inventory,order.created"] == 40
    assert found["kafka_topic_partition_current_offset", "order.created,0"] == 50
    assert found["kafka_topic_partitions", "order.created"] == 2
    assert found["kafka_brokers", ""] == 3
    assert found["orderstream_dead_letters", ""] == 2


def test_what_is_not_known_is_not_told() -> None:
    assert told(None, None) == {}
    assert told(Seen(1, 0, {}, 0), None) == {("kafka_brokers", ""): 1}
