"""A client of the bulk route that sends and reads as a test wants it to."""

import json
import socket
from collections.abc import Iterable
from typing import Any
from urllib.parse import urlsplit


def body_of(orders: Iterable[dict[str, Any]]) -> bytes:
    """Return orders as lines."""
    return b"".join(json.dumps(order).encode() + b"\n" for order in orders)


class Stream:
    """A bulk whose lines are sent one by one, in chunks, and answered meanwhile."""

    def __init__(self, url: str, headers: str = "") -> None:
        at = urlsplit(url)
        self._socket = socket.create_connection((at.hostname or "", at.port or 0), 20)
        head = (
            "POST /api/orders:bulk HTTP/1.1\r\nHost: localhost\r\n"
            f"Content-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n{headers}\r\n"
        )
        self._socket.sendall(head.encode())
        self._head_read = False
        self._file = self._socket.makefile("rb")
        self._lines: list[bytes] = []
        self._unsent = b""

    def __enter__(self) -> "Stream":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self._socket.close()

    def is_asked_to_send(self) -> bool:
        """Read what a client waits for that sent `Expect: 100-continue`."""
        return (self._file.readline(), self._file.readline()) == (
            b"HTTP/1.1 100 Continue\r\n",
            b"\r\n",
        )

    def send(self, piece: bytes) -> None:
        """Send a piece of the body; an empty one ends it."""
        self._socket.sendall(b"%x\r\n%b\r\n" % (len(piece), piece))

    def send_until_it_stalls(self, piece: bytes, bytes_max: int, stall_s: float) -> int:
        """Send the piece again and again until nothing is taken any more; return how many times.

        `finish_piece` sends what was not taken of the last one.
        """
        chunk = b"%x\r\n%b\r\n" % (len(piece), piece)
        self._socket.settimeout(stall_s)
        times = 0
        try:
            while times * len(piece) < bytes_max:
                self._unsent = chunk
                while self._unsent:
                    self._unsent = self._unsent[self._socket.send(self._unsent) :]
                times += 1
        except TimeoutError:
            pass
        finally:
            self._socket.settimeout(20)
        return times

    def finish_piece(self) -> bool:
        """Send the rest of a piece that stalled, while another reads; false where none did."""
        unsent, self._unsent = self._unsent, b""
        self._socket.sendall(unsent)
        return bool(unsent)

    def answer(self) -> dict[str, Any]:
        """Return the next answer, once it is there."""
        while not self._lines:
            chunk = self._chunk()
            assert chunk, "no more answers"
            self._lines = chunk.splitlines()
        return json.loads(self._lines.pop(0))

    def rest(self) -> bytes:
        """Return what comes until the answer has ended."""
        return b"".join(self._lines) + b"".join(iter(self._chunk, b""))

    def _chunk(self) -> bytes:
        if not self._head_read:
            assert b" 200 " in self._file.readline()
            while self._file.readline() != b"\r\n":
                pass
            self._head_read = True
        size = int(self._file.readline(), 16)
        chunk = self._file.read(size)
        assert self._file.readline() == b"\r\n"
        return chunk
