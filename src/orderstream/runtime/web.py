"""What every service's web app has: health, metrics, problem documents, and the server itself."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.exceptions import HTTPException

from orderstream import __version__
from orderstream.contract.errors import Unavailable
from orderstream.runtime.observe import Check, readiness

PROBLEM_JSON = "application/problem+json"
RETRY_AFTER_S = 1
STOP_TIMEOUT_S = 4

ASGIApp = Callable[[Any, Any, Any], Awaitable[None]]

TITLES = {
    400: "Bad request",
    404: "Not found",
    405: "Method not allowed",
    409: "Conflict",
    413: "Too large",
    415: "Unsupported media type",
    422: "Not acceptable as it is",
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
    return Response(problem(status, kind, detail, **more), status, headers, PROBLEM_JSON)


class Problem(Exception):
    """Ends a request with a problem document."""

    def __init__(self, status: int, kind: str, detail: str, **more: object) -> None:
        super().__init__(detail)
        self.response = problem_response(status, kind, detail, **more)


def json_response(value: object, status: int = 200) -> Response:
    """Return any value as JSON."""
    return Response(msgspec.json.encode(value), status, media_type="application/json")


def web_app(
    title: str,
    checks: Mapping[str, Check],
    *,
    on_start: Callable[[], Awaitable[None]] | None = None,
    on_stop: Callable[[], Awaitable[None]] | None = None,
) -> FastAPI:
    """Return an app with /healthz, /readyz, /metrics, /docs and errors as problem documents."""

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncGenerator[None]:
        if on_start:
            await on_start()
        yield
        if on_stop:
            await on_stop()

    app = FastAPI(title=title, version=__version__, lifespan=lifespan, redoc_url=None)

    @app.get("/healthz", tags=["health"], summary="Alive")
    async def healthz() -> Response:  # pyright: ignore[reportUnusedFunction]
        return json_response({"status": "alive"})

    @app.get("/readyz", tags=["health"], summary="Able to work; 503 with the reason if not")
    def readyz() -> Response:  # pyright: ignore[reportUnusedFunction]
        faults = readiness(checks)
        if faults:
            said = "; ".join(f"{name}: {fault}" for name, fault in faults.items())
            return problem_response(503, "not-ready", said, faults=faults)
        return json_response({"status": "ready"})

    @app.get("/metrics", tags=["health"], summary="Metrics for Prometheus")
    def metrics() -> Response:  # pyright: ignore[reportUnusedFunction]
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)

    @app.exception_handler(Problem)
    async def on_problem(_request: Request, error: Problem) -> Response:  # pyright: ignore[reportUnusedFunction]
        return error.response

    @app.exception_handler(Unavailable)
    async def on_unavailable(_request: Request, error: Unavailable) -> Response:  # pyright: ignore[reportUnusedFunction]
        return problem_response(503, "unavailable", str(error))

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


class WebServer:
    """One app on one address, in an event loop of the caller's."""

    def __init__(self, app: ASGIApp, host: str, port: int) -> None:
        self.address = f"http://{host}:{port}"
        self._server = uvicorn.Server(
            uvicorn.Config(
                app,
                host=host,
                port=port,
                http="httptools",
                lifespan="on",
                log_config=None,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                date_header=False,
                timeout_keep_alive=75,
                timeout_graceful_shutdown=STOP_TIMEOUT_S,
                backlog=2048,
            )
        )

    async def serve(self) -> None:
        """Serve until SIGINT, SIGTERM or `stop`; requests under way are finished first."""
        await self._server.serve()

    def stop(self) -> None:
        """Ask the server to end; may be called from any thread."""
        self._server.should_exit = True


def run(main: Callable[[], Awaitable[None]]) -> None:
    """Run the coroutine on uvloop where there is one."""
    try:
        import uvloop
    except ImportError:  # Windows.
        asyncio.run(_as_coroutine(main))
    else:
        uvloop.run(_as_coroutine(main))


async def _as_coroutine(main: Callable[[], Awaitable[None]]) -> None:
    await main()
