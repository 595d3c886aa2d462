"""`load`'s parts: the reader of answers, the histogram, the timetable."""

import json
import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orderstream.cli.load_histogram import VALUE_US_MAX, Histogram
from orderstream.cli.load_http import (
    HEAD_BYTES_MAX,
    Answer,
    AnswerReader,
    NotHttp,
    post_request,
    with_order_id,
)
from orderstream.cli.load_plan import Schedule

WHOLE = b'HTTP/1.1 202 Accepted\r\ncontent-length: 14\r\nlocation: /x\r\n\r\n{"orderId": 7}'
CHUNKED = (
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    b'5\r\n{"ord\r\n9;with=extension\r\nerId": 7}\r\n0\r\n\r\n'
)
INTERIM = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + WHOLE
REFUSED = b"HTTP/1.1 503 Try again\r\nRetry-After:  2 \r\nContent-Length: 0\r\n\r\n"
LAST = b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n"
ANSWERS = {
    WHOLE: Answer(202, b'{"orderId": 7}', None, False),
    CHUNKED: Answer(200, b'{"orderId": 7}', None, False),
    INTERIM: Answer(202, b'{"orderId": 7}', None, False),
    REFUSED: Answer(503, b"", 2.0, False),
    LAST: Answer(204, b"", None, True),
}
BROKEN = (
    b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
    b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 2x2 Accepted\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\n\r\nuntil the end",
    b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nTrailer: x\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nX: " + b"x" * HEAD_BYTES_MAX + b"\r\n\r\n",
)


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted(cut % len(data) for cut in cuts), len(data)]
    return [data[a:b] for a, b in pairwise(edges) if a < b]


def fed(reader: AnswerReader, parts: list[bytes]) -> Answer | None:
    """Feed an answer; only its last piece may complete it."""
    for part in parts[:-1]:
        assert reader.feed(part) is None
    return reader.feed(parts[-1])


class TestAnswerReader:
    @given(
        st.lists(
            st.tuples(
                st.sampled_from(list(ANSWERS)), st.lists(st.integers(min_value=0), max_size=8)
            ),
            min_size=1,
            max_size=4,
        )
    )
    def test_any_split_of_the_bytes_gives_the_same_answers(
        self, said: list[tuple[bytes, list[int]]]
    ) -> None:
        reader = AnswerReader()
        for data, cuts in said:
            assert fed(reader, pieces(data, cuts)) == ANSWERS[data]

    @pytest.mark.parametrize("data", list(ANSWERS))
    def test_byte_by_byte_too(self, data: bytes) -> None:
        assert fed(AnswerReader(), [bytes([byte]) for byte in data]) == ANSWERS[data]

    @pytest.mark.parametrize("data", BROKEN)
    def test_what_is_no_answer_is_said(self, data: bytes) -> None:
        with pytest.raises(NotHttp):
            AnswerReader().feed(data)

    @pytest.mark.parametrize("data", BROKEN)
    def test_in_pieces_as_in_one(self, data: bytes) -> None:
        with pytest.raises(NotHttp):
            fed(AnswerReader(), pieces(data, list(range(0, len(data), 1000))))

    def test_a_thousand_interim_answers_are_read_over(self) -> None:
        assert AnswerReader().feed(b"HTTP/1.1 102 Wait\r\n\r\n" * 2000 + WHOLE) == ANSWERS[WHOLE]

    @pytest.mark.parametrize(
        ("value", "seconds"),
        [("0", 0.0), ("5", 5.0), ("Sat, 21 Nov 2026 10:00:00 GMT", 1.0), ("-1", 1.0)],
    )
    def test_reads_retry_after_as_seconds(self, value: str, seconds: float) -> None:
        data = f"HTTP/1.1 503 No\r\nRetry-After: {value}\r\nContent-Length: 0\r\n\r\n"
        answer = AnswerReader().feed(data.encode())
        assert answer is not None
        assert answer.retry_after == seconds

    def test_a_retry_after_without_end_is_no_error(self) -> None:
        data = b"HTTP/1.1 503 No\r\nRetry-After: %b\r\nContent-Length: 0\r\n\r\n" % (b"9" * 400)
        answer = AnswerReader().feed(data)
        assert answer is not None
        assert math.isfinite(answer.retry_after or 0.0)


class TestWithOrderId:
    REQUEST = post_request("h:1", "/api/orders", b'{"userId":1,"items":[]}')

    @pytest.mark.parametrize("order_id", [7, "a b", "ü"])
    def test_the_repeat_is_the_same_order_under_this_id(self, order_id: int | str) -> None:
        repeat = with_order_id(self.REQUEST, json.dumps({"orderId": order_id}).encode())
        head, _, body = repeat.partition(b"\r\n\r\n")
        assert json.loads(body) == {"userId": 1, "items": [], "orderId": order_id}
        assert head.startswith(b"POST /api/orders HTTP/1.1\r\nHost: h:1\r\n")
        assert head.count(b"Content-Length") == 1
        assert f"Content-Length: {len(body)}".encode() in head
        assert with_order_id(repeat, json.dumps({"orderId": order_id}).encode()) == repeat

    @pytest.mark.parametrize("problem", [b"", b"{}", b"[]", b"no JSON", b'"\xff"', b'{"a":"\xff"}'])
    def test_without_one_it_is_the_same_request(self, problem: bytes) -> None:
        assert with_order_id(self.REQUEST, problem) == self.REQUEST


class TestHistogram:
    @given(
        st.lists(st.integers(-5, VALUE_US_MAX), min_size=1), st.floats(min_value=0, max_value=100)
    )
    def test_a_percentile_is_within_a_256th_of_the_exact_one(
        self, values: list[int], percent: float
    ) -> None:
        histogram = Histogram()
        for value in values:
            histogram.add(value)
        rank = max(math.ceil(len(values) * percent / 100), 1)
        exact = max(sorted(values)[rank - 1], 0)
        assert abs(histogram.percentile_us(percent) - exact) <= exact / 256
        assert histogram.max_us == max(*values, 0)
        assert histogram.count == len(values)

    def test_of_nothing_is_zero(self) -> None:
        assert set(Histogram().shown_ms().values()) == {0.0}

    def test_counts_what_is_out_of_its_range_at_its_end(self) -> None:
        histogram = Histogram()
        histogram.add(VALUE_US_MAX * 1000)
        assert histogram.percentile_us(50) == pytest.approx(VALUE_US_MAX, rel=1 / 256)


class TestSchedule:
    @given(st.floats(0.1, 1_000_000), st.integers(0, 10_000_000))
    def test_an_order_is_due_from_its_time_on_and_not_a_step_before(
        self, rate: float, number: int
    ) -> None:
        schedule = Schedule(rate)
        at = schedule.at(number)
        assert schedule.due(at + schedule.tick_s / 4) > number
        assert schedule.due(at - schedule.tick_s / 2) <= number
        assert -1e-9 <= at - number / rate <= schedule.tick_s * 1.001

    def test_nothing_is_due_before_it_begins(self) -> None:
        assert Schedule(5).due(-1.0) == 0
