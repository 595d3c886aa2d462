"""What every service's web app has: health, metrics, problem documents."""

import csv
import io
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Mapping,
    Sequence,
)
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import lru_cache
from ipaddress import ip_address
from types import MappingProxyType
from typing import Annotated, Any, Protocol
from urllib.parse import parse_qsl

import msgspec
from fastapi import Depends, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, generate_latest
from prometheus_client.registry import Collector
from pydantic import AfterValidator
from pydantic_core import PydanticCustomError
from starlette.exceptions import HTTPException
from starlette.responses import PlainTextResponse, StreamingResponse

from orderstream import __version__
from orderstream.contract.errors import Malformed, OutcomeUnknown, Unavailable
from orderstream.contract.values import has_control_characters
from orderstream.runtime.access import caller_of, roles_of
from orderstream.runtime.described import PROBLEM_JSON, REFUSALS, answer_of, describe_problems
from orderstream.runtime.keys import Caller, Headers
from orderstream.runtime.observe import Check, readiness
from orderstream.runtime.timings import TIMINGS, Timed

RETRY_AFTER_S = 1
BODY_BYTES_MAX = 64 << 10  # Of a route that does not ask for more.
YEARS = range(1970, 9999)
UNAUTHORIZED = "Send an API key of this service: `Authorization: Bearer KEY` or `X-API-Key: KEY`."

ASGIApp = Callable[[Any, Any, Any], Awaitable[None]]

TITLES = {
    400: "Bad request",
    401: "Not signed in",
    403: "Forbidden",
    404: "Not found",
    405: "Method not allowed",
    408: "Too slow",
    409: "Conflict",
    413: "Too large",
    415: "Unsupported media type",
    422: "Not acceptable as it is",
    429: "Too many",
    431: "Headers too large",
    500: "Internal error",
    503: "Try again",
}


def problem(status: int, kind: str, detail: str, **more: object) -> bytes:
    """Return an RFC 9457 problem document; `kind` names the problem for programs.

    `detail` is a sentence that a person can act on; `more` are extension members, such as the
    `field` of bad input.
    """
    document = {
        "type": f"urn:orderstream:problem:{kind}",
        "title": TITLES.get(status, "Error"),
        "status": status,
        "detail": detail,
        **{name: value for name, value in more.items() if value not in (None, "")},
    }
    return msgspec.json.encode(document)


def problem_response(status: int, kind: str, detail: str, **more: object) -> Response:
    """Return a problem document as a response; one with status 503 says when to try again."""
    headers = {"retry-after": str(RETRY_AFTER_S)} if status == 503 else None
    if status == 401:
        headers = {"www-authenticate": "Bearer"}
    return Response(problem(status, kind, detail, **more), status, headers, PROBLEM_JSON)


class Problem(Exception):
    """Ends a request with a problem document."""

    def __init__(self, status: int, kind: str, detail: str, **more: object) -> None:
        super().__init__(detail)
        self.response = problem_response(status, kind, detail, **more)


def json_response(value: object, status: int = 200) -> Response:
    """Return any value as JSON."""
    return Response(msgspec.json.encode(value), status, media_type="application/json")


async def event_stream(
    events: AsyncIterator[bytes], headers: Mapping[str, str] = MappingProxyType({})
) -> StreamingResponse:
    """Answer with server-sent events; what is wrong at their beginning is a problem document."""
    try:
        first = await anext(events)
    except Malformed as error:
        raise Problem(422, "invalid-request", str(error), field=error.field) from None

    async def whole() -> AsyncIterator[Any]:
        yield first
        async for part in events:
            yield part

    headers = {"cache-control": "no-store", "x-accel-buffering": "no", **headers}
    return StreamingResponse(whole(), media_type="text/event-stream", headers=headers)


CSV = "text/csv"
_FORMULA = tuple("=+-@\t\r")  # What makes a spreadsheet compute a cell instead of showing it.


def csv_response(names: Sequence[str], rows: Iterable[Mapping[str, object]]) -> Response:
    """Return rows as CSV under these names; text that begins like a formula gets a quote."""
    lines = [csv_line(names), *(csv_line([row.get(name) for name in names]) for row in rows)]
    return Response(b"".join(lines), media_type=CSV)


def csv_line(cells: Iterable[object]) -> bytes:
    """Write a line of CSV, in which no client's text is a formula (OWASP: CSV injection)."""
    line = io.StringIO()
    csv.writer(line).writerow([_harmless(cell) for cell in cells])
    return line.getvalue().encode()


