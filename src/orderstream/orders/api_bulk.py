"""Many orders in one request: NDJSON in, NDJSON out, one answer a line, in order, of any length.

Lines are read, placed and answered by the batch. A batch is placed by a task of its own, and a few
may be under way; the answers go out in the order that the batches came in. When so many wait, for
Kafka or for a client that does not read, nothing more is read: the client's sending comes to a
halt, and what a body takes of memory has a bound that has nothing to do with its length: a batch
has no more than what came of the body in one piece, which is some 300 KiB.
"""

import asyncio
import math
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from fastapi import APIRouter, Request, Response
from msgspec.structs import replace

from orderstream.contract.errors import Malformed
from orderstream.orders.api import PLACED_BY, answers, failure, outcome
from orderstream.orders.desk import Accepted
from orderstream.orders.desk_bulk import BulkDesk
from orderstream.orders.lines import Line, Lines, TooLong
from orderstream.orders.rules import BODY_BYTES_MAX, parse
from orderstream.orders.rules import Request as Order
from orderstream.runtime.access import caller_of
from orderstream.runtime.connection import OWN_PATIENCE
from orderstream.runtime.described import answer_of, problem_answer
from orderstream.runtime.keys import Caller, Keys
from orderstream.runtime.web import Problem, problem

PATH = "/api/orders:bulk"
NDJSON = "application/x-ndjson"
# What curl says unless it is told otherwise is taken too, and a body of no type.
MEDIA_TYPES = (
    NDJSON,
    "application/ndjson",
    "application/jsonl",
    "application/json-lines",
    "application/x-www-form-urlencoded",
    "application/octet-stream",
    "text/plain",
    "",
)
BATCH = 500  # Some 5 ms of work: what else there is to do does not wait longer.
BATCHES_EACH = 32  # That one request may have under way or unread; each came in one piece.
BATCHES_MAX = 96  # That all requests may have under way: a quarter of what fits Kafka's queue.
SILENCE_MAX_S = 60.0  # Of a client whose turn it is.

_encode = msgspec.json.Encoder().encode
_HEADERS = [
    (b"content-type", NDJSON.encode()),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
]


_Answer = tuple[int, Any, bytes]


@dataclass(frozen=True, slots=True)
class _Given:
    """Whose request it is, and what it says of all its orders."""

    caller: Caller | None
    traceparent: bytes | None


class Bulk:
    """Places the orders of whole bodies, for one event loop."""

    def __init__(self, desk: BulkDesk, keys: Keys | None = None) -> None:
        self._desk = desk
        self._keys = keys
        self._turns = asyncio.Semaphore(BATCHES_MAX)
        self._reading: set[asyncio.Task[None]] = set()
        self._placing: set[asyncio.Task[bytes]] = set()  # Held, so that none is lost.

    async def end(self) -> None:
        """Have every body read no further; what was read is answered."""
        for reading in self._reading:
            reading.cancel()

    async def serve(self, given: _Given, receive: Any, send: Any) -> None:
        """Answer one request (ASGI)."""
        answers: asyncio.Queue[asyncio.Task[bytes] | bytes | None] = asyncio.Queue()
        window = asyncio.Semaphore(BATCHES_EACH)
        reading = asyncio.create_task(self._read(given, receive, answers, window))
        self._reading.add(reading)
        reading.add_done_callback(self._reading.discard)
        try:
            batch = await answers.get()
            # Not before: a client that waits for "100 Continue" is told so by the first reading.
            await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
            while batch is not None:
                body = batch if isinstance(batch, bytes) else await asyncio.shield(batch)
                if body:
                    await send({"type": "http.response.body", "body": body, "more_body": True})
                window.release()
                batch = await answers.get()
            await send({"type": "http.response.body", "body": b""})
        finally:
            reading.cancel()

    # Reading --------------------------------------------------------------------------------

    async def _read(
        self,
        given: _Given,
        receive: Any,
        answers: asyncio.Queue[asyncio.Task[bytes] | bytes | None],
        window: asyncio.Semaphore,
    ) -> None:
        """Have the lines placed as they come; what ends it early is the last answer."""
        number = 1  # Of the next line.
        try:
            async for lines in self._batches(given.caller, receive):
                await window.acquire()
                await self._turns.acquire()
                placing = asyncio.create_task(self._place(number, lines, given))
                self._placing.add(placing)
                placing.add_done_callback(self._placed)
                answers.put_nowait(placing)
                number += len(lines)
                await asyncio.sleep(0)  # It is placed now, and others have their turn.
        except TimeoutError:
            said = f"Nothing came for {SILENCE_MAX_S:g} s: nothing was read from this line on."
            answers.put_nowait(_refusal(number, 408, "too-slow", said))
        except asyncio.CancelledError:
            said = "The service is ending: nothing was read from this line on. Send it again."
            answers.put_nowait(_refusal(number, 503, "unavailable", said))
        except Exception as error:  # noqa: BLE001 - a body that breaks off must not seem whole
            answers.put_nowait(_told(number, failure(error)))
        finally:
            answers.put_nowait(None)

    async def _batches(self, caller: Caller | None, receive: Any) -> AsyncIterator[Sequence[Line]]:
        """Yield the lines that came, a batch at most at once. Raises TimeoutError."""
        cut = Lines(BODY_BYTES_MAX)
        more = True
        while more:
            async with asyncio.timeout(SILENCE_MAX_S):
                message = await receive()
            if message["type"] == "http.disconnect":  # What came of the last line is no line.
                return
            more = message.get("more_body", False)
            lines = cut.feed(message.get("body", b""))
            if not more:
                lines += cut.rest()
            for at in range(0, len(lines), BATCH):
                batch = lines[at : at + BATCH]
                if caller is None or self._keys is None:
                    yield batch
                else:
                    async for part in _as_they_may(batch, self._keys, caller):
                        yield part

    # Placing --------------------------------------------------------------------------------

    def _placed(self, placing: asyncio.Task[bytes]) -> None:
        self._placing.discard(placing)
        self._turns.release()

    async def _place(self, first: int, lines: Sequence[Line], given: _Given) -> bytes:
        """Place a batch of lines, of which the first has this number; return their answers."""
        said: list[bytes] = []
        orders: list[Order] = []
        places: list[int] = []  # Of the orders' answers.
        caller = given.caller
        for number, line in enumerate(lines, first):
            if isinstance(line, TooLong):
                detail = f"A line may have at most {BODY_BYTES_MAX} bytes."
                said.append(_refusal(number, 413, "too-large", detail))
                continue
            try:
                order = parse(line, "line")
            except Malformed as error:
                if not _is_blank(line):
                    said.append(_told(number, failure(error)))
                continue
            places.append(len(said))
            orders.append(order if caller is None else replace(order, owner=caller.name))
            said.append(b"%d" % number)
        try:
            outcomes = await self._desk.accept_all(orders, given.traceparent)
        except Exception as error:  # noqa: BLE001 - each has its answer
            outcomes = [error] * len(orders)
        accepted = 0
        for place, result in zip(places, outcomes, strict=True):
            if isinstance(result, Accepted):
                accepted += 1
                said[place] = _accepted(said[place], result)
            else:
                answer = failure(result) if isinstance(result, Exception) else outcome(result)
                said[place] = _told(int(said[place]), answer)
        answers.add(202, accepted)
        return b"".join(said)


