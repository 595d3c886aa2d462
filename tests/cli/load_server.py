"""A server of the test's own for `load`: real TCP, answers as bytes, written down by the test."""

import asyncio
import json
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

from tests.stream_server import served


@dataclass(frozen=True)
class Reply:
    """Bytes to send after so long; then the connection ends, if it is to. No bytes: no answer."""

    data: bytes = b""
    after_s: float = 0.0
    end: bool = False


@dataclass(frozen=True)
class Seen:
    """One request, as it came."""

    number: int  # Of the request, counted from 0 over all connections.
    at: float  # perf_counter
    line: str
    order: dict[str, Any]


def answer(status: int, body: object = None, *headers: str, **how: Any) -> Reply:
    """Return an answer of HTTP/1.1."""
    text = b"" if body is None else json.dumps(body).encode()
    lines = [f"HTTP/1.1 {status} Whatever", f"Content-Length: {len(text)}", *headers, "", ""]
    return Reply("\r\n".join(lines).encode() + text, **how)


def accepted(seen: Seen) -> Reply:
    """Accept an order."""
    return answer(202, {"orderId": seen.number, "status": "PENDING"})


def try_again(after_s: int = 0, **problem: object) -> Reply:
    """Say that it has to be sent again."""
    return answer(503, {"detail": "not now", **problem}, f"Retry-After: {after_s}")


@dataclass
class Server:
    """Where it listens, and what it was sent."""

    port: int
    seen: list[Seen] = field(default_factory=list[Seen])

    @property
    def url(self) -> str:
        """The address for `--url`."""
        return f"http://127.0.0.1:{self.port}"


Script = Callable[[Seen], Reply]


@contextmanager
def server(script: Script = accepted) -> Generator[Server]:
    """Serve by this script, in a thread, until the end of the block."""
    running = Server(0)

    async def on_connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while not (await _answered(reader, writer, running, script)).end:
                pass
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # The client has gone.
        finally:
            writer.transport.abort()

    with served(on_connection) as running.port:
        yield running


async def _answered(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, running: Server, script: Script
) -> Reply:
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    fields = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:-2])
    body = await reader.readexactly(int(fields["content-length"]))
    seen = Seen(len(running.seen), perf_counter(), head.split("\r\n")[0], json.loads(body))
    running.seen.append(seen)
    reply = script(seen)
    if reply.after_s:
        await asyncio.sleep(reply.after_s)  # The slowness that the test is about.
    writer.write(reply.data)
    await writer.drain()
    if reply.end:
        writer.close()
        await writer.wait_closed()
    return reply
