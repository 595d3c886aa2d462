"""The process that reads the log for the feed, and what it says to the order service.

At 10,000 orders/s writing every event down for people costs as much as taking the orders. So it is
done elsewhere and at the lowest urgency: on a machine that has nothing else to do at once, on a
busy one later. Nothing is lost by that: what was not read yet stands in the log.
"""

import asyncio
import os
import struct
import sys
import threading
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from typing import BinaryIO

import msgspec

from orderstream.contract.errors import Malformed
from orderstream.local.processes import stand_back
from orderstream.order_view.feed import Frame, ReadFrames
from orderstream.order_view.last_id import decode_positions, encode_positions
from orderstream.order_view.packed import pack
from orderstream.order_view.rules import Failed, Seen
from orderstream.order_view.timeline import shown
from orderstream.runtime.stage import Decoder, Positions, Record

FRAME_BYTES = 1 << 20  # A usual one under load; it may be larger.
_HEAD = struct.Struct("!III")  # The sizes of the id, the events and these packed; they follow.

Follow = Callable[
    [Positions | None, Positions | None], Iterable[tuple[Positions, Sequence[Record]]]
]


# In the process ----------------------------------------------------------------------------


def write_frames(
    reads: Mapping[str, Decoder], follow: Follow, begins: str | None, ends: str | None
) -> None:
    """Write frames to stdout until the end is reached, or whoever started us is there no more.

    `reads` are the view's decoders by topic; `follow` gives where it is and what came. Raises
    Malformed for an id that no service of ours wrote, Unavailable.
    """
    stand_back()
    out = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # Where log lines go from now on.
    threading.Thread(target=_end_with_stdin, daemon=True).start()
    topics = list(reads)
    first, last = (
        None if text is None else decode_positions(text, topics) for text in (begins, ends)
    )
    for at, records in follow(first, last):
        last_id = encode_positions(at, topics)
        events = events_of(reads, records, last_id)
        _write(out, Frame(last_id, events, pack(events) if events else b""))
    if ends is not None:
        _write(out, Frame(ends.encode(), b""))  # Only now is it known that nothing is missing.


def events_of(reads: Mapping[str, Decoder], records: Sequence[Record], last_id: bytes) -> bytes:
    """Write records as server-sent events; the last has the id, which stands for all before."""
    written: list[bytes] = []
    for record in records:
        try:
            seen: Seen = reads[record.topic() or ""](record)
        except Malformed:
            continue  # The view passes over it too.
        written.append(event_of(_id_of(seen), shown(seen)))
    return b"".join((*written[:-1], b"id: %s\n" % last_id, written[-1])) if written else b""


def event_of(order_id: int | str, entry: dict[str, object]) -> bytes:
    """Write one event; an id may be put before it."""
    data = msgspec.json.encode({"orderId": order_id} | entry)
    return b"event: %s\ndata: %s\n\n" % (str(entry["type"]).encode(), data)


def _id_of(seen: Seen) -> int | str:
    return seen.event.key if isinstance(seen.event, Failed) else seen.event.order_id


def _write(out: BinaryIO, frame: Frame) -> None:
    parts = frame.last_id, frame.events, frame.packed
    out.write(_HEAD.pack(*map(len, parts)) + b"".join(parts))
    out.flush()


def _end_with_stdin() -> None:
    while os.read(sys.stdin.fileno(), 4096):
        pass
    os._exit(0)  # Nothing is held that would have to be given back.


# In the order service ----------------------------------------------------------------------


def frames_of(command: Sequence[str]) -> ReadFrames:
    """Return what reads frames from a process: the command, and from where to where."""

    async def read(begins: str | None, ends: str | None) -> AsyncGenerator[Frame]:
        process = await asyncio.create_subprocess_exec(
            *command,
            *(f"--{name}={place}" for name, place in (("begins", begins), ("ends", ends)) if place),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=FRAME_BYTES,
            start_new_session=True,
        )
        assert process.stdout is not None
        try:
            while True:
                sizes = _HEAD.unpack(await process.stdout.readexactly(_HEAD.size))
                parts = [await process.stdout.readexactly(size) for size in sizes]
                yield Frame(*parts)
        except asyncio.IncompleteReadError:
            return  # It has said all, or why not, on stderr.
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()

    return read
