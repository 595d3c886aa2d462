"""`produce` and `consume`: lines to records, records to lines."""

from datetime import UTC, datetime

import pytest
import typer
from confluent_kafka import Message

from orderstream.cli import records
from orderstream.cli.records import Start


def a_message(key: bytes | None, value: bytes | None, **headers: bytes) -> Message:
    """Return a record as librdkafka hands it out."""
    return Message(
        topic="order.created",
        partition=2,
        offset=7,
        key=key,
        value=value,
        headers=[(name.replace("__", "-"), value) for name, value in headers.items()],
        timestamp=(1, 1_795_248_948_471),
    )


class TestParseStart:
    @pytest.mark.parametrize(
        ("text", "start"),
        [
            ("beginning", Start(edge="beginning")),
            ("end", Start(edge="end")),
            ("120", Start(offset=120)),
            ("2026-11-21", Start(time_ms=1_795_219_200_000)),
            ("2026-11-21T00:00:00.250Z", Start(time_ms=1_795_219_200_250)),
            ("2026-11-21T02:00:00+02:00", Start(time_ms=1_795_219_200_000)),
        ],
    )
    def test_reads_edges_offsets_and_times(self, text: str, start: Start) -> None:
        assert datetime(2026, 11, 21, tzinfo=UTC).timestamp() == 1_795_219_200
        assert records.parse_start(text) == start

    @pytest.mark.parametrize("text", ["", "-5", "start", "10:00"])
    def test_says_what_it_takes(self, text: str) -> None:
        with pytest.raises(typer.BadParameter, match="write beginning, end, an offset"):
            records.parse_start(text)


class TestRecords:
    def test_each_line_is_a_value(self) -> None:
        lines = [b"one\n", b"\n", b"two\r\n", b"last"]
        values = [b"one", b"", b"two", b"last"]
        assert list(records.records(lines, None, None)) == [(None, value) for value in values]

    def test_a_key_is_for_all_lines(self) -> None:
        assert list(records.records([b"a:1\n"], "K", None)) == [(b"K", b"a:1")]

    def test_the_first_separator_ends_the_key(self) -> None:
        assert list(records.records([b"a:1:2\n"], None, ":")) == [(b"a", b"1:2")]

    def test_names_the_line_without_a_separator(self) -> None:
        found = records.records([b"a:1\n", b"bad\n"], None, ":")
        assert next(found) == (b"a", b"1")
        with pytest.raises(typer.BadParameter, match="line 2"):
            next(found)


class TestParseHeader:
    def test_reads_name_and_value(self) -> None:
        assert records.parse_header("n=a=b") == ("n", b"a=b")

    @pytest.mark.parametrize("text", ["n", "=v", ""])
    def test_says_how_to_write_one(self, text: str) -> None:
        with pytest.raises(typer.BadParameter, match="write NAME=VALUE"):
            records.parse_header(text)


class TestHeaderValue:
    @pytest.mark.parametrize(
        ("name", "value", "shown"),
        [
            ("kafka_dlt-original-partition", b"\x00\x00\x00\x03", 3),
            ("kafka_dlt-original-offset", (107_560).to_bytes(8, "big"), 107_560),
            ("kafka_dlt-original-timestamp", (1_795_248_948_471).to_bytes(8, "big"), 1795248948471),
            ("retry_topic-attempts", b"\x00\x00\x00\x02", 2),
            (
                "retry_topic-backoff-timestamp",
                (1_795_248_949_472).to_bytes(6, "big"),
                1795248949472,
            ),
            ("kafka_dlt-original-topic", b"order.created", "order.created"),
            ("retry_topic-attempts", b"no number at all", "no number at all"),
            ("retry_topic-attempts", b"", ""),
            ("ce_id", b"1001:order.created", "1001:order.created"),
            ("odd", b"\xff\x00", "0xff00"),
            ("none", None, None),
        ],
    )
    def test_shows_numbers_text_and_hex(
        self, name: str, value: bytes | None, shown: int | str | None
    ) -> None:
        assert records.header_value(name, value) == shown


class TestShownRecords:
    def test_a_line_has_place_time_key_and_value(self) -> None:
        line = records.as_line(a_message(b"1001", b'{"orderId":1001}'))
        assert line == '2 7 2026-11-21T08:15:48.471Z 1001 {"orderId":1001}'

    def test_a_line_is_one_line_whatever_the_value(self) -> None:
        line = records.as_line(a_message(None, b"two\nlines\x1b[2J"))
        assert line == "2 7 2026-11-21T08:15:48.471Z - two\\nlines\\x1b[2J"

    def test_a_document_keeps_text_exactly(self) -> None:
        document = records.as_document(
            a_message(b"1001", b"two\nlines", retry_topic__attempts=b"\2")
        )
        assert document == {
            "topic": "order.created",
            "partition": 2,
            "offset": 7,
            "time": "2026-11-21T08:15:48.471Z",
            "key": "1001",
            "value": "two\nlines",
            "headers": [{"name": "retry_topic-attempts", "value": 2}],
        }

    def test_a_document_says_which_parts_are_hex(self) -> None:
        document = records.as_document(a_message(None, b"\xff\xfe"))
        assert document["key"] is None
        assert document["valueHex"] == "fffe"
        assert "value" not in document
