"""What is known of Kafka, for Prometheus: where each group is, under the names of kafka_exporter.

The console tells it, since it looks at all groups anyway, those without a worker included. What
could not be looked at has no series: old numbers are worse than none.
"""

from collections import Counter
from collections.abc import Callable, Iterator

from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from orderstream.console.sampler import Sampler


class KafkaMetrics(Collector):
    """Lag, places and ends as the console saw them last, at most some seconds ago."""

    def __init__(self, sampler: Sampler, group_of: Callable[[str], str]) -> None:
        """`group_of` names a service's consumer group."""
        self._sampler = sampler
        self._group_of = group_of

    def collect(self) -> Iterator[Metric]:
        """Yield them for a scrape."""
        if (letters := self._sampler.dead_letters) is not None:
            yield _gauge("orderstream_dead_letters", "Dead letters nobody has handled", letters)
        seen = self._sampler.seen
        if seen is None:
            return
        yield _gauge("kafka_brokers", "Brokers of the cluster", seen.brokers)
        at = ("consumergroup", "topic", "partition")
        lag = GaugeMetricFamily("kafka_consumergroup_lag", "Records not read yet", labels=at)
        place = GaugeMetricFamily("kafka_consumergroup_current_offset", "Read up to", labels=at)
        sums = at[:2]
        lag_sum = GaugeMetricFamily("kafka_consumergroup_lag_sum", "Per topic", labels=sums)
        place_sum = GaugeMetricFamily(
            "kafka_consumergroup_current_offset_sum", "Per topic", labels=sums
        )
        ends: dict[tuple[str, str], int] = {}
        for service, lags in seen.lags.items():
            group = self._group_of(service)
            behind, placed = Counter[str](), Counter[str]()
            for one in lags:
                where = (group, one.topic, str(one.partition))
                lag.add_metric(where, one.behind)
                place.add_metric(where, one.committed or 0)
                behind[one.topic] += one.behind
                placed[one.topic] += one.committed or 0
                ends[one.topic, str(one.partition)] = one.end
            for topic in behind:
                lag_sum.add_metric((group, topic), behind[topic])
                place_sum.add_metric((group, topic), placed[topic])
        end = GaugeMetricFamily(
            "kafka_topic_partition_current_offset", "End of the log", labels=("topic", "partition")
        )
        counted = GaugeMetricFamily("kafka_topic_partitions", "Partitions", labels=("topic",))
        for partition, offset in ends.items():
            end.add_metric(partition, offset)
        for topic, count in Counter(topic for topic, _ in ends).items():
            counted.add_metric((topic,), count)
        yield from (lag, lag_sum, place, place_sum, end, counted)


def _gauge(name: str, said: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, said, value=value)
