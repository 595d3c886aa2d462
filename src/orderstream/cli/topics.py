"""`topics`: what topics there are, how large they are, and those of the flow made."""

from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from orderstream.cli import settings
from orderstream.cli.app import app
from orderstream.cli.output import (
    AsJson,
    print_facts,
    print_json,
    print_json_lines,
    print_table,
    printable,
)
from orderstream.contract.errors import Unavailable

if TYPE_CHECKING:
    from confluent_kafka import Consumer

    from orderstream.runtime.admin import Admin
    from orderstream.runtime.settings import Settings

READ_TIMEOUT_S = 10.0

topics = typer.Typer(help="List, create and describe topics.", no_args_is_help=True)
app.add_typer(topics, name="topics")


def admin_of(current: "Settings") -> "Admin":
    """Return the cluster's admin, once it has answered. Raises Unavailable."""
    from orderstream.runtime.admin import Admin
    from orderstream.runtime.clients import NotLetIn

    admin = Admin(current.kafka())
    try:
        admin.brokers()
    except NotLetIn:
        raise
    except Unavailable as error:
        raise Unavailable(
            f"Kafka does not answer at {current.kafka_bootstrap_servers}: start it with"
            " `orderstream up`, or check KAFKA_BOOTSTRAP_SERVERS"
        ) from error
    return admin


@topics.command("list")
def list_topics(as_json: AsJson = False) -> None:
    """List every topic, and which services write and read it."""
    current = settings.load_resolved(database=False)
    found = [
        {"topic": name, "partitions": partitions, **_part_in_flow(current, name)}
        for name, partitions in sorted(admin_of(current).partitions().items())
    ]
    if as_json:
        print_json_lines(found)
        return
    print_table(
        ("topic", "partitions", "written by", "read by"),
        [(t["topic"], t["partitions"], _names(t["writtenBy"]), _names(t["readBy"])) for t in found],
    )


@topics.command()
def create(
    partitions: Annotated[
        int | None,
        typer.Option(min=1, max=1000, help="Of each new topic; else ORDERSTREAM_PARTITIONS."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Create the topics of the flow that are missing; those there stay as they are.

    With what ORDERSTREAM_TOPIC_SETTINGS says of each. `topics plan` says what it would create.
    """
    current = settings.load_resolved(database=False)
    wanted = current.topics_wanted(partitions)
    created = admin_of(current).create_wanted(wanted, current.replication)
    counts = {topic.topic: topic.partitions for topic in wanted if topic.topic in created}
    if as_json:
        print_json({"created": created, "partitions": partitions or current.partitions})
        return
    for name, count in counts.items():
        print(f"created {name} with {count} partitions")
    if not created:
        print(f"all {len(wanted)} topics were there")


@topics.command()
def describe(
    topic: Annotated[
        str | None, typer.Argument(metavar="TOPIC", help="Only this one, partition by partition.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show partitions, copies and sizes; of one topic, each partition's offsets too.

    Sizes count offsets: a transaction's end takes one as well.
    """
    current = settings.load_resolved(database=False)
    if topic is None:
        found = [
            {
                "topic": info.name,
                "partitions": info.partitions,
                "replication": info.replication,
                "offsets": info.records,
            }
            for info in admin_of(current).describe()
        ]
        if as_json:
            print_json_lines(found)
        else:
            print_table(
                ("topic", "partitions", "replication", "offsets"),
                [tuple(t.values()) for t in found],
            )
        return
    described = _described(current, topic)
    if as_json:
        print_json(described)
    else:
        _print_described(described)


def _described(current: "Settings", topic: str) -> dict[str, Any]:
    admin = admin_of(current)
    partitions_of(admin.partitions(), topic)
    info = next(info for info in admin.describe() if info.name == topic)
    with reader(current) as consumer:
        spans = spans_of(consumer, admin.ends((topic, n) for n in range(info.partitions)))
    return {
        "topic": topic,
        "replication": info.replication,
        **_part_in_flow(current, topic),
        "partitions": [
            {"partition": number, "first": first, "end": end, "offsets": end - first}
            for (_, number), (first, end) in spans.items()
        ],
    }


def _print_described(described: dict[str, Any]) -> None:
    print_facts(
        (
            ("topic", described["topic"]),
            ("replication", described["replication"]),
            ("written by", _names(described["writtenBy"]) or "(no step of the flow)"),
            ("read by", _names(described["readBy"]) or "(no step of the flow)"),
        )
    )
    print()
    names = ("partition", "first", "end", "offsets")
    print_table(names, [tuple(p[name] for name in names) for p in described["partitions"]])


def _part_in_flow(current: "Settings", topic: str) -> dict[str, list[str]]:
    from orderstream.flow import flow

    steps = flow(current.topics, current.notify_received)
    return {
        "writtenBy": [step.service for step in steps if topic in step.writes],
        "readBy": [step.service for step in steps if topic in step.reads],
    }


def _names(services: object) -> str:
    return ", ".join(cast("list[str]", services))


def partitions_of(counts: dict[str, int], topic: str) -> int:
    """Return how many partitions a topic has. Raises Unavailable when there is no such topic."""
    if topic not in counts:
        raise Unavailable(
            f"there is no topic {printable(topic)}: `orderstream topics list` shows what there is,"
            " `orderstream topics create` makes those of the flow"
        )
    return counts[topic]


# Reading, without a consumer group ----------------------------------------------------------


@contextmanager
def reader(current: "Settings") -> Generator["Consumer"]:
    """Give a consumer that joins no group, and turn what it raises into Unavailable."""
    from confluent_kafka import Consumer, KafkaException

    consumer: Consumer = Consumer(
        current.kafka(
            **{
                "group.id": f"{current.kafka_group_id}-consume",  # Required, and never joined.
                "client.id": "orderstream-consume",
                "isolation.level": "read_committed",
                "enable.auto.commit": False,
                "enable.auto.offset.store": False,
                "enable.partition.eof": True,
                "auto.offset.reset": "earliest",  # A record that was deleted meanwhile.
                "fetch.wait.max.ms": 100,
                "log_level": 2,
            }
        )
    )
    try:
        yield consumer
    except KafkaException as error:
        raise Unavailable(f"Kafka could not be read: {error.args[0].str()}") from None
    finally:
        consumer.close()


Spans = dict[tuple[str, int], tuple[int, int]]


def spans_of(consumer: "Consumer", ends: dict[tuple[str, int], int]) -> Spans:
    """Return the first offset and the end of each partition."""
    from confluent_kafka import TopicPartition

    return {
        at: (consumer.get_watermark_offsets(TopicPartition(*at), READ_TIMEOUT_S)[0], end)
        for at, end in ends.items()
    }
