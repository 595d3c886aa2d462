"""How many copies a topic gets."""

import pytest

from orderstream.contract.errors import Unavailable
from orderstream.runtime.admin import Admin


class TestCreate:
    def test_waits_for_the_brokers_that_are_asked_for(self, kafka: str) -> None:
        admin = Admin({"bootstrap.servers": kafka})
        with pytest.raises(Unavailable, match="3"):  # A cluster that starts may have but one.
            admin.create(["copied"], 1, replicas=3)
        assert "copied" not in admin.partitions()

    def test_makes_as_many_copies_as_are_asked_for(self, kafka: str) -> None:
        admin = Admin({"bootstrap.servers": kafka})
        assert admin.create(["copied.once"], 1, replicas=1) == ["copied.once"]
        (found,) = (topic for topic in admin.describe() if topic.name == "copied.once")
        assert found.replication == 1

    def test_once_made_a_topic_is_there_for_all(self, kafka: str) -> None:
        admin, other = (Admin({"bootstrap.servers": kafka}) for _ in range(2))
        for number in range(15):  # A broker that answers too early does so in one of thirty.
            made = {f"seen.{number}.{topic}" for topic in range(6)}
            admin.create(made, 2)
            assert made <= other.partitions().keys()
            assert {(name, 1): 0 for name in made} == other.ends((name, 1) for name in made)
