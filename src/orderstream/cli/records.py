"""`produce` and `consume`: records from stdin and to stdout."""

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, BinaryIO, cast

import typer

from orderstream.cli import settings
from orderstream.cli.app import app
from orderstream.cli.output import (
    AsJson,
    hint,
    print_json,
    print_json_lines,
    printable,
    read_time_ms,
)
from orderstream.cli.topics import READ_TIMEOUT_S, Spans, admin_of, partitions_of, reader, spans_of
from orderstream.contract.errors import Unavailable
from orderstream.runtime.documents import as_document, header_value, shown, time_of

if TYPE_CHECKING:
    from confluent_kafka import Consumer, KafkaError, Message, TopicPartition

    from orderstream.runtime.settings import Settings

CONFIRM_TIMEOUT_MS = 10_000
READ_AT_ONCE = 500

Topic = Annotated[str, typer.Argument(metavar="TOPIC", help="The topic's name.")]


# produce -----------------------------------------------------------------------------------


@app.command()
def produce(
    topic: Topic,
    key: Annotated[str | None, typer.Option(help="The key of every record.")] = None,
    headers: Annotated[
        list[str] | None,
        typer.Option(
            "--header", metavar="NAME=VALUE", help="A header of every record; repeatable."
        ),
    ] = None,
    key_separator: Annotated[
        str | None,
        typer.Option(metavar="TEXT", help="Each line is its key, this, and its value."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write each line of stdin as one record, and wait until Kafka holds all of them safely."""
    if key is not None and key_separator is not None:
        raise typer.BadParameter("--key is for all lines, --key-separator for each: give one")
    fixed = [parse_header(header) for header in headers or ()]
    current = settings.load_resolved(database=False)
    partitions_of(admin_of(current).partitions(), topic)
    if sys.stdin.isatty():
        hint("each line is a record; Ctrl-D ends")
    writer = _Writer(current, topic, fixed)
    try:
        for record in records(cast("BinaryIO", sys.stdin.buffer), key, key_separator):
            writer.write(*record)
    finally:
        writer.finish()
    if as_json:
        print_json({"topic": topic, "written": writer.confirmed})
    else:
        print(f"{writer.confirmed} records written to {topic}")


def parse_header(text: str) -> tuple[str, bytes]:
    """Read `NAME=VALUE`. Raises BadParameter."""
    name, separator, value = text.partition("=")
    if not separator or not name:
        raise typer.BadParameter(f"--header {text}: write NAME=VALUE, such as source=test")
    return name, value.encode()


def records(
    lines: Iterable[bytes], key: str | None, separator: str | None
) -> Iterator[tuple[bytes | None, bytes]]:
    """Yield the key and value of each line. Raises BadParameter for one without its separator."""
    fixed = None if key is None else key.encode()
    for number, line in enumerate(lines, 1):
        value = line.removesuffix(b"\n").removesuffix(b"\r")
        if separator is None:
            yield fixed, value
            continue
        own, found, value = value.partition(separator.encode())
        if not found:
            raise typer.BadParameter(
                f"line {number} has no {separator!r} behind a key; the lines before it are written"
            )
        yield own, value


class _Writer:
    """Sends records and counts those that every in-sync replica has."""

    def __init__(self, current: "Settings", topic: str, headers: list[tuple[str, bytes]]) -> None:
        from confluent_kafka import Producer

        from orderstream.runtime.clients import DURABLE

        self._topic = topic
        self._headers = headers
        self._failed = 0
        self._reason = ""
        self.confirmed = 0
        self._producer = Producer(
            current.kafka(
                **DURABLE
                | {
                    "client.id": "orderstream-produce",
                    "message.timeout.ms": CONFIRM_TIMEOUT_MS,
                    "log_level": 2,
                }
            )
        )

    def write(self, key: bytes | None, value: bytes) -> None:
        """Send one record; waits for room when too many are under way."""
        from confluent_kafka import KafkaException

        while True:
            try:
                self._producer.produce(
                    self._topic,
                    value,
                    key,
                    on_delivery=self._told,
                    headers=self._headers,  # pyright: ignore[reportArgumentType] - list is invariant
                )
            except BufferError:
                self._producer.poll(0.5)
                continue
            except KafkaException as error:
                raise Unavailable(f"Kafka refused a record: {error.args[0].str()}") from None
            self._producer.poll(0)
            return

    def finish(self) -> None:
        """Wait until each record is confirmed or given up. Raises Unavailable if any failed."""
        while self._producer.flush(1.0):
            pass  # Ends: each record is confirmed or fails within CONFIRM_TIMEOUT_MS.
        if self._failed:
            raise Unavailable(
                f"{self._failed} of {self._failed + self.confirmed} records were not confirmed"
                f" ({self._reason}): is Kafka there? See `orderstream doctor`"
            )

    def _told(self, error: "KafkaError | None", _message: "Message") -> None:
        if error is None:
            self.confirmed += 1
        else:
            self._failed += 1
            self._reason = error.str()


# consume -----------------------------------------------------------------------------------


@app.command()
def consume(
    topic: Topic,
    start: Annotated[
        str,
        typer.Option(
            "--from", metavar="WHERE", help="`beginning`, `end`, an offset, or a time (ISO 8601)."
        ),
    ] = "beginning",
    max_records: Annotated[
        int | None, typer.Option("--max", min=1, metavar="N", help="End after so many records.")
    ] = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on with what comes, until Ctrl-C.")
    ] = False,
    show_headers: Annotated[
        bool, typer.Option("--headers", help="Show each record's headers below it.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Print a topic's committed records: partition, offset, time, key, value.

    Reads without a consumer group, so nobody else notices. What is not text is shown as hex.
    """
    where = parse_start(start)
    current = settings.load_resolved(database=False)
    with reader(current) as consumer:
        reading = _begin(consumer, current, topic, where)
        write = _json_writer() if as_json else _text_writer(show_headers)
        left = max_records
        while left != 0 and (follow or reading.left):
            taken = reading.take(READ_AT_ONCE if left is None else min(left, READ_AT_ONCE), follow)
            write(taken)
            left = None if left is None else left - len(taken)


@dataclass(frozen=True)
class Start:
    """Where to begin in each partition: an offset, or a time in ms since 1970, or an edge."""

    edge: str = ""
    offset: int = 0
    time_ms: int | None = None


def parse_start(text: str) -> Start:
    """Read what `--from` says. Raises BadParameter."""
    if text in ("beginning", "end"):
        return Start(edge=text)
    if text.isascii() and text.isdigit():
        return Start(offset=int(text))
    try:
        return Start(time_ms=read_time_ms(text))
    except ValueError:
        raise typer.BadParameter(
            f"--from {text}: write beginning, end, an offset such as 120,"
            " or a time such as 2026-11-21T10:00:00Z"
        ) from None


def _begin(consumer: "Consumer", current: "Settings", topic: str, where: Start) -> "_Reading":
    from confluent_kafka import TopicPartition

    admin = admin_of(current)
    count = partitions_of(admin.partitions(), topic)
    spans = spans_of(consumer, admin.ends((topic, number) for number in range(count)))
    starts = _starts(consumer, spans, where)
    consumer.assign([TopicPartition(*at, offset) for at, offset in starts.items()])
    return _Reading(consumer, {at: end for at, (_, end) in spans.items() if starts[at] < end})


def _starts(consumer: "Consumer", spans: Spans, where: Start) -> dict[tuple[str, int], int]:
    from confluent_kafka import TopicPartition

    if where.time_ms is not None:
        asked = [TopicPartition(*at, where.time_ms) for at in spans]
        found = consumer.offsets_for_times(asked, timeout=READ_TIMEOUT_S)
        return {(p.topic, p.partition): _at_time(p, spans) for p in found}
    if where.edge == "end":
        return {at: end for at, (_, end) in spans.items()}
    return {at: max(first, min(where.offset, end)) for at, (first, end) in spans.items()}


def _at_time(found: "TopicPartition", spans: Spans) -> int:
    """Return where a time is; Kafka answers -1 when every record is older."""
    return found.offset if found.offset >= 0 else spans[found.topic, found.partition][1]


class _Reading:
    """A read of several partitions; `left` are those not read up to their end, with that end."""

    def __init__(self, consumer: "Consumer", left: dict[tuple[str, int], int]) -> None:
        self._consumer = consumer
        self.left = left

    def take(self, count: int, follow: bool) -> list["Message"]:
        """Return up to so many records; without `follow` none from behind the ends."""
        taken: list[Message] = []
        for message in self._consumer.consume(count, 0.2):
            at = (message.topic() or "", message.partition() or 0)
            error = message.error()
            if error is not None:
                self._reported(at, error, follow)
            elif follow or (message.offset() or 0) < self.left.get(at, 0):
                taken.append(message)
            if error is None and (message.offset() or 0) + 1 >= self.left.get(at, 0):
                self.left.pop(at, None)
        return taken

    def _reported(self, at: tuple[str, int], error: "KafkaError", follow: bool) -> None:
        from confluent_kafka import KafkaError

        code = error.code()
        if code == KafkaError._PARTITION_EOF:
            self.left.pop(at, None)  # What is left of it are ends of transactions.
            return
        passing = error.retriable() or code in (KafkaError._TRANSPORT, KafkaError._RESOLVE)
        waits = follow and code == KafkaError._ALL_BROKERS_DOWN  # Until Kafka is back.
        if not (passing or waits):
            raise Unavailable(f"Kafka could not be read: {error.str()}")


Write = Callable[[Sequence["Message"]], None]


def _json_writer() -> Write:
    def write(messages: Sequence["Message"]) -> None:
        print_json_lines(as_document(message) for message in messages)
        sys.stdout.flush()

    return write


def _text_writer(show_headers: bool) -> Write:
    def write(messages: Sequence["Message"]) -> None:
        for message in messages:
            print(as_line(message))
            if show_headers:
                for name, value in message.headers() or ():
                    print(f"    {printable(name)}: {printable(header_value(name, value))}")
        sys.stdout.flush()

    return write


def as_line(message: "Message") -> str:
    """Write a record as `partition offset time key value`; `-` stands for none."""
    parts = (
        message.partition(),
        message.offset(),
        time_of(message) or "-",
        shown(message.key()),
        shown(message.value()),
    )
    return " ".join(printable(part) for part in parts)
