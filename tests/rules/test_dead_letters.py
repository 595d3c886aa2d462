"""What a dead letter says, in both of Spring Kafka's dialects, and what is tried again."""

import struct
from dataclasses import dataclass, field

import pytest

from orderstream.contract.envelope import Headers
from orderstream.contract.errors import Malformed
from orderstream.dead_letters.rules import (
    DeadLetter,
    Pass,
    Place,
    Wanted,
    edited,
    header_value,
    headers_again,
    parse_place,
    read,
)


@dataclass
class Stored:
    """A record of a dead letter topic."""

    of_headers: Headers = field(default_factory=list[tuple[str, bytes]])
    of_value: bytes | None = b'{"orderId":7}'
    of_key: bytes | None = b"7"

    def topic(self) -> str:
        return "orders-dlt"

    def partition(self) -> int:
        return 1

    def offset(self) -> int:
        return 5

    def key(self) -> bytes | None:
        return self.of_key

    def value(self) -> bytes | None:
        return self.of_value

    def headers(self) -> Headers:
        return self.of_headers

    def timestamp(self) -> tuple[int, int]:
        return 1, 1_000


def origin(prefix: str, offset: int, group: str = "shop") -> Headers:
    return [
        (f"{prefix}topic", b"orders"),
        (f"{prefix}partition", struct.pack(">i", 1)),
        (f"{prefix}offset", struct.pack(">q", offset)),
        (f"{prefix}timestamp", struct.pack(">q", 900)),
        (f"{prefix}timestamp-type", b"CreateTime"),
        ("kafka_dlt-original-consumer-group", group.encode()),
    ]


def fault(prefix: str, message: str = "boom; no stock") -> Headers:
    return [
        (f"{prefix}fqcn", b"org.springframework.kafka.listener.ListenerExecutionFailedException"),
        (f"{prefix}cause-fqcn", b"java.lang.IllegalStateException"),
        (f"{prefix}message", message.encode()),
        (f"{prefix}stacktrace", b"at a.B.c(B.java:1)"),
    ]


def letter(*headers: Headers, value: bytes | None = b'{"orderId":7}') -> DeadLetter:
    return read(Stored([h for some in headers for h in some], value))


class TestRead:
    @pytest.mark.parametrize(
        ("of_origin", "of_fault"),
        [
            ("kafka_dlt-original-", "kafka_dlt-exception-"),
            ("kafka_original-", "kafka_exception-"),
        ],
        ids=["recoverer", "retry topic"],
    )
    def test_understands_both_dialects(self, of_origin: str, of_fault: str) -> None:
        found = letter(origin(of_origin, 3), fault(of_fault))
        assert found.place == Place("orders-dlt", 1, 5)
        assert found.origin == Pass("orders", 1, 3, 900, "shop")
        assert found.exception == "java.lang.IllegalStateException"
        assert (found.reason, found.stacktrace) == ("boom; no stock", "at a.B.c(B.java:1)")

    def test_names_every_pass_and_the_last_is_the_latest(self) -> None:
        found = letter(origin("kafka_dlt-original-", 3), origin("kafka_dlt-original-", 9, "other"))
        assert [(p.offset, p.group) for p in found.passes] == [(3, "shop"), (9, "other")]
        assert found.origin.offset == 9

    @pytest.mark.parametrize("attempts", [b"\x03", struct.pack(">i", 3)])
    def test_reads_attempts_of_one_byte_and_of_four(self, attempts: bytes) -> None:
        assert letter([("retry_topic-attempts", attempts)]).attempts == 3

    def test_says_nothing_that_it_was_not_told(self) -> None:
        found = letter(value=b"\xff")
        assert found.origin == Pass(None, None, None, None, None)
        assert (found.passes, found.exception, found.reason) == ((), None, None)
        assert found.order == "7"  # The key's.

    def test_the_order_is_the_payloads_where_that_can_be_read(self) -> None:
        assert letter(value=b'{"orderId":"a-1"}').order == "a-1"

    def test_one_fault_has_one_pattern_for_every_order(self) -> None:
        said = letter(fault("kafka_dlt-exception-", "order 7 asks for FAIL"))
        assert said.pattern == "order ... asks for FAIL"

    @pytest.mark.parametrize(
        ("said", "cause"),
        [
            ("order 7: 7 of MUG", "order ...: ... of MUG"),
            ("after 27017 ms in A7", "after ... ms in A7"),
            ("no more", "no more"),
        ],
    )
    def test_a_cause_has_neither_the_order_nor_long_numbers(self, said: str, cause: str) -> None:
        found = letter(fault("kafka_dlt-exception-", said)).cause
        assert found == f"IllegalStateException: {cause}"


