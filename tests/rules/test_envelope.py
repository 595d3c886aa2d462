"""CloudEvents in Kafka's binary mode: what is written around an event is read back from it."""

from datetime import UTC, datetime, timedelta

import pytest
from confluent_kafka import Message
from hypothesis import given
from hypothesis import strategies as st

from orderstream.contract.envelope import (
    CE_ID,
    CE_TIME,
    CE_TYPE,
    TRACEPARENT,
    Envelope,
    event_id,
    header,
    rfc3339,
)
from orderstream.runtime.stage import Record
from tests.builders import NOON

ENVELOPE = Envelope("order.created", "/orderstream/orders")
times = st.datetimes(datetime(1970, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001
keys = st.text(min_size=1, max_size=128).filter(lambda text: text.isprintable())


def headers_of(record: Record) -> list[tuple[str, bytes]]:
    return record.headers()


class TestHeaders:
    @given(keys, times)
    def test_are_read_back_as_they_were_written(self, key: str, at: datetime) -> None:
        written = ENVELOPE.headers(key.encode(), at, b"00-a-b-01")
        read = headers_of(Message("t", headers=written))  # pyright: ignore[reportArgumentType]
        assert (header(read, CE_ID) or b"").decode() == event_id(key, "order.created")
        assert datetime.fromisoformat((header(read, CE_TIME) or b"").decode()) == at
        assert header(read, CE_TYPE) == b"order.created"
        assert header(read, TRACEPARENT) == b"00-a-b-01"

    def test_are_those_of_the_binding_and_no_others(self) -> None:
        assert dict(ENVELOPE.headers(b"7", NOON)) == {
            "ce_id": b"7:order.created",
            "ce_source": b"/orderstream/orders",
            "ce_specversion": b"1.0",
            "ce_type": b"order.created",
            "ce_time": b"2026-11-21T12:00:00Z",
            "content-type": b"application/json",
        }

    def test_of_one_event_do_not_change_those_of_the_next(self) -> None:
        ENVELOPE.headers(b"7", NOON).append(("x", b""))
        assert header(ENVELOPE.headers(b"8", NOON), "x") is None

    def test_the_same_event_has_the_same_id_whenever_it_is_said(self) -> None:
        later = ENVELOPE.headers(b"7", NOON + timedelta(days=1))
        assert header(later, CE_ID) == header(ENVELOPE.headers(b"7", NOON), CE_ID)


class TestHeader:
    @pytest.mark.parametrize(
        ("headers", "value"),
        [
            (None, None),
            ([], None),
            ([("other", b"1")], None),
            ([("x", b"1"), ("x", b"2")], b"2"),
            ([("x", b"1"), ("X", b"2")], b"1"),
            ([("x", b"1"), ("x", None)], None),
        ],
    )
    def test_the_last_of_a_name_counts(
        self, headers: list[tuple[str, bytes | None]] | None, value: bytes | None
    ) -> None:
        assert header(headers, "x") == value


class TestRfc3339:
    def test_has_milliseconds_and_z(self) -> None:
        assert rfc3339(NOON + timedelta(microseconds=123_456)) == "2026-11-21T12:00:00.123Z"
