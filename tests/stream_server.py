"""A TCP server of a test's own, in a thread; its connections end with it."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager

OnConnection = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@contextmanager
def served(on_connection: OnConnection, port: int = 0) -> Generator[int]:
    """Serve on this port of 127.0.0.1, or any, until the end of the block; give the port."""
    ready, stop = threading.Event(), asyncio.Event()
    loop = asyncio.new_event_loop()
    ports: list[int] = []

    async def main() -> None:
        listener = await asyncio.start_server(on_connection, "127.0.0.1", port)
        ports.append(listener.sockets[0].getsockname()[1])
        ready.set()
        await stop.wait()
        listener.close()
        under_way = asyncio.all_tasks() - {asyncio.current_task()}
        for task in under_way:
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)

    def run() -> None:
        loop.run_until_complete(main())
        loop.close()

    thread = threading.Thread(target=run)
    thread.start()
    assert ready.wait(10)
    try:
        yield ports[0]
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
