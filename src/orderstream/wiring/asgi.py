"""The order service for whatever ASGI server a user runs."""

import asyncio
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

from orderstream.contract.errors import ConfigurationError
from orderstream.runtime.described import PROBLEM_JSON
from orderstream.runtime.garbage import spare_garbage
from orderstream.runtime.logs import configure_logs
from orderstream.runtime.observe import present
from orderstream.runtime.server import Ending, allow_many_files
from orderstream.runtime.setting_faults import LOOPBACK
from orderstream.runtime.settings import Settings
from orderstream.runtime.web import ASGIApp, problem
from orderstream.wiring.order import order_app

OPEN = (
    "This address is open to the network, and everybody may do all: set ORDERSTREAM_API_KEYS"
    " (`orderstream keys new` makes them), or listen on 127.0.0.1."
)


class OrderService:
    """The order service as an ASGI app that is made when its server starts (lifespan).

    Settings that are wrong stop the start with all that is wrong. Without API keys it serves this
    machine alone, as `orderstream serve order` does.
    """

    def __init__(self, settings: Callable[[], Settings]) -> None:
        self._settings = settings
        self._app: ASGIApp | None = None
        self._keyed = False

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one request, or the server's start and end (ASGI)."""
        if scope["type"] == "lifespan":
            try:
                self._start()
            except ConfigurationError as error:
                await receive()
                said = "\n".join(("orderstream cannot start:", *error.faults))
                await send({"type": "lifespan.startup.failed", "message": said})
                return
        if self._app is None:
            raise RuntimeError("the ASGI server has to tell of its start: lifespan is off")
        if not self._keyed and _is_open(scope):
            await _refuse(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _start(self) -> None:
        settings = self._settings()
        configure_logs("order", settings.log_level, repeats_max=settings.log_repeats)
        present("order", settings.worker)
        allow_many_files()
        app, ending = order_app(settings)
        _call_when_told_to_end(ending)
        self._app, self._keyed = app, settings.api_keys is not None
        spare_garbage()


def _is_open(scope: Any) -> bool:
    """Tell whether a request came to an address of another machine's reach; a socket has none."""
    host, port = scope.get("server") or (None, None)
    return port is not None and host not in LOOPBACK


async def _refuse(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] != "http":
        await receive()
        return
    headers = [(b"content-type", PROBLEM_JSON.encode())]
    await send({"type": "http.response.start", "status": 403, "headers": headers})
    await send({"type": "http.response.body", "body": problem(403, "foreign", OPEN)})


def _call_when_told_to_end(ending: Ending) -> None:
    """Let go of streams without an end on SIGTERM and SIGINT, which the server then has too.

    A server says that it ends (lifespan) once all requests are answered, and those never are.
    """
    if threading.current_thread() is not threading.main_thread():
        return  # No other thread may; streams end when their clients do.
    loop = asyncio.get_running_loop()
    under_way: set[asyncio.Task[None]] = set()

    async def end() -> None:
        await ending()

    def begin() -> None:
        task = loop.create_task(end())
        under_way.add(task)  # Held, so that it is not lost.
        task.add_done_callback(under_way.discard)

    for number in (signal.SIGINT, signal.SIGTERM):
        before = signal.getsignal(number)
        if not callable(before):
            continue  # The server does not hear of it this way.

        def told(
            number: int,
            frame: FrameType | None,
            before: Callable[[int, FrameType | None], Any] = before,
        ) -> None:
            loop.call_soon_threadsafe(begin)
            before(number, frame)

        signal.signal(number, told)
