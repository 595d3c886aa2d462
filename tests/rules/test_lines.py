"""A body is cut into the same lines, whatever pieces it comes in."""

from hypothesis import given
from hypothesis import strategies as st

from orderstream.orders.lines import Line, Lines, TooLong

LINE_BYTES_MAX = 8


def cut(pieces: list[bytes]) -> list[Line]:
    lines = Lines(LINE_BYTES_MAX)
    found = [line for piece in pieces for line in lines.feed(piece)]
    return found + lines.rest()


def expected(body: bytes) -> list[Line]:
    """What stands between line feeds; nothing behind the last one is no line."""
    parts = body.split(b"\n")
    if not parts[-1]:
        parts.pop()
    return [part if len(part) <= LINE_BYTES_MAX else TooLong.LINE for part in parts]


@st.composite
def pieces(draw: st.DrawFn) -> list[bytes]:
    line = st.binary(max_size=3 * LINE_BYTES_MAX).map(lambda b: b.replace(b"\n", b"\r"))
    body = b"\n".join(draw(st.lists(line, max_size=12))) + draw(st.sampled_from([b"", b"\n"]))
    ends = sorted(draw(st.lists(st.integers(0, len(body)), max_size=12)))
    return [body[a:b] for a, b in zip([0, *ends], [*ends, len(body)], strict=True)]


class TestLines:
    @given(pieces())
    def test_are_the_same_in_any_pieces(self, pieces: list[bytes]) -> None:
        assert cut(pieces) == expected(b"".join(pieces))

    def test_one_that_nothing_ends_is_a_line(self) -> None:
        assert cut([b"a\nb"]) == [b"a", b"b"]
        assert cut([b"a\nb\n"]) == [b"a", b"b"]
        assert cut([b"", b""]) == []

    def test_one_that_is_too_long_is_passed_over_and_not_kept(self) -> None:
        lines = Lines(LINE_BYTES_MAX)
        assert lines.feed(b"first\n") == [b"first"]
        for _ in range(1000):
            assert lines.feed(b"x" * 100) == []
            assert len(lines._begun) <= LINE_BYTES_MAX
        assert lines.feed(b"x\nnext\n") == [TooLong.LINE, b"next"]

    def test_the_longest_that_is_allowed_is_a_line(self) -> None:
        longest = b"x" * LINE_BYTES_MAX
        assert cut([longest + b"\n", longest, b"x"]) == [longest, TooLong.LINE]
        assert cut([b"\n".join([longest, longest + b"x", longest])]) == [
            longest,
            TooLong.LINE,
            longest,
        ]
