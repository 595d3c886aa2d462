"""What is set for topics beyond Kafka's defaults, and where the topics of a cluster differ from it.

`ORDERSTREAM_TOPIC_SETTINGS` is a list of `TOPIC:NAME=VALUE`, with `*` for every topic of the flow
and a later one above an earlier one. NAME is one of Kafka's topic settings, or `partitions`.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

PARTITIONS = "partitions"
EVERY = "*"
POLICY = "cleanup.policy"


@dataclass(frozen=True)
class Wanted:
    """How a topic is to be: its partitions, and settings of its own by Kafka's names."""

    topic: str
    partitions: int
    config: Mapping[str, str]


@dataclass(frozen=True)
class Difference:
    """One thing of a topic that is not as wanted; `has` is None where the topic is missing."""

    topic: str
    name: str
    has: str | None
    wanted: str


def parse(text: str) -> list[tuple[str, str, str]]:
    """Read the setting as topic, name and value. Raises ValueError with what is wrong."""
    found: list[tuple[str, str, str]] = []
    for word in text.split():
        topic, colon, rest = word.partition(":")
        name, equals, value = rest.partition("=")
        if not (topic and colon and name and equals and value):
            raise ValueError(f"{word}: write TOPIC:NAME=VALUE, such as *:retention.ms=2592000000")
        if name == PARTITIONS and not (value.isascii() and value.isdigit() and int(value) > 0):
            raise ValueError(f"{word}: partitions are a number from 1 on")
        found.append((topic, name, value))
    return found


def wanted(
    topics: Sequence[str], text: str, partitions: int, compacted: Collection[str] = ()
) -> list[Wanted]:
    """Return how each of the topics is to be. Raises ValueError, also for a topic not of them.

    A compacted one stays compacted: what was done with each dead letter must not be deleted.
    """
    given = parse(text)
    if unknown := {topic for topic, _, _ in given} - {EVERY, *topics}:
        raise ValueError(f"{min(unknown)} is no topic of the flow")
    found: list[Wanted] = []
    for topic in topics:
        config = {name: value for at, name, value in given if at in (EVERY, topic)}
        count = int(config.pop(PARTITIONS, partitions))
        if topic in compacted:
            config[POLICY] = "compact"
        found.append(Wanted(topic, count, config))
    return found


def differences(
    wanted: Sequence[Wanted],
    partitions: Mapping[str, int],
    config: Mapping[str, Mapping[str, str | None]],
) -> list[Difference]:
    """Return where topics that have so many partitions, and these settings, are not as wanted.

    One with more partitions than wanted is as it should be: Kafka never takes any away.
    """
    found: list[Difference] = []
    for topic in wanted:
        has = partitions.get(topic.topic)
        if has is None or has < topic.partitions:
            count = None if has is None else str(has)
            found.append(Difference(topic.topic, PARTITIONS, count, str(topic.partitions)))
        if has is not None:
            there = config[topic.topic]
            found += [
                Difference(topic.topic, name, there.get(name) or "", value)
                for name, value in sorted(topic.config.items())
                if there.get(name) != value
            ]
    return found
