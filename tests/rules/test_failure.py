"""What follows a failed try, and the records that say so, in Spring Kafka's words and bytes."""

import struct

import pytest
from confluent_kafka import Message
from hypothesis import given
from hypothesis import strategies as st

from orderstream.contract.envelope import Headers, header
from orderstream.runtime.failure import (
    Park,
    Retry,
    RetryPolicy,
    after_failure,
    dead_letter_output,
    read_dead_letter,
    retry_output,
    tries_before,
    wait_ms,
)
from orderstream.runtime.stage import Output

WRITTEN_MS = 1_795_262_400_123
POLICY = RetryPolicy(attempts=2, backoff_ms=1_000)
OWN: Headers = [("ce_id", b"7:order.created"), ("traceparent", b"00-a-b-01")]
DEAD_NAMES = {
    "kafka_dlt-original-topic",
    "kafka_dlt-original-partition",
    "kafka_dlt-original-offset",
    "kafka_dlt-original-timestamp",
    "kafka_dlt-original-timestamp-type",
    "kafka_dlt-original-consumer-group",
    "kafka_dlt-exception-fqcn",
    "kafka_dlt-exception-cause-fqcn",
    "kafka_dlt-exception-message",
    "kafka_dlt-exception-stacktrace",
}


def a_record(
    headers: Headers = OWN, *, topic: str = "order.created", stamp: tuple[int, int] | None = None
) -> Message:
    return Message(
        topic,
        partition=3,
        offset=2**33,
        key=b"7",
        value=b"{not json",
        headers=list(headers),
        timestamp=stamp or (1, WRITTEN_MS),
    )


def came_back(output: Output) -> Message:
    """Return the output as its reader gets it."""
    return Message(
        output.topic,
        partition=0,
        offset=0,
        key=output.key,
        value=output.value,
        headers=list(output.headers),
        timestamp=(1, WRITTEN_MS + 60_000),
    )


def failure() -> ValueError:
    """Return an error as it is caught: with a cause and a stack."""
    try:
        try:
            raise KeyError("sku")
        except KeyError as cause:
            raise ValueError("no such SKU: é") from cause
    except ValueError as error:
        return error


class TestAfterFailure:
    @pytest.mark.parametrize(
        ("tries", "attempts", "decision"),
        [
            (1, 2, Retry(1, 1_500)),
            (2, 2, Retry(2, 1_500)),
            (3, 2, Park()),  # The first try and two more.
            (1, 0, Park()),
            (9, 2, Park()),
        ],
    )
    def test_so_many_tries_after_the_first_then_parked(
        self, tries: int, attempts: int, decision: Retry | Park
    ) -> None:
        assert after_failure(tries, 1_000, RetryPolicy(attempts, 500)) == decision


class TestRetry:
    def test_keeps_key_value_and_headers(self) -> None:
        output = retry_output(a_record(), "retry", Retry(1, 5), "g")
        assert (output.topic, output.key, output.value) == ("retry", b"7", b"{not json")
        assert output.headers[: len(OWN)] == OWN

    def test_has_spring_s_headers_in_spring_s_types(self) -> None:
        output = retry_output(a_record(), "retry", Retry(1, WRITTEN_MS + 1_000), "g")
        assert dict(output.headers[len(OWN) :]) == {
            "kafka_original-topic": b"order.created",
            "kafka_original-partition": struct.pack(">i", 3),
            "kafka_original-offset": struct.pack(">q", 2**33),
            "kafka_original-timestamp": struct.pack(">q", WRITTEN_MS),
            "kafka_original-timestamp-type": b"CreateTime",
            "kafka_original-consumer-group": b"g",
            "retry_topic-attempts": struct.pack(">i", 1),
            "retry_topic-original-timestamp": WRITTEN_MS.to_bytes(6, "big"),
            "retry_topic-backoff-timestamp": (WRITTEN_MS + 1_000).to_bytes(6, "big"),
        }

    def test_a_second_one_keeps_the_first_origin(self) -> None:
        first = came_back(retry_output(a_record(), "retry", Retry(1, 5), "g"))
        second = retry_output(first, "retry", Retry(2, 9), "g")
        names = [name for name, _ in second.headers]
        assert len(names) == len(set(names))
        assert header(second.headers, "kafka_original-topic") == b"order.created"
        assert header(second.headers, "retry_topic-original-timestamp") == WRITTEN_MS.to_bytes(6)

    @given(st.integers(1, 10), st.integers(0, 2**45))
    def test_what_is_written_is_read_back(self, attempt: int, due: int) -> None:
        back = came_back(retry_output(a_record(), "retry", Retry(attempt, due), "g"))
        assert tries_before(back) == attempt
        assert wait_ms(back, due - 700, POLICY) == 700

    def test_a_new_record_has_no_tries_and_is_due(self) -> None:
        assert (tries_before(a_record()), wait_ms(a_record(), WRITTEN_MS, POLICY)) == (0, 0)

    @pytest.mark.parametrize(
        ("now", "left"), [(4_000, 1_000), (4_999, 1), (5_000, 0), (9_000, 0), (3_999, 0)]
    )
    def test_waits_until_it_is_due_and_never_longer_than_the_back_off(
        self, now: int, left: int
    ) -> None:
        back = came_back(retry_output(a_record(), "retry", Retry(1, 5_000), "g"))
        assert wait_ms(back, now, POLICY) == left

    @pytest.mark.parametrize("value", [b"", b"\xff" * 9, b"tomorrow morning"])
    def test_a_due_time_that_is_none_is_not_waited_for(self, value: bytes) -> None:
        strange = a_record([("retry_topic-backoff-timestamp", value)])
        assert wait_ms(strange, WRITTEN_MS, POLICY) == 0

    def test_spring_s_old_count_in_one_byte_is_read(self) -> None:
        assert tries_before(a_record([("retry_topic-attempts", b"\x02")])) == 2

    @pytest.mark.parametrize(("due", "length"), [(127, 1), (128, 2), (32_767, 2), (32_768, 3)])
    def test_a_due_time_is_as_short_as_java_s(self, due: int, length: int) -> None:
        output = retry_output(a_record(), "retry", Retry(1, due), "g")
        assert len(header(output.headers, "retry_topic-backoff-timestamp") or b"") == length


