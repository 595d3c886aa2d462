"""Pieces of a gzip stream that stand for themselves."""

import zlib
from itertools import combinations

import pytest

from orderstream.order_view.packed import BEGINNING, is_taken, pack

PIECES = [b"one\n\n", b"", b"two " * 50_000, "drei: größer\n".encode(), bytes(range(256)) * 40]


def test_a_stream_that_began_anywhere_and_left_out_any_piece_is_read_as_far_as_it_goes() -> None:
    for count in range(len(PIECES) + 1):
        for pieces in combinations(PIECES, count):
            reader = zlib.decompressobj(zlib.MAX_WBITS | 16)
            assert reader.decompress(BEGINNING) == b""
            for piece in pieces:  # Each is there at once, not with what comes behind it.
                assert reader.decompress(pack(piece)) == piece
            assert not reader.eof


@pytest.mark.parametrize(
    ("accepted", "taken"),
    [
        (None, False),
        ("", False),
        ("identity", False),
        ("gzip", True),
        ("GZip", True),
        ("gzip, deflate, br", True),
        ("br;q=1.0, gzip;q=0.8, *;q=0.1", True),
        ("gzip;q=0, identity", False),
        ("gzip; q=0.000", False),
        ("gzip;q=0.5", True),
    ],
)
def test_who_takes_gzip(accepted: str | None, taken: bool) -> None:
    assert is_taken(accepted) is taken
