"""A loop against Kafka, and the web app beside it that shows how it does."""

from collections.abc import Mapping, Sequence

from fastapi import APIRouter

from orderstream.contract.errors import Unavailable
from orderstream.runtime.admin import Reach
from orderstream.runtime.answered import Answered
from orderstream.runtime.background import Background
from orderstream.runtime.broker import Sink
from orderstream.runtime.broker_kafka import KafkaSink, KafkaSource
from orderstream.runtime.clock import utc_now
from orderstream.runtime.database import Database
from orderstream.runtime.failure import RetryPolicy
from orderstream.runtime.forgotten import Forgotten
from orderstream.runtime.garbage import spare_garbage
from orderstream.runtime.levels import logger_routes
from orderstream.runtime.loop import Loop
from orderstream.runtime.observe import Check, StageMetrics
from orderstream.runtime.positions import StoredPositions
from orderstream.runtime.said import Said
from orderstream.runtime.server import Ending, WebServer, run
from orderstream.runtime.settings import Settings
from orderstream.runtime.stage import Stage
from orderstream.runtime.traced import TracedApp
from orderstream.runtime.tracing import BatchTracer, TracedSink, Tracer
from orderstream.runtime.web import web_app


def kafka_loop(
    stage: Stage,
    settings: Settings,
    database: Database,
    metrics: StageMetrics,
    *,
    offset_reset: str,
    policy: RetryPolicy,
    records_max: int,
    positions: StoredPositions | None = None,
    answered: Answered | None = None,
    forgotten: Forgotten | None = None,
    said: Said | None = None,
    tracer: Tracer | None = None,
) -> Loop:
    """Return the loop that runs a stage against Kafka; `positions` to `said`: what it remembers."""
    group = settings.group(stage.name)
    source = KafkaSource(
        settings.kafka(),
        group,
        settings.worker,
        list(stage.reads),
        offset_reset=offset_reset,
        starts=positions,
        fetch_bytes_min=stage.fetch_bytes_min,
    )
    sink: Sink = KafkaSink(settings.kafka(), f"{group}-{settings.worker}", source.generation)
    batches = None if tracer is None else BatchTracer(tracer, group)
    return Loop(
        stage,
        group,
        source,
        sink if batches is None else TracedSink(sink, batches),
        database,
        clock=utc_now,
        policy=policy,
        dead_letter_suffix=settings.dead_letter_suffix,
        metrics=metrics,
        records_max=records_max,
        positions=positions,
        answered=answered,
        forgotten=forgotten,
        said=said,
        tracer=batches,
    )


def serve_loop(
    name: str,
    settings: Settings,
    port: int,
    database: Database,
    background: Background,
    metrics: StageMetrics,
    routes: Sequence[APIRouter] = (),
    without: Mapping[str, Check] | None = None,
    ending: Ending | None = None,
    tracer: Tracer | None = None,
) -> int:
    """Serve health, metrics and the routes beside a loop, until either ends."""

    def check_stage() -> None:
        background.check()
        if metrics.fault is not None:
            raise Unavailable(metrics.fault)

    checks: dict[str, Check] = {
        "stage": check_stage,
        "kafka": Reach(settings.kafka()).check,
        "store": database.ping,
    }
    app = web_app(f"orderstream: {name}", checks, keys=settings.keys(), hints=without)
    for some in (*routes, logger_routes()):
        app.include_router(some)
    served = app if tracer is None else TracedApp(app, tracer)
    server = WebServer(served, settings.host, port, ending)
    spare_garbage()
    background.start(when_done=server.stop)
    run(server.serve)
    background.stop()
    return 1 if background.failed else 0
