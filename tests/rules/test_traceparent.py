"""What counts as a W3C trace context, and what is handed on of it."""

import pytest

from orderstream.contract.envelope import context_of, is_sampled, read_traceparent

TRACE = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


class TestATraceContext:
    @pytest.mark.parametrize("said", [TRACE, TRACE[:-1] + b"0", b"cc" + TRACE[2:]])
    def test_is_handed_on_as_it_is(self, said: bytes) -> None:
        assert read_traceparent(said) == said

    def test_of_a_later_version_is_cut_to_what_is_known(self) -> None:
        assert read_traceparent(b"cc" + TRACE[2:] + b"-more") == b"cc" + TRACE[2:]

    @pytest.mark.parametrize(
        "said",
        [
            None,
            b"",
            b"00-a-b-01",
            TRACE[:-1],
            TRACE + b"\r\nx: y",
            TRACE + b"-more",
            b"cc" + TRACE[2:] + b"more",
            TRACE.upper(),
            b"ff" + TRACE[2:],
            b"00-" + b"0" * 32 + TRACE[35:],
            TRACE[:36] + b"0" * 16 + b"-01",
            TRACE.replace(b"-", b"_"),
        ],
    )
    def test_that_is_none_is_not(self, said: bytes | None) -> None:
        assert read_traceparent(said) is None

    @pytest.mark.parametrize(("flags", "sampled"), [(b"00", False), (b"01", True), (b"fe", False)])
    def test_says_whether_it_is_recorded(self, flags: bytes, sampled: bool) -> None:
        assert is_sampled(TRACE[:-2] + flags) is sampled


class TestTheContextOfARecord:
    def test_is_that_of_the_last_header(self) -> None:
        headers: list[tuple[str, bytes | None]] = [("traceparent", b"junk"), ("traceparent", TRACE)]
        assert context_of(headers) == TRACE

    def test_is_none_without_one(self) -> None:
        assert context_of(None) is context_of([("traceparent", b"junk")]) is None