def _harmless(cell: object) -> object:
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(_FORMULA) else cell


def _of_known_years(at: datetime) -> datetime:
    if at.year not in YEARS:
        raise PydanticCustomError(
            "time_range",
            "must be in the years {first} to {last}",
            {"first": YEARS[0], "last": YEARS[-1]},
        )
    return at


def _in_utc(at: datetime) -> datetime:
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at


# A time that a client sends: a day more or less never overflows. Without a zone it is UTC, or
# that of a place that the request names.
LocalTime = Annotated[datetime, AfterValidator(_of_known_years)]
Time = Annotated[LocalTime, AfterValidator(_in_utc)]


def foreign_fault(host: bytes | None, origin: bytes | None, *, keyed: bool = False) -> str | None:
    """Say why a request is none of ours, or None: that of a web page that is not our own.

    Nobody signs in on loopback, so a page that a person has open must not act for them: its
    requests have its `Origin`, and those of a name that its owner points at this machine (DNS
    rebinding) have that name as their `Host`. No address and no `localhost` can be pointed.
    Where keys are needed (`keyed`) any name will do: no page has one.
    """
    if host is not None and not keyed and not _is_this_machine(host):
        return f"Ask for 127.0.0.1 or localhost, not for {host.decode('latin-1')}."
    if origin is not None and origin.partition(b"://")[2] != host:
        return f"Pages of {origin.decode('latin-1')} may not use this service."
    return None


@lru_cache(maxsize=256)
def _is_this_machine(host: bytes) -> bool:
    name = host.decode("latin-1").lower()
    name = name[1:].partition("]")[0] if name.startswith("[") else name.partition(":")[0]
    if name == "localhost":
        return True
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


class Callers(Protocol):
    """Knows who a request comes from, and which paths are for everybody."""

    def caller(self, headers: Headers) -> Caller | None:
        """Return who it is, or None for nobody who may do anything."""
        ...

    def is_open(self, path: str) -> bool:
        """Return whether a path is for everybody."""
        ...


class _Gate:
    """Refuses what no route should see: strangers, control characters, endless bodies."""

    def __init__(self, app: ASGIApp, keys: Callers | None = None) -> None:
        self._app = app
        self._keys = keys

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        host, origin, keys = headers.get(b"host"), headers.get(b"origin"), self._keys
        caller = None
        shut = keys is not None and not keys.is_open(scope["path"])
        if keys is not None and shut:
            caller = keys.caller(scope["headers"])
        if fault := foreign_fault(host, origin, keyed=keys is not None):
            refusal = problem_response(403, "foreign", fault)
        elif shut and caller is None:
            refusal = problem_response(401, "unauthorized", UNAUTHORIZED)
        elif field := _field_with_control_characters(scope):
            said = f"The {field} must not contain control characters."
            refusal = problem_response(422, "invalid-request", said, field=field)
        else:
            scope["caller"] = caller
            bounded = _bounded(scope, receive, int(headers.get(b"content-length", b"0")))
            await self._app(scope, bounded, send)
            return
        await refusal(scope, receive, send)


async def _authorised(request: Request) -> None:
    """Refuse a route to a role that may not use it."""
    caller, route = caller_of(request), request.scope["route"]
    if caller is not None and caller.role not in (roles := roles_of(route)):
        raise Problem(403, "forbidden", forbidden(caller.role, roles))


def forbidden(role: str, roles: Sequence[str]) -> str:
    """Say that a role may not do this, and which may."""
    return f"A key with the role {role} may not do this; it takes {' or '.join(roles)}."


def _field_with_control_characters(scope: Any) -> str | None:
    if has_control_characters(scope["path"]):
        return "path"
    for name, value in parse_qsl(scope["query_string"].decode("latin-1")):
        if has_control_characters(name):
            return "query"
        if has_control_characters(value):
            return name
    return None


def _bounded(scope: Any, receive: Any, announced: int) -> Callable[[], Awaitable[Any]]:
    """Stop a body at the route's limit, before it is read where its length is known."""
    scope["body_bytes_max"] = BODY_BYTES_MAX
    seen = 0

    async def bounded() -> Any:
        nonlocal seen
        bytes_max = scope["body_bytes_max"]
        if announced <= bytes_max:
            message = await receive()
            seen += len(message.get("body", b""))
            if seen <= bytes_max:
                return message
        raise HTTPException(413, f"the body may have at most {bytes_max} bytes")

    return bounded


