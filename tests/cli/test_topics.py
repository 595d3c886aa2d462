"""`topics`: what is asked of a topic that is not there."""

import pytest

from orderstream.cli import topics
from orderstream.contract.errors import Unavailable


class TestPartitionsOf:
    def test_counts_those_of_the_topic(self) -> None:
        assert topics.partitions_of({"a": 4, "b": 1}, "a") == 4

    def test_says_how_to_find_or_make_a_topic_that_is_missing(self) -> None:
        with pytest.raises(Unavailable, match="topics create") as missing:
            topics.partitions_of({"a": 4}, "b\n")
        assert "there is no topic b\\n:" in str(missing.value)
