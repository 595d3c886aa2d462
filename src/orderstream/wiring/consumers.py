"""Consumers of a user's own."""

from orderstream.extension.definition import Definition
from orderstream.extension.stage import SaidBefore, consumer_stage, topics_of
from orderstream.extension.tables import set_up
from orderstream.runtime.admin import Admin
from orderstream.runtime.background import Background
from orderstream.runtime.database import Database
from orderstream.runtime.failure import RetryPolicy
from orderstream.runtime.loop import Loop
from orderstream.runtime.observe import StageMetrics
from orderstream.runtime.said import Said
from orderstream.runtime.settings import Settings
from orderstream.runtime.tracing import Tracer
from orderstream.wiring.loops import kafka_loop, serve_loop
from orderstream.wiring.setup import refuse_restored
from orderstream.wiring.tracing import tracing


def prepare_consumer(definition: Definition, settings: Settings) -> None:
    """Set up a consumer's topics and schema. Safe to repeat.

    Raises Unavailable, also for a database that was restored, and ConfigurationError for what is
    wrong with its tables.
    """
    topics, group = settings.topics, settings.group(definition.name)
    admin = Admin(settings.kafka())
    refuse_restored(settings, admin)
    set_up(settings.dsn(), definition, topics, group)
    wanted = topics_of(definition, consumer_stage(definition, topics, group), topics)
    admin.create(wanted, settings.partitions, replicas=settings.replication)


def consumer_loop(
    definition: Definition,
    settings: Settings,
    database: Database,
    metrics: StageMetrics,
    tracer: Tracer | None = None,
) -> Loop:
    """Return the loop that runs a consumer against Kafka. Raises Unavailable."""
    group = settings.group(definition.name)
    said, before = Said(database), SaidBefore(database)
    stage = consumer_stage(definition, settings.topics, group, before)
    # Kafka forgets the offsets of a group that was away for a week; the store does not.
    begins_at_end = definition.start == "end" and said.is_new()
    retries, backoff_s = definition.retries, definition.backoff_s
    return kafka_loop(
        stage,
        settings,
        database,
        metrics,
        offset_reset="latest" if begins_at_end else "earliest",
        policy=RetryPolicy(
            settings.retry_attempts if retries is None else retries,
            int((settings.retry_backoff_s if backoff_s is None else backoff_s) * 1000),
        ),
        records_max=definition.batch,
        answered=before,
        said=said,
        tracer=tracer,
    )


def serve_consumer(definition: Definition, settings: Settings, port: int) -> int:
    """Run a consumer of a user's own until SIGTERM or SIGINT; return the exit code.

    1 when it had to stop: another incarnation took its place, or its tables cannot be made.
    """
    database = Database(settings.dsn(), definition.schema, settings.database_pool)
    metrics = StageMetrics(definition.name)
    with tracing(settings, definition.name) as tracer:
        background = Background(
            lambda: prepare_consumer(definition, settings),
            lambda: consumer_loop(definition, settings, database, metrics, tracer),
        )
        code = serve_loop(
            definition.name, settings, port, database, background, metrics, tracer=tracer
        )
    database.close()
    return code
