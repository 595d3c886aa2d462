"""What the page asks the console for."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar
from urllib.parse import unquote

from fastapi import APIRouter, Query, Request, Response
from fastapi.middleware.gzip import GZipMiddleware
from fastapi.responses import FileResponse, StreamingResponse
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel, ConfigDict, Field

from orderstream.console.groups import GroupDesk, UnknownGroup, Unsuitable
from orderstream.console.sampler import Sampler
from orderstream.console.services import Refused, Services
from orderstream.console.sessions import COOKIE, LASTS_S, Sessions
from orderstream.console.topics import TopicDesk, UnknownTopic, Wanted
from orderstream.console.trail import Trail
from orderstream.contract.errors import Malformed
from orderstream.flow import Step
from orderstream.runtime.access import caller_of
from orderstream.runtime.web import Problem, csv_line, json_response, read_body

STATIC = Path(__file__).parent / "static"
BODY_MAX = 16 << 20  # As much as inventory takes of a CSV.
PAGE = 500  # Orders of one page of an export.
FILTERS = ("status", "userId", "sku", "from", "to", "sort")
NOBODY = "anybody"  # Who it was where no API keys are set.
# Everything comes from here: no inline script or style, no other host, no frame around it.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:;"
    " connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
SAFE = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
}
ORDER_COLUMNS = (
    "orderId",
    "status",
    "userId",
    "items",
    "createdAt",
    "decidedAt",
    "reason",
    "short",
)

T = TypeVar("T")


@dataclass(frozen=True)
class Console:
    """What the routes need."""

    services: Services
    sampler: Sampler
    topics: TopicDesk
    groups: GroupDesk
    trail: Trail
    sessions: Sessions | None
    flow: tuple[Step, ...]
    audit_topic: str


class Body(BaseModel):
    """A misspelt field must not be passed over."""

    model_config = ConfigDict(extra="forbid")


class SignIn(Body):
    """Who wants in."""

    key: Annotated[str, Field(min_length=1, max_length=500)]


class NewRecord(Body):
    """A record to write; bytes that are no text as hex."""

    key: str | None = None
    value: str | None = None
    valueHex: Annotated[str | None, Field(pattern=r"^([0-9a-fA-F]{2})*$")] = None
    headers: dict[str, str] = {}
    partition: Annotated[int | None, Field(ge=0, le=100_000)] = None


class Reset(Body):
    """Where a group shall read on."""

    to: Annotated[str, Field(max_length=30)]
    topic: Annotated[str | None, Field(max_length=249)] = None
    dryRun: bool = True


class _Files(StaticFiles):
    async def get_response(self, path: str, scope: Any) -> Response:
        answer = await super().get_response(path, scope)
        answer.headers.update(SAFE | {"cache-control": "no-cache"})
        return answer


def static_files() -> Any:
    """Return the page's files as an ASGI app; asked for again, they are sent if they changed."""
    return GZipMiddleware(_Files(directory=STATIC), minimum_size=1000)


def page_routes(sessions: Sessions | None) -> APIRouter:
    """Give the page itself, and who is signed in."""
    routes = APIRouter()

    @routes.get("/", include_in_schema=False)
    async def page() -> Response:  # pyright: ignore[reportUnusedFunction]
        return FileResponse(STATIC / "index.html", headers=SAFE | {"cache-control": "no-cache"})

    @routes.get("/favicon.ico", include_in_schema=False)
    async def icon() -> Response:  # pyright: ignore[reportUnusedFunction]
        return FileResponse(STATIC / "icon.svg", headers=SAFE, media_type="image/svg+xml")

    @routes.get("/console/session", summary="Who is signed in", tags=["session"])
    async def session(request: Request) -> Response:  # pyright: ignore[reportUnusedFunction]
        if sessions is None:
            return json_response({"needed": False, "name": None, "role": "operator"})
        caller = sessions.caller(request.scope["headers"])
        known = {"name": None, "role": None}
        if caller is not None:
            known = {"name": caller.name, "role": caller.role}
        return json_response({"needed": True} | known)

    @routes.post("/console/session", summary="Sign in with an API key", tags=["session"])
    async def sign_in(body: SignIn) -> Response:  # pyright: ignore[reportUnusedFunction]
        if sessions is None:
            raise Problem(409, "conflict", "No API keys are set: nobody has to sign in.")
        found = sessions.sign_in(body.key.strip())
        if found is None:
            raise Problem(401, "unauthorized", "This is no key of this installation.")
        if found[1].role == "client":
            raise Problem(403, "forbidden", "A client's key places orders; it has no page here.")
        session_id, caller = found
        answer = json_response({"needed": True, "name": caller.name, "role": caller.role})
        answer.set_cookie(COOKIE, session_id, LASTS_S, httponly=True, samesite="strict")
        return answer

    @routes.delete("/console/session", summary="Sign out", tags=["session"])
    async def sign_out(request: Request) -> Response:  # pyright: ignore[reportUnusedFunction]
        if sessions is not None:
            sessions.sign_out(request.scope["headers"])
        answer = json_response({"needed": sessions is not None, "name": None, "role": None})
        answer.delete_cookie(COOKIE, httponly=True, samesite="strict")
        return answer

    return routes