class TestHeaderValue:
    @pytest.mark.parametrize(
        ("name", "value", "shown"),
        [
            ("kafka_dlt-original-offset", struct.pack(">q", 12), 12),
            ("kafka_original-partition", struct.pack(">i", 2), 2),
            ("retry_topic-attempts", b"\x02", 2),
            ("kafka_dlt-original-timestamp-type", b"CreateTime", "CreateTime"),
            ("kafka_dlt-original-offset", b"", ""),
            ("trace", b"\xff", "0xff"),
        ],
    )
    def test_decodes(self, name: str, value: bytes, shown: int | str) -> None:
        assert header_value(name, value) == shown


class TestPlace:
    def test_is_read_as_it_is_written(self) -> None:
        assert parse_place(str(Place("a.b-DLT", 3, 12))) == Place("a.b-DLT", 3, 12)

    @pytest.mark.parametrize("text", ["", "a", "a[0]", "a[x]@1", "a b[0]@1", "a[0]@-1", "a[0]@1 "])
    def test_of_another_form_is_refused(self, text: str) -> None:
        with pytest.raises(Malformed):
            parse_place(text)


class TestWanted:
    SAMPLE = letter(origin("kafka_dlt-original-", 3), fault("kafka_dlt-exception-"))

    @pytest.mark.parametrize(
        "wanted",
        [
            Wanted(),
            Wanted(reason="NO STOCK"),
            Wanted(reason="illegalstate"),
            Wanted(order="7", group="shop"),
            Wanted(since_ms=1_000, until_ms=1_001),
        ],
    )
    def test_fits(self, wanted: Wanted) -> None:
        assert wanted.fits(self.SAMPLE)

    @pytest.mark.parametrize(
        "wanted",
        [
            Wanted(reason="network"),
            Wanted(order="70"),
            Wanted(group="other"),
            Wanted(since_ms=1_001),
            Wanted(until_ms=1_000),
            Wanted(order="7", group="other"),
        ],
    )
    def test_does_not_fit(self, wanted: Wanted) -> None:
        assert not wanted.fits(self.SAMPLE)


class TestHeadersAgain:
    def test_keep_the_history_and_forget_the_tries(self) -> None:
        tries = [("retry_topic-attempts", b"\x02"), ("retry_topic-backoff-timestamp", b"\x01")]
        own = [("traceparent", b"00-a-b-01")]
        history = origin("kafka_dlt-original-", 3) + fault("kafka_dlt-exception-")
        assert headers_again(own + history + tries) == own + history

    def test_keep_what_a_retry_topic_wrote_as_history_and_no_longer_as_the_origin(self) -> None:
        again = headers_again(origin("kafka_original-", 3) + fault("kafka_exception-"))
        assert again == origin("kafka_dlt-original-", 3) + fault("kafka_dlt-exception-")


class TestEdited:
    @pytest.mark.parametrize(
        ("changes", "after"),
        [
            ([("items[1].qty", "5")], b'{"items":[{"qty":1},{"qty":5}],"u":null}'),
            ([("items[0].sku", "MUG")], b'{"items":[{"qty":1,"sku":"MUG"},{"qty":2}],"u":null}'),
            ([("u", '{"a":[1]}')], b'{"items":[{"qty":1},{"qty":2}],"u":{"a":[1]}}'),
            ([("u", "1"), ("items", "[]")], b'{"items":[],"u":1}'),
        ],
    )
    def test_replaces_the_parts(self, changes: list[tuple[str, str]], after: bytes) -> None:
        assert edited(b'{"items":[{"qty":1},{"qty":2}],"u":null}', changes) == after

    @pytest.mark.parametrize(
        "path", ["items[2].qty", "no.such", "items[0].qty.x", "", "a[", "items.x", "[0]"]
    )
    def test_refuses_a_path_that_leads_nowhere(self, path: str) -> None:
        with pytest.raises(Malformed) as refused:
            edited(b'{"items":[{"qty":1},{"qty":2}]}', [(path, "1")])
        assert refused.value.field == path

    @pytest.mark.parametrize("value", [None, b"not JSON", b"\xff", b"[" * 5_000])
    def test_refuses_what_is_no_json(self, value: bytes | None) -> None:
        with pytest.raises(Malformed):
            edited(value, [("a", "1")])
