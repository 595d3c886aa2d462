"""Orders over HTTP. No framework stands between a client's POST and Kafka.

It is the hot path: FastAPI's own route costs five times as much (design.md section 6), and ASGI
as much again as the rest (docs/performance.md). Everything else about the service is FastAPI,
this route's place in /docs included.
"""

from __future__ import annotations  # Else each call of a function makes its inner ones' types.

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from math import ceil
from typing import Any
from urllib.parse import quote

import msgspec
import structlog
from fastapi import FastAPI
from msgspec.structs import replace
from prometheus_client.core import REGISTRY, CounterMetricFamily
from prometheus_client.registry import Collector

from orderstream.contract.errors import Malformed, Unavailable
from orderstream.orders.desk import Accepted, Conflict, Desk, Gone, Unknown
from orderstream.orders.rules import (
    BODY_BYTES_MAX,
    IDEMPOTENCY_KEY_LENGTH_MAX,
    NotJson,
    OrderOfItem,
    OrderOfProduct,
    OrderWithItems,
    Request,
    idempotency_key_fault,
    parse,
)
from orderstream.runtime.clock import monotonic
from orderstream.runtime.described import problem_answer
from orderstream.runtime.direct import Answer, DirectRoute, Headers
from orderstream.runtime.keys import Caller, Keys
from orderstream.runtime.timings import TIMINGS
from orderstream.runtime.web import (
    PROBLEM_JSON,
    RETRY_AFTER_S,
    UNAUTHORIZED,
    forbidden,
    foreign_fault,
    problem,
)

PATHS = ("/api/orders", "/orders")
WAIT_MAX_S = 30.0
BODY_TIMEOUT_S = 10.0
PLACED_BY = ("client", "operator")

WaitDecided = Callable[[str, float], Awaitable[dict[str, Any] | None]]
_Answer = tuple[int, bytes, bytes]  # The status, the lines of the headers and the body.

log = structlog.get_logger("orderstream.orders")

_encode = msgspec.json.Encoder().encode
_JSON = b"content-type: application/json\r\n"
_PROBLEM = b"content-type: %s\r\n" % PROBLEM_JSON.encode()
_TRY_AGAIN = b"%sretry-after: %d\r\n" % (_PROBLEM, RETRY_AFTER_S)


class Answers(Collector):
    """Counts POSTed orders by answer, for one event loop: without a lock and labels for each."""

    def __init__(self) -> None:
        self._by_status: Counter[int] = Counter()

    def add(self, status: int, orders: int = 1) -> None:
        """Count orders that were answered so."""
        self._by_status[status] += orders

    def collect(self) -> Iterator[CounterMetricFamily]:
        """Give the numbers to Prometheus."""
        family = CounterMetricFamily(
            "orderstream_orders", "POSTed orders by answer", labels=["status"]
        )
        for status, orders in self._by_status.copy().items():
            family.add_metric([str(status)], orders)
        yield family


answers = Answers()
REGISTRY.register(answers)


class _TooLarge(Exception):
    pass


class _BadKey(Exception):
    pass