def console_routes(console: Console) -> APIRouter:
    """Everything that the page shows and does."""
    routes = APIRouter()
    services, trail = console.services, console.trail

    def key_of(request: Request) -> str | None:
        sessions = console.sessions
        return None if sessions is None else sessions.key(request.scope["headers"])

    async def audited(
        entry: tuple[str, str, str],
        detail: str,
        do: Callable[[], Awaitable[T]],
        came_of: Callable[[T], tuple[str, str]],
    ) -> T:
        """Do what an operator asks for, between two entries of the audit log.

        An entry is who, what, and to what; `came_of` says of the result how it ended, and more.
        """
        await asyncio.to_thread(trail.begin, *entry, detail)
        try:
            result = await do()
        except (Malformed, Unsuitable, UnknownTopic, UnknownGroup) as error:
            await asyncio.to_thread(trail.end, *entry, "refused", str(error))
            raise
        except Exception as error:
            # Some of it may have been done before it failed, or before its answer was lost.
            await asyncio.to_thread(trail.end, *entry, "unknown", str(error))
            raise
        await asyncio.to_thread(trail.end, *entry, *came_of(result))
        return result

    async def done(
        request: Request, action: str, target: str, do: Callable[[], Any], detail: str = ""
    ) -> Any:
        """Do it in a thread, audited."""
        return await audited(
            (_who(request), action, target),
            detail,
            lambda: asyncio.to_thread(do),
            lambda result: ("done", _short(json.dumps(result).encode())),
        )

    # What is going on ------------------------------------------------------------------------

    @routes.get("/console/overview", summary="How everything is, and was for an hour")
    async def overview(since: Annotated[int, Query(ge=0, le=1 << 53)] = 0) -> Response:  # pyright: ignore[reportUnusedFunction]
        return json_response(console.sampler.overview(since))

    @routes.get("/console/flow", summary="Who reads and writes which topic")
    async def flow() -> Response:  # pyright: ignore[reportUnusedFunction]
        return json_response(
            [
                {"service": s.service, "does": s.does, "reads": s.reads, "writes": s.writes}
                for s in console.flow
            ]
        )

    @routes.get("/console/audit", summary="Who did what")
    def audit(limit: Annotated[int, Query(ge=1, le=500)] = 200) -> Response:  # pyright: ignore[reportUnusedFunction]
        return json_response({"entries": trail.newest(limit)})

    # The services ----------------------------------------------------------------------------

    @routes.get("/services/{service}/{path:path}", summary="Ask a service's API")
    async def ask(request: Request, service: str) -> Response:  # pyright: ignore[reportUnusedFunction]
        return await _pass_on(request, service, b"")

    async def act(request: Request, service: str, path: str) -> Response:
        body = await read_body(request, BODY_MAX)
        _checked(request, service)
        return await audited(
            (_who(request), f"{request.method} {service}", f"/{path}"),
            _short(body),
            lambda: _pass_on(request, service, body),
            lambda answer: (_outcome(answer.status_code), _short(bytes(answer.body))),
        )

    for method in ("POST", "PUT", "DELETE"):
        routes.add_api_route(
            "/services/{service}/{path:path}",
            act,
            methods=[method],
            summary="Have a service do something; audited",
            operation_id=f"act_{method.lower()}",
        )

    def _checked(request: Request, service: str) -> str:
        """Return the path as it was sent, if it is one of that service's API, and nothing else."""
        raw = (request.scope.get("raw_path") or b"").decode("latin-1").partition("?")[0]
        begins = f"/services/{service}"
        path = raw.removeprefix(begins)
        parts = unquote(path).split("/")
        if (
            service not in services.addresses
            or not raw.startswith(f"{begins}/api/")
            or "." in parts
            or ".." in parts
        ):
            raise Problem(404, "not-found", f"There is no such API of {service}.")
        return path

    async def _pass_on(request: Request, service: str, body: bytes) -> Response:
        status, headers, content = await services.pass_on(
            request.method,
            service,
            _checked(request, service),
            key=key_of(request),
            query=request.scope["query_string"].decode("latin-1"),
            body=body,
            headers=request.headers,
        )
        kind = headers.pop("content-type", "")
        if not kind.startswith(("application/json", "application/problem+json")):
            kind = "text/plain; charset=utf-8"  # Never a page of its own.
        return Response(content, status, SAFE | headers, kind)

    @routes.get("/console/orders.{form}", summary="Every order that fits, as CSV or NDJSON")
    async def export(request: Request, form: str) -> Response:  # pyright: ignore[reportUnusedFunction]
        write = {"csv": order_as_csv, "ndjson": _json_line}.get(form)
        if write is None:
            raise Problem(404, "not-found", "An export is orders.csv or orders.ndjson.")
        given = request.query_params
        query: dict[str, object] = {name: given[name] for name in FILTERS if name in given}
        key = key_of(request)
        try:
            first = await services.get("order", "/api/orders", key, **query | {"limit": PAGE})
        except Refused as error:
            raise Problem(error.status, "invalid-request", str(error)) from None

        async def lines() -> AsyncIterator[bytes]:
            page = first
            if form == "csv":
                yield csv_line(ORDER_COLUMNS)
            while True:
                yield b"".join(map(write, page["orders"]))
                if page["nextCursor"] is None:
                    return
                more = query | {"limit": PAGE, "cursor": page["nextCursor"]}
                page = await services.get("order", "/api/orders", key, **more)

        kind = "text/csv" if form == "csv" else "application/x-ndjson"
        headers = {"content-disposition": f'attachment; filename="orders.{form}"'}
        return StreamingResponse(lines(), media_type=kind, headers=SAFE | headers)

    # Topics ----------------------------------------------------------------------------------

    @routes.get("/console/topics", summary="Every topic")
    def topics() -> Response:  # pyright: ignore[reportUnusedFunction]
        return json_response({"topics": console.topics.every()})

    @routes.get("/console/topics/{topic}", summary="A topic's partitions and settings")
    def topic_of(topic: str) -> Response:  # pyright: ignore[reportUnusedFunction]
        return json_response(console.topics.show(topic))

    @routes.get("/console/topics/{topic}/records", summary="Records of a topic that fit")
    def records(topic: str, wanted: Annotated[_Wanted, Query()]) -> Response:  # pyright: ignore[reportUnusedFunction]
        found = console.topics.browse(topic, wanted.wanted())
        return json_response(
            {"records": found.records, "looked": found.looked, "whole": found.whole}
        )

    @routes.get("/console/topics/{topic}/tail", summary="Records as they come (server-sent events)")
    async def tail(topic: str, wanted: Annotated[_Wanted, Query()]) -> Response:  # pyright: ignore[reportUnusedFunction]
        coming = console.topics.tail(topic, wanted.wanted())
        await anext(coming)  # What is wrong at the beginning is still a problem document.

        async def events() -> AsyncIterator[bytes]:
            async with aclosing(coming):
                yield b"retry: 2000\n\n"
                async for documents in coming:
                    data = json.dumps(documents).encode()
                    yield b"data: " + data + b"\n\n" if documents else b": still here\n\n"

        headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
        return StreamingResponse(events(), media_type="text/event-stream", headers=headers)

    @routes.post("/console/topics/{topic}/records", summary="Write a record; audited")
    async def produce(request: Request, topic: str, body: NewRecord) -> Response:  # pyright: ignore[reportUnusedFunction]
        if topic == console.audit_topic or topic.startswith("__"):
            raise Problem(409, "unsuitable", f"Nobody writes to {topic} by hand.")
        value = None if body.value is None else body.value.encode()
        if body.valueHex is not None:
            value = bytes.fromhex(body.valueHex)
        headers = [(name, said.encode()) for name, said in body.headers.items()]
        key = None if body.key is None else body.key.encode()
        result = await done(
            request,
            "produce",
            topic,
            lambda: console.topics.produce(topic, key, value, headers, body.partition),
            f"key {body.key}",
        )
        return json_response(result, 201)

    # Groups ----------------------------------------------------------------------------------

    @routes.get("/console/groups", summary="Every consumer group")
    def groups() -> Response:  # pyright: ignore[reportUnusedFunction]
        return json_response({"groups": console.groups.every()})

    @routes.get("/console/groups/{group:path}", summary="A group's members and places")
    def group_of(group: str) -> Response:  # pyright: ignore[reportUnusedFunction]
        return json_response(console.groups.show(group))

    @routes.post("/console/groups/{group:path}/reset", summary="Set offsets; audited")
    async def reset(request: Request, group: str, body: Reset) -> Response:  # pyright: ignore[reportUnusedFunction]
        def do() -> dict[str, Any]:
            return console.groups.reset(group, body.topic, body.to, dry_run=body.dryRun)

        if body.dryRun:
            return json_response(await asyncio.to_thread(do))
        target = f"{group} {body.topic or 'all topics'} to {body.to}"
        return json_response(await done(request, "reset offsets", target, do))

    return routes