async def read_body(request: Request, bytes_max: int) -> bytes:
    """Return the body of a route whose limit is not BODY_BYTES_MAX."""
    request.scope["body_bytes_max"] = bytes_max
    return await request.body()


def web_app(
    title: str,
    checks: Mapping[str, Check],
    *,
    keys: Callers | None = None,
    hints: Mapping[str, Check] | None = None,
    on_start: Callable[[], Awaitable[None]] | None = None,
    on_stop: Callable[[], Awaitable[None]] | None = None,
    docs: bool = True,
    metrics_of: Sequence[Collector] = (),
) -> FastAPI:
    """Return an app with /healthz, /readyz, /metrics, /docs and errors as problem documents.

    `hints` are checks of what the service does without: reported, and no reason not to be ready.
    With `keys` every other route takes one, of a role that may use it (runtime/access.py). /docs
    loads its scripts from elsewhere: no `docs` where a browser is signed in. `metrics_of` tell more
    than what the process counts.
    """

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncGenerator[None]:
        if on_start:
            await on_start()
        yield
        if on_stop:
            await on_stop()

    app = FastAPI(
        title=title,
        version=__version__,
        lifespan=lifespan,
        docs_url="/docs" if docs else None,
        redoc_url=None,
        dependencies=[Depends(_authorised)] if keys else [],
        responses=REFUSALS,
        telemetry={
            "tracing": False
        },  # Ours are the spans (traced.py), not for each look at health.
    )
    describe_problems(app)
    app.add_middleware(_Gate, keys=keys)
    app.add_middleware(Timed)
    own = CollectorRegistry(auto_describe=False)
    for collector in (TIMINGS, *metrics_of):
        own.register(collector)

    @app.get("/healthz", tags=["health"], summary="Alive")
    async def healthz() -> Response:  # pyright: ignore[reportUnusedFunction]
        return json_response({"status": "alive"})

    @app.get("/readyz", tags=["health"], summary="Able to work; 503 with the reason if not")
    def readyz() -> Response:  # pyright: ignore[reportUnusedFunction]
        faults = readiness(checks)
        if faults:
            said = "; ".join(f"{name}: {fault}" for name, fault in faults.items())
            return problem_response(503, "not-ready", said, faults=faults)
        without = readiness(hints or {})
        return json_response({"status": "ready", **({"without": without} if without else {})})

    @app.get(
        "/metrics",
        tags=["health"],
        summary="Metrics for Prometheus",
        response_class=PlainTextResponse,
        responses={200: answer_of("text/plain", "Prometheus' text format")},
    )
    def metrics() -> Response:  # pyright: ignore[reportUnusedFunction]
        said = generate_latest(REGISTRY) + generate_latest(own)
        return Response(said, media_type=CONTENT_TYPE_LATEST)

    @app.exception_handler(Problem)
    async def on_problem(_request: Request, error: Problem) -> Response:  # pyright: ignore[reportUnusedFunction]
        return error.response

    @app.exception_handler(Unavailable)
    async def on_unavailable(_request: Request, error: Unavailable) -> Response:  # pyright: ignore[reportUnusedFunction]
        return problem_response(503, "unavailable", str(error))

    @app.exception_handler(OutcomeUnknown)
    async def on_unknown(_request: Request, error: OutcomeUnknown) -> Response:  # pyright: ignore[reportUnusedFunction]
        # No Retry-After: who repeats without looking may do it twice.
        said = f"{error}: it may have been done, look before you repeat it."
        return Response(problem(503, "outcome-unknown", said), 503, media_type=PROBLEM_JSON)

    @app.exception_handler(RequestValidationError)
    async def on_invalid(_request: Request, error: RequestValidationError) -> Response:  # pyright: ignore[reportUnusedFunction]
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"][1:])
        status = 400 if first["type"] == "json_invalid" else 422
        return problem_response(status, "invalid-request", str(first["msg"]), field=field)

    @app.exception_handler(HTTPException)
    async def on_http(request: Request, error: HTTPException) -> Response:  # pyright: ignore[reportUnusedFunction]
        status = error.status_code
        kind = TITLES.get(status, "error").lower().replace(" ", "-")
        said = f"{request.method} {request.url.path}: {error.detail}"
        response = problem_response(status, kind, said)
        response.headers.update(error.headers or {})
        return response

    @app.exception_handler(Exception)
    async def on_error(_request: Request, _error: Exception) -> Response:  # pyright: ignore[reportUnusedFunction]
        return problem_response(500, "internal", "This is a fault of ours; it is in the log.")

    return app
