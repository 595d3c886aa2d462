"""How far a group is behind, asked of a Kafka that has only just begun."""

from orderstream.runtime.admin import Admin
from tests.brokers import OwnKafka
from tests.waiting import until


def test_a_new_kafka_tells_of_groups_as_soon_as_it_can(own_kafka: OwnKafka) -> None:
    """Its coordinators load first: what is asked meanwhile waits, and crashes nobody."""
    admin = Admin({"bootstrap.servers": own_kafka.start()})
    admin.create(["orders"], 2)
    until(lambda: "orders" in admin.partitions(), what="the topic is known")
    for group in ("one", "another"):
        lags = admin.lag(group, ["orders"])
        assert [(lag.partition, lag.committed, lag.end) for lag in lags] == [
            (0, None, 0),
            (1, None, 0),
        ]
    admin.set_committed("one", {("orders", 1): 0})
    assert [lag.committed for lag in admin.lag("one", ["orders"])] == [None, 0]
