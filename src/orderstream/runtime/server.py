"""The HTTP server that a service's web app runs in."""

import asyncio
import signal
import socket
import threading
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager, suppress
from functools import partial

import uvicorn

from orderstream.runtime.connection import Connection, cut_off
from orderstream.runtime.direct import DirectRoute
from orderstream.runtime.web import ASGIApp

try:
    import resource
except ImportError:  # Windows.
    resource = None

STOP_TIMEOUT_S = 4
TICKS_PER_S = 10  # uvicorn's.

Ending = Callable[[], Awaitable[None]]


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, ending: Ending | None) -> None:
        super().__init__(config)
        self._ending = ending

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        """A signal ends the server, not the process as with uvicorn: ours has more to put away."""
        if threading.current_thread() is not threading.main_thread():
            yield  # No other thread may.
            return
        before = {n: signal.signal(n, self.handle_exit) for n in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        if self._ending is not None:
            await self._ending()
        await super().shutdown(sockets)

    async def on_tick(self, counter: int) -> bool:
        if counter % TICKS_PER_S == 0:
            cut_off(self.server_state.connections)
        return await super().on_tick(counter)


class WebServer:
    """One app on one address, in an event loop of the caller's."""

    def __init__(
        self,
        app: ASGIApp,
        host: str,
        port: int,
        ending: Ending | None = None,
        direct: DirectRoute | None = None,
    ) -> None:
        """`ending` is awaited first when the server ends: it lets go of streams without an end.

        `direct` is handled without the app.
        """
        self.address = f"http://{host}:{port}"
        self._server = _Server(
            uvicorn.Config(
                app,
                host=host,
                port=port,
                http=partial(Connection, direct=direct),  # pyright: ignore[reportArgumentType] - it is only called
                lifespan="on",
                log_config=None,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                date_header=False,
                timeout_graceful_shutdown=STOP_TIMEOUT_S,
                backlog=2048,
            ),
            ending,
        )

    async def serve(self) -> None:
        """Serve until SIGINT, SIGTERM or `stop`; requests under way are finished first."""
        allow_many_files()
        await self._server.serve()

    def stop(self) -> None:
        """Ask the server to end; may be called from any thread."""
        self._server.should_exit = True


def allow_many_files() -> None:
    """Take as many open files, and so connections, as the system lets this process have."""
    if resource is not None:
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        with suppress(ValueError, OSError):  # macOS says "unlimited" and means less.
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


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
