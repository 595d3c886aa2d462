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