class OrdersApi:
    """The whole order service: POST here, everything else in the FastAPI app behind it.

    It is an ASGI app, which any server can run; ours hands a POST over by `direct`, without ASGI.
    """

    def __init__(
        self,
        app: FastAPI,
        desk: Desk,
        wait_decided: WaitDecided,
        in_flight_max: int,
        keys: Keys | None = None,
    ) -> None:
        self._app = app
        self._keys = keys
        self._desk = desk
        self._wait_decided = wait_decided
        self._in_flight_max = in_flight_max
        self._in_flight = 0
        self._placing: set[asyncio.Task[None]] = set()  # Held, so that none is lost.
        self.direct = DirectRoute(
            PATHS[0],
            frozenset(path.encode() for path in PATHS),
            self.place,
            BODY_BYTES_MAX,
            BODY_TIMEOUT_S,
            lambda answer: _answer(answer, _too_large()),
        )
        _document(app)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one request (ASGI)."""
        if scope["type"] != "http" or scope["method"] != "POST" or scope["path"] not in PATHS:
            await self._app(scope, receive, send)
            return
        began = monotonic()
        answered: asyncio.Future[_Answer] = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(BODY_TIMEOUT_S):
                body = await _body(receive)
        except _TooLarge:
            answered.set_result(_too_large())
        except TimeoutError:
            answered.set_result(_too_slow())
        except NotJson as error:
            answered.set_result(failure(error))
        else:

            def answer(status: int, lines: bytes, body: bytes) -> None:
                answered.set_result((status, lines, body))

            self.place(dict(scope["headers"]), body, answer)
        status, lines, body = await answered
        TIMINGS.observe("POST", PATHS[0], status, monotonic() - began)
        headers = [tuple(line.split(b": ", 1)) for line in lines.splitlines()]
        headers.append((b"content-length", b"%d" % len(body)))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    def place(self, headers: Headers, body: bytes, answer: Answer) -> None:
        """Place one order and answer once: at once what is refused, later what is accepted."""
        try:
            refusal = self._place(headers, body, answer)
        except Exception as error:  # noqa: BLE001 - each has its answer
            refusal = failure(error)
        if refusal is not None:
            _answer(answer, refusal)

    def _place(self, headers: Headers, body: bytes, answer: Answer) -> _Answer | None:
        """Return a refusal; None when the order is on its way."""
        keys, caller = self._keys, None
        if fault := foreign_fault(
            headers.get(b"host"), headers.get(b"origin"), keyed=keys is not None
        ):
            return _refused(403, "foreign", fault)
        if keys is not None:
            caller = keys.caller(headers.items())
            if refusal := _refusal(keys, caller):
                return refusal
        key = _idempotency_key(headers.get(b"idempotency-key"))
        if self._in_flight >= self._in_flight_max:
            return _refused(503, "overloaded", "Too many orders at once; try again shortly.")
        order = parse(body)
        if caller is not None:
            order = replace(order, owner=caller.name)
        traceparent = headers.get(b"traceparent")
        prefer = headers.get(b"prefer")

        def settled(result: Accepted | BaseException) -> None:
            self._in_flight -= 1
            _answer(
                answer,
                _accepted(result) if isinstance(result, Accepted) else failure(result),
            )

        if key is prefer is None and self._desk.accept_now(order, traceparent, settled):
            self._in_flight += 1
            return None
        self._in_flight += 1
        task = asyncio.ensure_future(self._place_slowly(order, key, traceparent, prefer, answer))
        self._placing.add(task)
        task.add_done_callback(self._placing.discard)
        return None

    async def _place_slowly(
        self,
        order: Request,
        key: str | None,
        traceparent: bytes | None,
        prefer: bytes | None,
        answer: Answer,
    ) -> None:
        """Place an order that something has to be asked for first, or waited for afterwards."""
        try:
            try:
                result = await self._desk.accept(order, key, traceparent)
            finally:
                self._in_flight -= 1
            said = outcome(result)
            if isinstance(result, Accepted) and (seconds := wait_seconds(prefer)) is not None:
                page = await self._wait_decided(str(result.order_id), seconds)
                if page is not None:
                    said = 200, _JSON + _location(result.order_id), _encode(page)
        except Exception as error:  # noqa: BLE001 - each has its answer
            said = failure(error)
        _answer(answer, said)


def _answer(answer: Answer, said: _Answer) -> None:
    answers.add(said[0])
    answer(*said)


def _idempotency_key(given: bytes | None) -> str | None:
    if given is None:
        return None
    key = given.decode("latin-1")
    if fault := idempotency_key_fault(key):
        raise _BadKey(f"Idempotency-Key {fault}")
    return key


def outcome(result: Accepted | Conflict | Gone) -> _Answer:
    """Return the answer to a POST of which this became."""
    if isinstance(result, Accepted):
        return _accepted(result)
    if isinstance(result, Conflict):
        status = 422 if result.name == "Idempotency-Key" else 409
        return _refused(status, "conflict", result.message, field=result.name)
    said = f"Nothing is left of {', '.join(result.skus)}: the order was not accepted."
    return _refused(409, "out-of-stock", said, short=result.skus)


def _accepted(result: Accepted) -> _Answer:
    lines = _JSON + _location(result.order_id)
    if result.replayed:
        lines += b"idempotent-replayed: true\r\n"
    return 202, lines, _encode({"orderId": result.order_id, "status": "PENDING"})


def failure(error: BaseException) -> _Answer:
    """Return the answer to a POST that ended in an error."""
    match error:
        case _BadKey():
            return _refused(400, "invalid-key", str(error), field="Idempotency-Key")
        case NotJson():
            return _refused(400, "not-json", str(error))
        case Malformed():
            return _refused(422, "invalid-order", str(error), field=error.field)
        case Unknown():
            said = f"{error}. Whether the order was accepted is unknown. {error.todo}"
            return _refused(503, "outcome-unknown", said, orderId=error.order_id)
        case Unavailable():
            return _refused(503, "unavailable", f"The order was not accepted: {error}")
        case _:
            log.error("an order could not be placed", exc_info=error)
            return _refused(500, "internal", "Something went wrong here; it is in the log.")


def _refusal(keys: Keys, caller: Caller | None) -> _Answer | None:
    """Return why the caller may not place an order now, or None: then it has taken its turn."""
    if caller is None:
        status, lines, body = _refused(401, "unauthorized", UNAUTHORIZED)
        return status, lines + b"www-authenticate: Bearer\r\n", body
    if caller.role not in PLACED_BY:
        return _refused(403, "forbidden", forbidden(caller.role, PLACED_BY))
    if wait_s := keys.wait_s(caller):
        said = "More orders a second than this key may place; send it again when Retry-After says."
        status, lines, body = _refused(429, "rate-limited", said)
        return status, lines + b"retry-after: %d\r\n" % ceil(wait_s), body
    return None


async def _body(receive: Any) -> bytes:
    message = await receive()
    body: bytes = message.get("body", b"")
    while message.get("more_body"):
        if len(body) > BODY_BYTES_MAX:
            raise _TooLarge
        message = await receive()
        if message["type"] == "http.disconnect":  # What came may well read as an order.
            raise NotJson("the body is not whole: the connection ended in the middle of it")
        body += message.get("body", b"")
    if len(body) > BODY_BYTES_MAX:
        raise _TooLarge
    return body


def wait_seconds(prefer: bytes | None) -> float | None:
    """Return how long a `Prefer: wait=5` is willing to wait (RFC 7240), at most 30 s."""
    for part in (prefer or b"").split(b","):
        name, _, value = part.partition(b";")[0].partition(b"=")
        if name.strip().lower() == b"wait" and value.strip().isdigit():
            return min(float(value), WAIT_MAX_S)
    return None


def _location(order_id: int | str) -> bytes:
    if isinstance(order_id, int):
        return b"location: /api/orders/%d\r\n" % order_id
    return f"location: /api/orders/{quote(order_id, safe='')}\r\n".encode()


def _too_slow() -> _Answer:
    status, lines, body = _refused(
        408, "too-slow", f"An order must be sent within {BODY_TIMEOUT_S:g} s."
    )
    return status, lines + b"connection: close\r\n", body


def _too_large() -> _Answer:
    return _refused(413, "too-large", f"An order may have at most {BODY_BYTES_MAX} bytes.")


def _refused(status: int, kind: str, detail: str, **more: object) -> _Answer:
    lines = _TRY_AGAIN if status == 503 else _PROBLEM
    return status, lines, problem(status, kind, detail, **more)


def _document(app: FastAPI) -> None:
    """Add the POST to the OpenAPI document, from the types of the three shapes."""
    shapes = (OrderWithItems, OrderOfProduct, OrderOfItem)
    references, schemas = msgspec.json.schema_components(
        shapes, ref_template="#/components/schemas/{name}"
    )
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        document = generate()
        document.setdefault("components", {}).setdefault("schemas", {}).update(schemas)
        document["paths"].setdefault(PATHS[0], {})["post"] = _operation(list(references))
        return document

    app.openapi = openapi


_EXAMPLES: dict[str, Any] = {
    "items": {
        "summary": "Any number of goods; the order gets a number",
        "value": {"userId": 42, "items": [{"sku": "ABC-001", "qty": 2}]},
    },
    "product": {
        "summary": "One product, and an id of your own",
        "value": {"orderId": "1001", "productId": "P-1", "quantity": 2},
    },
    "item": {
        "summary": "One item, and an id of your own",
        "value": {"order_id": "1002", "user_id": "u1", "item": "laptop", "quantity": 1},
    },
}


def _operation(references: list[dict[str, Any]]) -> dict[str, Any]:
    def accepted(description: str) -> dict[str, Any]:
        schema = {"type": "object", "required": ["orderId", "status"]}
        return {"description": description, "content": {"application/json": {"schema": schema}}}

    def header(name: str, description: str, **more: object) -> dict[str, Any]:
        schema = {"type": "string"} | more
        return {"name": name, "in": "header", "description": description, "schema": schema}

    return {
        "tags": ["orders"],
        "summary": "Place an order, in any of three shapes",
        "description": "Answered once Kafka has the order on every in-sync replica.",
        "operationId": "place_order",
        "parameters": [
            header(
                "Idempotency-Key",
                "Same key and same order: one order, the same answer.",
                minLength=1,
                maxLength=IDEMPOTENCY_KEY_LENGTH_MAX,
            ),
            header("Prefer", "`wait=5`: wait up to so many seconds for the decision."),
        ],
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {"schema": {"oneOf": references}, "examples": _EXAMPLES}
            },
        },
        "responses": {
            "200": accepted("Decided while you waited: the order's page"),
            "202": accepted("Accepted; the decision follows"),
            "400": problem_answer("Not JSON"),
            "401": problem_answer("No API key, where one is needed"),
            "403": problem_answer(
                "Sent by a web page that is not this service's own, or a viewer's key"
            ),
            "408": problem_answer(f"Not sent within {BODY_TIMEOUT_S:g} s"),
            "409": problem_answer("The order id stands for another order, or the goods are gone"),
            "413": problem_answer("Larger than 1 MiB"),
            "422": problem_answer("Not an order, or the key came with another order"),
            "429": problem_answer("More than this API key may place in a second"),
            "503": problem_answer("Not accepted, or not known to be: try again"),
        },
    }
