"""The services that read the log: inventory, view, notification, analytics.

What each is made of is imported where it is made: a process loads one of them.
"""

from dataclasses import dataclass

from fastapi import APIRouter

from orderstream.flow import SCHEMAS
from orderstream.runtime.answered import Answered
from orderstream.runtime.background import Background
from orderstream.runtime.clock import utc_now
from orderstream.runtime.database import Database
from orderstream.runtime.failure import RetryPolicy
from orderstream.runtime.forgotten import Forgotten
from orderstream.runtime.hints import Hints
from orderstream.runtime.loop import Loop
from orderstream.runtime.observe import StageMetrics
from orderstream.runtime.positions import StoredPositions
from orderstream.runtime.server import Ending
from orderstream.runtime.settings import Settings
from orderstream.runtime.stage import Keeps, Stage
from orderstream.runtime.tracing import Tracer
from orderstream.wiring.hints import hint_checks, hints_of
from orderstream.wiring.loops import kafka_loop, serve_loop
from orderstream.wiring.setup import prepare
from orderstream.wiring.tracing import tracing


@dataclass(frozen=True)
class _Parts:
    """What a stage's service is made of."""

    stage: Stage
    routes: APIRouter | None
    ending: Ending | None = None


def stage_parts(
    name: str, settings: Settings, database: Database, hints: Hints | None = None
) -> _Parts:
    """Return a stage and the routes of its API. Raises KeyError for an unknown name."""
    topics = settings.topics
    decides = settings.group("inventory")
    match name:
        case "inventory":
            from orderstream.inventory.api import stock_routes
            from orderstream.inventory.stage import inventory_stage
            from orderstream.inventory.stock_hinted import HintedStock
            from orderstream.inventory.store import StockStore
            from orderstream.inventory.store_postgres import PostgresStock

            stock: StockStore = PostgresStock(database)
            if hints is not None:
                stock = HintedStock(stock, hints)
            return _Parts(inventory_stage(stock, topics, settings.drill_sku), stock_routes(stock))
        case "view":
            from orderstream.order_view.stage import view_stage
            from orderstream.order_view.store_postgres import PostgresView

            return _Parts(view_stage(PostgresView(database), topics, decides), None)
        case "notification":
            from orderstream.notification.channels import LogChannel
            from orderstream.notification.stage import notification_stage
            from orderstream.notification.store_postgres import PostgresNotices

            named = settings.channels()
            stage = notification_stage(
                PostgresNotices(database),
                LogChannel() if named.to_log else None,
                named.names,
                topics,
                decides,
                settings.notify_received,
            )
            return _Parts(stage, None)  # Its routes know the channels, which only `serve` makes.
        case "analytics":
            from orderstream.analytics.api import analytics_routes
            from orderstream.analytics.feed import SummaryFeed
            from orderstream.analytics.stage import analytics_stage
            from orderstream.analytics.store_postgres import PostgresCounts

            counts = PostgresCounts(database)
            summaries = SummaryFeed(counts.summary)
            return _Parts(
                analytics_stage(counts, topics, decides),
                analytics_routes(counts, utc_now, summaries),
                summaries.close,
            )
        case _:
            raise KeyError(name)


def stage_loop(
    stage: Stage,
    settings: Settings,
    database: Database,
    metrics: StageMetrics,
    tracer: Tracer | None = None,
) -> Loop:
    """Return the loop that runs a stage against Kafka."""
    positions = StoredPositions(database) if stage.keeps is Keeps.OFFSETS_IN_STORE else None
    return kafka_loop(
        stage,
        settings,
        database,
        metrics,
        offset_reset=settings.kafka_auto_offset_reset,
        policy=RetryPolicy(settings.retry_attempts, int(settings.retry_backoff_s * 1000)),
        records_max=settings.batch_records * stage.batches,
        positions=positions,
        answered=None if positions else Answered(database),
        forgotten=Forgotten(database),
        tracer=tracer,
    )


def serve_stage(name: str, settings: Settings) -> int:
    """Run one stage and its API until SIGTERM or SIGINT; return the exit code.

    1 when the stage had to stop because another incarnation took its place.
    """
    with tracing(settings, name) as tracer:
        return _serve(name, settings, tracer)


def _serve(name: str, settings: Settings, tracer: Tracer | None) -> int:
    database = Database(settings.dsn(), SCHEMAS[name], settings.database_pool)
    hints = hints_of(settings) if name == "inventory" else None
    parts = stage_parts(name, settings, database, hints)
    beside = None
    if name == "notification":
        from orderstream.wiring.notification import sending  # No other service loads templates.

        beside = sending(settings, database, tracer)
    metrics = StageMetrics(parts.stage.name)

    def prepared() -> None:
        prepare(settings, name)
        if beside is not None:
            beside.dispatcher.start()

    background = Background(
        prepared, lambda: stage_loop(parts.stage, settings, database, metrics, tracer)
    )
    without = hint_checks(hints)
    routes = [parts.routes] if parts.routes is not None else []
    if beside is not None:
        without["channels"] = beside.dispatcher.check
        routes.append(beside.routes)
    port = settings.port(name)
    ending = parts.ending if beside is None else beside.ending
    code = serve_loop(
        name, settings, port, database, background, metrics, routes, without, ending, tracer
    )
    if beside is not None:
        beside.dispatcher.stop()
    database.close()
    return code
