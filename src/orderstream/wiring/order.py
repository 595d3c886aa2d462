"""The order service, and the process that reads the log for those who listen."""

import asyncio
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from socket import gethostname

from orderstream.dead_letters.api import dead_letter_routes
from orderstream.flow import SCHEMAS
from orderstream.inventory.stock_hinted import EMPTY
from orderstream.inventory.store_postgres import PostgresStock
from orderstream.order_view.api import view_routes
from orderstream.order_view.api_feed import feed_routes
from orderstream.order_view.feed import Feed
from orderstream.order_view.feed_reader import frames_of, write_frames
from orderstream.order_view.stage import view_reads
from orderstream.order_view.store_postgres import PostgresView
from orderstream.order_view.waiting import Waiting
from orderstream.order_view.watching import Watching
from orderstream.orders.api import PATHS, OrdersApi
from orderstream.orders.api_bulk import Bulk, bulk_routes
from orderstream.orders.api_life import life_routes
from orderstream.orders.changes_postgres import PostgresChanges
from orderstream.orders.claims_hinted import HintedClaims
from orderstream.orders.desk_bulk import BulkDesk
from orderstream.orders.desk_traced import TracedBulkDesk
from orderstream.orders.empties import Empties
from orderstream.orders.life import Life, MaySweep
from orderstream.orders.store import ClaimStore
from orderstream.orders.store_postgres import PostgresClaims
from orderstream.runtime.background import Background
from orderstream.runtime.clock import utc_now
from orderstream.runtime.database import Database
from orderstream.runtime.garbage import spare_garbage
from orderstream.runtime.hints import Hints
from orderstream.runtime.levels import logger_routes
from orderstream.runtime.observe import Check
from orderstream.runtime.publisher import Publisher
from orderstream.runtime.server import Ending, WebServer, run
from orderstream.runtime.settings import Settings
from orderstream.runtime.stage import Positions
from orderstream.runtime.tail import Followed, between, follow
from orderstream.runtime.traced import TracedApp, TracedPublisher, traced_route
from orderstream.runtime.tracing import Tracer, traced, untraced
from orderstream.runtime.web import ASGIApp, web_app
from orderstream.wiring.dead_letters import dead_letters
from orderstream.wiring.hints import hint_checks, hints_of
from orderstream.wiring.setup import prepare
from orderstream.wiring.tracing import tracing

FEED_READER = (sys.executable, "-m", "orderstream", "read-feed")
SWEEP_LOCK_S = 5.0
CLAIM_PATIENCE_S = 1.5  # With what Kafka may take, within the 5 s of spec.md section 3.


