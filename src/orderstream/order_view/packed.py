"""Events compressed once for everybody who takes them so, as pieces of one gzip stream.

Each piece ends in a full flush (RFC 1951): it needs nothing from before, so whoever joins gets the
stream's beginning and then the same pieces as all others. A stream of events has no end, so it has
no gzip trailer either; what a reader got until it was cut off is whole.
"""

import re
import zlib

BEGINNING = b"\x1f\x8b\x08\0\0\0\0\0\0\xff"  # RFC 1952: deflate, no name, no time, any system.
_LEVEL = 1  # A tenth is left, in 0.5 us an order; level 6 leaves two thirds of that in 1.5 us.
_REFUSED = re.compile(r"gzip\s*;\s*q=0(\.0*)?\s*(,|$)")


def pack(text: bytes) -> bytes:
    """Compress so that it can follow whatever was compressed before."""
    press = zlib.compressobj(_LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS)
    return press.compress(text) + press.flush(zlib.Z_FULL_FLUSH)


def is_taken(accept_encoding: str | None) -> bool:
    """Return whether a client takes gzip (RFC 9110, 12.5.3)."""
    accepted = (accept_encoding or "").lower()
    return "gzip" in accepted and not _REFUSED.search(accepted)