async def _as_they_may(
    lines: Sequence[Line], keys: Keys, caller: Caller
) -> AsyncIterator[Sequence[Line]]:
    """Yield the lines when it is their turn: a key that may place no more a second waits."""
    begin = 0
    for at, line in enumerate(lines):
        while not _is_blank(line) and (wait_s := keys.wait_s(caller)):
            if begin < at:
                yield lines[begin:at]
                begin = at
            await asyncio.sleep(wait_s)
    yield lines[begin:]


def _is_blank(line: Line) -> bool:
    return not isinstance(line, TooLong) and (not line or line.isspace())


# Answers -----------------------------------------------------------------------------------


def _accepted(number: bytes, result: Accepted) -> bytes:
    more = b',"replayed":true}\n' if result.replayed else b"}\n"
    return b'{"line":%b,"status":202,"orderId":%b,"orderStatus":"PENDING"%b' % (
        number,
        _encode(result.order_id),
        more,
    )


def _told(number: int, answer: _Answer) -> bytes:
    """Return the answer that a POST of the line would have had, a problem document."""
    status, _, body = answer
    answers.add(status)
    return b'{"line":%d,%b\n' % (number, body[1:])


def _refusal(number: int, status: int, kind: str, detail: str) -> bytes:
    return _told(number, (status, None, problem(status, kind, detail)))


# The route ---------------------------------------------------------------------------------


class _Answers(Response):
    """The answers to a body that is read while they are sent."""

    def __init__(self, bulk: Bulk, given: _Given) -> None:
        super().__init__()
        self._bulk = bulk
        self._given = given

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Send them (ASGI)."""
        scope["body_bytes_max"] = math.inf
        scope[OWN_PATIENCE] = True
        await self._bulk.serve(self._given, receive, send)


def bulk_routes(bulk: Bulk) -> APIRouter:
    """POST orders, any number of them."""
    routes = APIRouter(tags=["orders"])

    @routes.post(
        PATH,
        summary="Place any number of orders, one a line",
        description=_DESCRIPTION,
        response_class=Response,
        responses=_RESPONSES,
        openapi_extra=_DESCRIBED | {"x-roles": list(PLACED_BY)},
    )
    async def place_orders(request: Request) -> Response:  # pyright: ignore[reportUnusedFunction]
        headers = request.headers
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind not in MEDIA_TYPES:
            said = f"Send orders as {NDJSON}, one JSON object a line; not as {kind}."
            raise Problem(415, "unsupported-media-type", said)
        if headers.get("content-encoding", "identity").lower() != "identity":
            raise Problem(415, "unsupported-media-type", "Send the lines as they are, not packed.")
        if "idempotency-key" in headers:
            said = "An Idempotency-Key stands for one order: give each line an orderId instead."
            raise Problem(400, "invalid-key", said, field="Idempotency-Key")
        traceparent = headers.get("traceparent")
        given = _Given(
            caller_of(request), None if traceparent is None else traceparent.encode("latin-1")
        )
        return _Answers(bulk, given)

    return routes


_EXAMPLE = """\
{"userId":42,"items":[{"sku":"ABC-001","qty":2}]}
{"orderId":"1001","productId":"P-1","quantity":2}
{"order_id":"1002","user_id":"u1","item":"laptop","quantity":1}
"""
_DESCRIPTION = (
    "Each line is an order as `POST /api/orders` takes it, and is answered by a line, in the same"
    " sequence, while others are still being sent: `line` is its number, `status` what a POST of it"
    " would have been answered. An accepted one has its `orderId`, `orderStatus` PENDING, and"
    " `replayed` where it had been accepted before; any other is a problem document. Blank lines"
    " are counted and not answered."
)
_DESCRIBED: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {NDJSON: {"schema": {"type": "string"}, "example": _EXAMPLE}},
    }
}
_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: answer_of(NDJSON, "One answer a line; what became of each order is in it"),
    400: problem_answer("With an `Idempotency-Key`: it stands for one order"),
    415: problem_answer("Not NDJSON, or packed"),
}