def order_app(settings: Settings, tracer: Tracer | None = None) -> tuple[OrdersApi, Ending]:
    """Return the order service as an ASGI app, and what to call when it is about to end."""
    claims_database = Database(
        settings.dsn(), SCHEMAS["order"], settings.database_pool, CLAIM_PATIENCE_S
    )
    view_database = Database(settings.dsn(), SCHEMAS["view"], settings.database_pool)
    ttl = settings.reservation_ttl
    view = PostgresView(view_database, utc_now, ttl)
    waiting = Waiting(view)
    config = settings.kafka()
    publisher = Publisher(config) if tracer is None else TracedPublisher(config, tracer)
    topics = list(view_reads(settings.topics, settings.group("inventory")))
    feed = Feed(topics, frames_of(FEED_READER))
    watching = Watching(view, topics)
    hints = hints_of(settings)
    claims: ClaimStore = PostgresClaims(claims_database)
    if hints is not None:
        claims = HintedClaims(claims, hints)
    empties, forget_empties = _empties(settings, hints)
    life = Life(
        PostgresChanges(claims_database),
        publisher,
        settings.topics,
        utc_now,
        waiting.page,
        view.overdue,
        ttl,
        _may_sweep(hints),
        untraced if tracer is None else partial(traced, tracer, "expire reservations"),
    )
    keys = settings.keys()
    running: list[asyncio.Task[None]] = []
    bulk_desk = BulkDesk if tracer is None else partial(TracedBulkDesk, tracer=tracer)
    desk = bulk_desk(
        claims,
        publisher,
        settings.topics.order_created,
        utc_now,
        settings.partitions,
        empties,
        settings.topics.write_order,
    )
    bulk = Bulk(desk, keys)
    preparing = Background(lambda: prepare(settings, "order", "view"))
    prepared = asyncio.Event()

    async def live() -> None:
        await prepared.wait()  # Before, its tables need not be there.
        await life.run()

    async def on_start() -> None:
        loop = asyncio.get_running_loop()

        def is_prepared() -> None:
            with suppress(RuntimeError):  # The loop has ended meanwhile.
                loop.call_soon_threadsafe(prepared.set)

        publisher.start(loop)
        preparing.start(is_prepared)
        running.append(asyncio.create_task(live()))
        if empties is not None:
            running.append(asyncio.create_task(empties.run()))

    async def on_stop() -> None:
        preparing.stop()
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        await feed.close()
        await watching.close()
        await desk.close()
        publisher.close()
        claims_database.close()
        view_database.close()
        forget_empties()

    checks: dict[str, Check] = {
        "start": preparing.check,
        "kafka": publisher.check,
        "store": claims_database.ping,
    }
    app = web_app(
        "orderstream: orders",
        checks,
        keys=keys,
        hints=hint_checks(hints),
        on_start=on_start,
        on_stop=on_stop,
    )
    app.include_router(bulk_routes(bulk))
    app.include_router(life_routes(life))
    app.include_router(feed_routes(feed, watching, waiting.page))
    app.include_router(view_routes(view))
    app.include_router(dead_letter_routes(dead_letters(settings)))
    app.include_router(logger_routes())

    async def ending() -> None:
        await bulk.end()
        await feed.close()
        await watching.close()

    return OrdersApi(app, desk, waiting.decided, settings.in_flight_max, keys), ending


def _empties(settings: Settings, hints: Hints | None) -> tuple[Empties | None, Callable[[], None]]:
    """Return which goods are gone, where orders for them are refused at the door; how to end it."""
    if hints is None or not settings.fast_reject:
        return None, lambda: None
    database = Database(settings.dsn(), SCHEMAS["inventory"], 2, CLAIM_PATIENCE_S)
    stock = PostgresStock(database)
    empties = Empties(
        lambda: hints.members(EMPTY, utc_now().timestamp()),
        lambda skus: stock.empty_of(list(skus)),
    )
    return empties, database.close


def _may_sweep(hints: Hints | None) -> MaySweep:
    """Return the lock of the sweep."""
    if hints is None:
        return lambda: True
    me = f"{gethostname()}:{os.getpid()}"
    return lambda: hints.hold("sweep", me, SWEEP_LOCK_S)


def read_feed(settings: Settings, begins: str | None, ends: str | None) -> None:
    """Read the log for the feed, from an id to another, or from now on. Raises Unavailable."""
    config, group = settings.kafka(), settings.group("feed")
    reads = view_reads(settings.topics, settings.group("inventory"))

    def followed(first: Positions | None, last: Positions | None) -> Followed:
        if first is None or last is None:
            return follow(config, group, list(reads))
        return between(config, group, first, last)

    write_frames(reads, followed, begins, ends)


def serve_order(settings: Settings) -> int:
    """Run the order service until SIGTERM or SIGINT; return the exit code."""
    with tracing(settings, "order") as tracer:
        app, ending = order_app(settings, tracer)
        served: ASGIApp = app
        direct = app.direct
        if tracer is not None:
            served = TracedApp(app, tracer)
            direct = traced_route(direct, tracer, PATHS[0])
        server = WebServer(served, settings.host, settings.port_order, ending, direct)
        spare_garbage()
        run(server.serve)
    return 0