class TestDeadLetter:
    def test_is_the_record_unchanged(self) -> None:
        output = dead_letter_output(a_record(), "order.created.DLT", failure(), "g")
        assert output[:3] == ("order.created.DLT", b"7", b"{not json")
        assert output.headers[: len(OWN)] == OWN

    def test_has_spring_s_headers_in_spring_s_types(self) -> None:
        output = dead_letter_output(a_record(), "order.created.DLT", failure(), "g")
        said = dict(output.headers[len(OWN) :])
        stack = said.pop("kafka_dlt-exception-stacktrace").decode()
        assert set(said) | {"kafka_dlt-exception-stacktrace"} == DEAD_NAMES
        assert "KeyError: 'sku'" in stack
        assert stack.endswith("ValueError: no such SKU: é\n")
        assert said == {
            "kafka_dlt-original-topic": b"order.created",
            "kafka_dlt-original-partition": struct.pack(">i", 3),
            "kafka_dlt-original-offset": struct.pack(">q", 2**33),
            "kafka_dlt-original-timestamp": struct.pack(">q", WRITTEN_MS),
            "kafka_dlt-original-timestamp-type": b"CreateTime",
            "kafka_dlt-original-consumer-group": b"g",
            "kafka_dlt-exception-fqcn": b"builtins.ValueError",
            "kafka_dlt-exception-cause-fqcn": b"builtins.KeyError",
            "kafka_dlt-exception-message": "no such SKU: é".encode(),
        }

    def test_after_retries_it_tells_of_the_first_topic(self) -> None:
        retried = came_back(retry_output(a_record(), "order.created.retry", Retry(2, 5), "g"))
        output = dead_letter_output(retried, "order.created.DLT", failure(), "g")
        partition = header(output.headers, "kafka_dlt-original-partition")
        assert partition == struct.pack(">i", 3)
        assert {name for name, _ in output.headers} == DEAD_NAMES | {name for name, _ in OWN}
        offset = header(output.headers, "kafka_dlt-original-offset")
        assert offset == struct.pack(">q", 2**33)

    def test_of_one_redriven_origins_add_up_and_the_exception_is_the_last(self) -> None:
        first = dead_letter_output(a_record(), "order.created.DLT", failure(), "g")
        redriven = a_record(first.headers)
        second = dead_letter_output(redriven, "order.created.DLT", OSError("again"), "g")
        names = [name for name, _ in second.headers]
        assert names.count("kafka_dlt-original-offset") == 2
        assert names.count("kafka_dlt-exception-message") == 1
        assert header(second.headers, "kafka_dlt-exception-message") == b"again"

    def test_an_endless_stack_is_cut_at_its_front(self) -> None:
        error = ValueError("x" * 20_000 + "end")
        output = dead_letter_output(a_record(), "order.created.DLT", error, "g")
        stack = header(output.headers, "kafka_dlt-exception-stacktrace") or b""
        assert (len(stack), stack[-4:]) == (16_384, b"end\n")

    def test_a_log_append_time_is_named_so(self) -> None:
        output = dead_letter_output(a_record(stamp=(2, 5)), "order.created.DLT", failure(), "g")
        assert header(output.headers, "kafka_dlt-original-timestamp-type") == b"LogAppendTime"

    def test_a_record_without_a_timestamp_has_minus_one(self) -> None:
        output = dead_letter_output(a_record(stamp=(0, -1)), "order.created.DLT", failure(), "g")
        assert header(output.headers, "kafka_dlt-original-timestamp") == b"\xff" * 8

    def test_it_says_who_parked_it_and_why(self) -> None:
        letter = read_dead_letter(
            came_back(dead_letter_output(a_record(), "order.created.DLT", failure(), "g"))
        )
        assert (letter.group, letter.reason) == ("g", "no such SKU: é")

    def test_one_that_says_nothing_has_no_group(self) -> None:
        letter = read_dead_letter(a_record([]))
        assert (letter.group, letter.reason) == (None, "")