def problems(app: Any) -> None:
    """Have what the desks refuse answered as problem documents."""

    @app.exception_handler(UnknownTopic)
    async def unknown(_request: Request, error: UnknownTopic) -> Response:  # pyright: ignore[reportUnusedFunction]
        return Problem(404, "unknown-topic", f"{error}.").response

    @app.exception_handler(UnknownGroup)
    async def nobody(_request: Request, error: UnknownGroup) -> Response:  # pyright: ignore[reportUnusedFunction]
        return Problem(404, "unknown-group", f"{error}.").response

    @app.exception_handler(Unsuitable)
    async def unsuitable(_request: Request, error: Unsuitable) -> Response:  # pyright: ignore[reportUnusedFunction]
        return Problem(409, "unsuitable", f"{error}.").response

    @app.exception_handler(Malformed)
    async def malformed(_request: Request, error: Malformed) -> Response:  # pyright: ignore[reportUnusedFunction]
        return Problem(422, "invalid-request", str(error), field=error.field).response


class _Wanted(BaseModel):
    start: Annotated[str, Field(max_length=30)] = "newest"
    partition: Annotated[int | None, Field(ge=0, le=100_000)] = None
    key: Annotated[str, Field(max_length=500)] = ""
    text: Annotated[str, Field(max_length=500)] = ""
    header: Annotated[str, Field(max_length=500)] = ""
    limit: Annotated[int, Field(ge=1, le=500)] = 50

    def wanted(self) -> Wanted:
        return Wanted(**self.model_dump())


def _who(request: Request) -> str:
    caller = caller_of(request)
    if caller is not None:
        return caller.name
    return f"{NOBODY} at {request.client.host}" if request.client else NOBODY


def _outcome(status: int) -> str:
    if status < 400:
        return "done"
    return f"{'unknown' if status >= 500 else 'refused'} ({status})"


def _short(body: bytes) -> str:
    return body[:500].decode("utf-8", "replace")


def _json_line(order: dict[str, Any]) -> bytes:
    return json.dumps(order, ensure_ascii=False).encode() + b"\n"


def order_as_csv(order: dict[str, Any]) -> bytes:
    """Write an order as a line of ORDER_COLUMNS."""
    items = " ".join(f"{line['qty']}x{line['sku']}" for line in order.get("items") or ())
    cells = order | {"items": items, "short": " ".join(order.get("short") or ())}
    return csv_line(cells.get(name) for name in ORDER_COLUMNS)
