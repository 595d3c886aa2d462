"""The only composition root: Settings -> databases, producers, stages, web apps.

Nothing else constructs these; nothing here decides anything.
"""

import asyncio
import gc
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from socket import gethostname

import structlog
from fastapi import APIRouter

import orderstream
from orderstream.analytics.api import analytics_routes
from orderstream.analytics.feed import SummaryFeed
from orderstream.analytics.stage import analytics_stage
from orderstream.analytics.store_postgres import PostgresCounts
from orderstream.console.api import (
    Console,
    console_routes,
    page_routes,
    problems,
    static_files,
)
from orderstream.console.groups import GroupDesk, Replays
from orderstream.console.sampler import Sampler, Seen
from orderstream.console.services import Services
from orderstream.console.sessions import Sessions
from orderstream.console.topics import TopicDesk
from orderstream.console.trail import Trail
from orderstream.contract.errors import ConfigurationError, Unavailable
from orderstream.dead_letters.api import dead_letter_routes
from orderstream.dead_letters.desk import DeadLetters
from orderstream.extension.definition import Definition
from orderstream.extension.registry import Registered
from orderstream.extension.stage import SaidBefore, consumer_stage, topics_of
from orderstream.extension.tables import set_up
from orderstream.flow import SCHEMAS, SERVICES, flow
from orderstream.inventory.api import stock_routes
from orderstream.inventory.stage import inventory_stage
from orderstream.inventory.stock_hinted import EMPTY, HintedStock
from orderstream.inventory.store import StockStore
from orderstream.inventory.store_postgres import PostgresStock
from orderstream.local.holding import held_back
from orderstream.notification.api import notice_routes
from orderstream.notification.channels import Channel, Defaults, LogChannel
from orderstream.notification.configured import channels_of
from orderstream.notification.dispatch import Dispatcher
from orderstream.notification.stage import notification_stage
from orderstream.notification.store_postgres import PostgresNotices
from orderstream.notification.templates import Templates
from orderstream.order_view.api import view_routes
from orderstream.order_view.api_feed import feed_routes
from orderstream.order_view.feed import Feed
from orderstream.order_view.feed_reader import frames_of, write_frames
from orderstream.order_view.stage import view_reads, view_stage
from orderstream.order_view.store_postgres import PostgresView
from orderstream.order_view.waiting import Waiting
from orderstream.order_view.watching import Watching
from orderstream.orders.api import OrdersApi
from orderstream.orders.api_bulk import Bulk, bulk_routes
from orderstream.orders.api_life import life_routes
from orderstream.orders.changes_postgres import PostgresChanges
from orderstream.orders.claims_hinted import HintedClaims
from orderstream.orders.desk_bulk import BulkDesk
from orderstream.orders.empties import Empties
from orderstream.orders.life import Life, MaySweep
from orderstream.orders.store import ClaimStore
from orderstream.orders.store_postgres import PostgresClaims
from orderstream.readers import lags, own_consumers, readers
from orderstream.runtime.admin import Admin, Reach
from orderstream.runtime.answered import Answered
from orderstream.runtime.background import Background
from orderstream.runtime.broker_kafka import KafkaSink, KafkaSource
from orderstream.runtime.channels import read_secrets
from orderstream.runtime.clock import monotonic, utc_now
from orderstream.runtime.database import Database
from orderstream.runtime.failure import RetryPolicy
from orderstream.runtime.forgotten import Forgotten
from orderstream.runtime.hints import Hints
from orderstream.runtime.log_reader import LogReader
from orderstream.runtime.loop import Loop
from orderstream.runtime.migrations import migrate
from orderstream.runtime.observe import Check, StageMetrics
from orderstream.runtime.positions import StoredPositions
from orderstream.runtime.publisher import Publisher
from orderstream.runtime.replay import Plan, Replay, Target
from orderstream.runtime.said import Said
from orderstream.runtime.server import Ending, WebServer, run
from orderstream.runtime.settings import Settings
from orderstream.runtime.stage import Keeps, Positions, Stage
from orderstream.runtime.tail import Followed, between, follow
from orderstream.runtime.web import ASGIApp, web_app

FEED_READER = (sys.executable, "-m", "orderstream", "read-feed")
SWEEP_LOCK_S = 5.0
CLAIM_PATIENCE_S = 1.5  # With what Kafka may take, within the 5 s of spec.md section 3.

# What a new local installation has on its shelves, so that the README's orders can be placed.
DEMO_CATALOGUE = (
    ("ABC-001", 1_000_000),
    ("ABC-002", 1_000_000),
    ("P-1", 1_000_000),
    ("laptop", 500_000),
    ("MUG", 250_000),
    ("T-SHIRT", 250_000),
    ("RARE-1", 3),
    ("FAIL", 1_000),
)

log = structlog.get_logger("orderstream.wiring")


def migrations(*schemas: str) -> dict[str, Path]:
    """Return the folders of migrations by schema; all of them when none is named."""
    package = Path(orderstream.__file__).parent
    return {schema: package / schema / "migrations" for schema in schemas or SCHEMAS.values()}


def prepare(settings: Settings, *services: str) -> None:
    """Set up the topics and these services' schemas. Safe to repeat. Raises Unavailable."""
    applied = migrate(settings.dsn(), migrations(*(SCHEMAS[name] for name in services)))
    topics = settings.topics
    created = Admin(settings.kafka()).create(topics.all(), settings.partitions, topics.compacted)
    if applied or created:
        log.info("set up", migrations=applied, topics=created)


def load_demo_catalogue(settings: Settings) -> bool:
    """Stock the shelves of an installation that never had any; False if there was stock."""
    database = Database(settings.dsn(), SCHEMAS["inventory"], pool_max=2)
    try:
        stock = PostgresStock(database)
        if stock.levels("", 1):
            return False
        stock.set_on_hand(DEMO_CATALOGUE)
        return True
    finally:
        database.close()


def hints_of(settings: Settings) -> Hints | None:
    """Return the Redis that spares work, where there is one."""
    return None if settings.redis_url is None else Hints(settings.redis_url.get_secret_value())


def hint_checks(hints: Hints | None) -> dict[str, Check]:
    """Return the check of it."""
    return {} if hints is None else {"redis": hints.check}


def dead_letters(settings: Settings) -> DeadLetters:
    """Return the dead letters of the cluster."""
    return DeadLetters(settings.kafka(), settings.topics, settings.kafka_group_id, utc_now)


# The order service ---------------------------------------------------------------------------


def order_app(settings: Settings) -> tuple[OrdersApi, Ending]:
    """Return the order service as an ASGI app, and what to call when it is about to end."""
    claims_database = Database(
        settings.dsn(), SCHEMAS["order"], settings.database_pool, CLAIM_PATIENCE_S
    )
    view_database = Database(settings.dsn(), SCHEMAS["view"], settings.database_pool)
    ttl = settings.reservation_ttl
    view = PostgresView(view_database, utc_now, ttl)
    waiting = Waiting(view)
    publisher = Publisher(settings.kafka())
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
    )
    keys = settings.keys()
    running: list[asyncio.Task[None]] = []
    desk = BulkDesk(
        claims,
        publisher,
        settings.topics.order_created,
        utc_now,
        settings.partitions,
        empties,
    )
    bulk = Bulk(desk, keys)
    preparing = Background(lambda: prepare(settings, "order", "view"))

    async def on_start() -> None:
        publisher.start(asyncio.get_running_loop())
        preparing.start()
        running.append(asyncio.create_task(life.run()))
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
    app, ending = order_app(settings)
    server = WebServer(app, settings.host, settings.port_order, ending, app.direct)
    spare_garbage()
    run(server.serve)
    return 0


# The stages -------------------------------------------------------------------------------


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
            stock: StockStore = PostgresStock(database)
            if hints is not None:
                stock = HintedStock(stock, hints)
            return _Parts(inventory_stage(stock, topics, settings.drill_sku), stock_routes(stock))
        case "view":
            return _Parts(view_stage(PostgresView(database), topics, decides), None)
        case "notification":
            named = settings.channels()
            stage = notification_stage(
                PostgresNotices(database),
                LogChannel() if named.to_log else None,
                named.names,
                topics,
                decides,
            )
            return _Parts(stage, None)  # Its routes know the channels, which only `serve` makes.
        case "analytics":
            counts = PostgresCounts(database)
            summaries = SummaryFeed(counts.summary)
            return _Parts(
                analytics_stage(counts, topics, decides),
                analytics_routes(counts, utc_now, summaries),
                summaries.close,
            )
        case _:
            raise KeyError(name)


@dataclass(frozen=True)
class _Sending:
    """What notification has beside its stage: it sends what the stage wrote down."""

    dispatcher: Dispatcher
    routes: APIRouter

    async def ending(self) -> None:
        """Take no more messages: the service is about to end."""
        self.dispatcher.ask_to_stop()


def sending(settings: Settings, database: Database) -> _Sending:
    """Return what sends messages. Raises ConfigurationError listing every channel at fault."""
    notices = PostgresNotices(database)
    templates = Templates(settings.templates)
    faults: list[str] = []
    if settings.templates is not None:
        try:
            templates.check()
        except ConfigurationError as error:
            faults += error.faults
    defaults = Defaults(settings.notify_email, settings.notify_phone, settings.notify_locale)
    secret = settings.webhook_secret
    channels: list[Channel] = []
    try:
        channels = channels_of(
            settings.channels(),
            read_secrets(secret.get_secret_value()) if secret else (),
            templates,
            defaults,
            utc_now,
            allow_private=settings.webhook_allow_private,
        )
    except ConfigurationError as error:
        faults += error.faults
    if faults:
        raise ConfigurationError(*faults)
    dispatcher = Dispatcher(
        notices,
        channels,
        settings.notify_waits_s,
        at_once=settings.notify_at_once,
        rate=settings.notify_rate,
        worker=settings.worker,
    )
    by_name = {channel.name: channel for channel in channels}
    routes = notice_routes(notices, by_name, templates, utc_now)
    return _Sending(dispatcher, routes)


def stage_loop(stage: Stage, settings: Settings, database: Database, metrics: StageMetrics) -> Loop:
    """Return the loop that runs a stage against Kafka."""
    group = settings.group(stage.name)
    positions = StoredPositions(database) if stage.keeps is Keeps.OFFSETS_IN_STORE else None
    source = KafkaSource(
        settings.kafka(),
        group,
        settings.worker,
        list(stage.reads),
        offset_reset=settings.kafka_auto_offset_reset,
        starts=positions,
    )
    sink = KafkaSink(
        settings.kafka(),
        f"{group}-{settings.worker}",
        source.generation,
    )
    return Loop(
        stage,
        group,
        source,
        sink,
        database,
        clock=utc_now,
        policy=RetryPolicy(settings.retry_attempts, int(settings.retry_backoff_s * 1000)),
        dead_letter_suffix=settings.dead_letter_suffix,
        metrics=metrics,
        records_max=settings.batch_records,
        positions=positions,
        answered=None if positions else Answered(database),
        forgotten=Forgotten(database),
    )


def spare_garbage() -> None:
    """Search for garbage seldom, and never in what is here for good: call it before work begins.

    Nearly all that a batch makes is freed by its reference counts. Python's default looks through
    it every 700 objects, and at times through all modules: as much work as the batch itself.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


REBUILT = frozenset({"view", "analytics"})  # Their rows are what the log says, and no more.


def replay_of(name: str, settings: Settings) -> Replay:
    """Return the replay of a stage, ours or a user's own. Raises KeyError for an unknown name."""
    if name not in SCHEMAS:
        return _replay_of_own(own_consumers(settings)[name], settings)
    database = Database(settings.dsn(), SCHEMAS[name])
    stage = stage_parts(name, settings, database).stage
    database.close()
    return Replay(
        stage.reads,
        stage.keeps,
        settings.group(stage.name),
        SCHEMAS[name],
        settings.dsn(),
        settings.kafka(),
        rebuilds=name in REBUILT,
        dead_letter_suffix=settings.dead_letter_suffix,
    )


# Consumers of a user's own -------------------------------------------------------------------


def _replay_of_own(found: Registered, settings: Settings) -> Replay:
    return Replay(
        found.reads,
        Keeps.OFFSETS_IN_KAFKA,
        found.group,
        found.schema,
        settings.dsn(),
        settings.kafka(),
        rebuilds=found.rebuild,
        dead_letter_suffix=settings.dead_letter_suffix,
        retries=found.retries,
    )


def prepare_consumer(definition: Definition, settings: Settings) -> None:
    """Set up a consumer's topics and schema. Safe to repeat.

    Raises Unavailable, and ConfigurationError for what is wrong with its tables.
    """
    topics, group = settings.topics, settings.group(definition.name)
    set_up(settings.dsn(), definition, topics, group)
    wanted = topics_of(definition, consumer_stage(definition, topics, group), topics)
    Admin(settings.kafka()).create(wanted, settings.partitions)


def consumer_loop(
    definition: Definition, settings: Settings, database: Database, metrics: StageMetrics
) -> Loop:
    """Return the loop that runs a consumer against Kafka. Raises Unavailable."""
    group = settings.group(definition.name)
    said, before = Said(database), SaidBefore(database)
    stage = consumer_stage(definition, settings.topics, group, before)
    # Kafka forgets the offsets of a group that was away for a week; the store does not.
    begins_at_end = definition.start == "end" and said.is_new()
    source = KafkaSource(
        settings.kafka(),
        group,
        settings.worker,
        list(stage.reads),
        offset_reset="latest" if begins_at_end else "earliest",
    )
    retries, backoff_s = definition.retries, definition.backoff_s
    return Loop(
        stage,
        group,
        source,
        KafkaSink(settings.kafka(), f"{group}-{settings.worker}", source.generation),
        database,
        clock=utc_now,
        policy=RetryPolicy(
            settings.retry_attempts if retries is None else retries,
            int((settings.retry_backoff_s if backoff_s is None else backoff_s) * 1000),
        ),
        dead_letter_suffix=settings.dead_letter_suffix,
        metrics=metrics,
        records_max=definition.batch,
        answered=before,
        said=said,
    )


def serve_consumer(definition: Definition, settings: Settings, port: int) -> int:
    """Run a consumer of a user's own until SIGTERM or SIGINT; return the exit code.

    1 when it had to stop: another incarnation took its place, or its tables cannot be made.
    """
    database = Database(settings.dsn(), definition.schema, settings.database_pool)
    metrics = StageMetrics(definition.name)
    background = Background(
        lambda: prepare_consumer(definition, settings),
        lambda: consumer_loop(definition, settings, database, metrics),
    )
    code = _serve_loop(definition.name, settings, port, database, background, metrics)
    database.close()
    return code


def serve_stage(name: str, settings: Settings) -> int:
    """Run one stage and its API until SIGTERM or SIGINT; return the exit code.

    1 when the stage had to stop because another incarnation took its place.
    """
    database = Database(settings.dsn(), SCHEMAS[name], settings.database_pool)
    hints = hints_of(settings) if name == "inventory" else None
    parts = stage_parts(name, settings, database, hints)
    beside = sending(settings, database) if name == "notification" else None
    metrics = StageMetrics(parts.stage.name)

    def prepared() -> None:
        prepare(settings, name)
        if beside is not None:
            beside.dispatcher.start()

    background = Background(prepared, lambda: stage_loop(parts.stage, settings, database, metrics))
    without = hint_checks(hints)
    routes = [parts.routes] if parts.routes is not None else []
    if beside is not None:
        without["channels"] = beside.dispatcher.check
        routes.append(beside.routes)
    port = settings.port(name)
    ending = parts.ending if beside is None else beside.ending
    code = _serve_loop(name, settings, port, database, background, metrics, routes, without, ending)
    if beside is not None:
        beside.dispatcher.stop()
    database.close()
    return code


def _serve_loop(
    name: str,
    settings: Settings,
    port: int,
    database: Database,
    background: Background,
    metrics: StageMetrics,
    routes: Sequence[APIRouter] = (),
    without: Mapping[str, Check] | None = None,
    ending: Ending | None = None,
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
    for some in routes:
        app.include_router(some)
    server = WebServer(app, settings.host, port, ending)
    spare_garbage()
    background.start(when_done=server.stop)
    run(server.serve)
    background.stop()
    return 1 if background.failed else 0


# The console ------------------------------------------------------------------------------

MARKERS_LEFT = 2  # Offsets of a partition that may be but the ends of its last transactions.
REPLAY_EMPTY_WITHIN_S = 30.0  # A worker ends within 6 s, and Kafka forgets it 6 s later.


def replay_held_back(name: str, settings: Settings, target: Target) -> Plan:
    """Stop a service that `orderstream up` runs here, have it read again, and start it again.

    A consumer of a user's own is the user's to stop. Raises Unavailable when no `up` runs here,
    or when the service runs elsewhere, too.
    """
    job = replay_of(name, settings)
    if name not in SCHEMAS:
        if members := job.members():
            raise Unavailable(f"{name} runs: {', '.join(members)}; stop it first")
        plan = job.plan(target)
        job.run(plan)
        return plan
    with held_back(settings.home, name):
        deadline = monotonic() + REPLAY_EMPTY_WITHIN_S
        while members := job.members():
            if monotonic() > deadline:
                raise Unavailable(
                    f"{name} still runs, elsewhere perhaps: {', '.join(members)}; nothing was done"
                )
            time.sleep(0.2)
        plan = job.plan(target)  # It may have gone on meanwhile.
        job.run(plan)
        return plan


def console_app(settings: Settings) -> ASGIApp:
    """Return the console as an ASGI app."""
    kafka, group = settings.kafka(), settings.group("console")
    keys = settings.keys()
    sessions = None if keys is None else Sessions(keys)
    services = Services({name: settings.address(name) for name in SERVICES})
    admin = Admin(kafka)
    log_reader: list[LogReader] = []

    topics = settings.topics
    letters = [name for name in topics.all() if name.endswith(topics.dead_letter_suffix)]

    def look() -> Seen:
        if not log_reader:
            log_reader.append(LogReader(kafka, group))
        log = log_reader[0]
        handled = log.partitions([*letters, topics.dead_letters_handled])
        return Seen(
            len(admin.brokers()),
            {
                service: [(lag.committed or 0, lag.behind) for lag in found]
                for service, found in lags(settings, admin, log, MARKERS_LEFT, consumers())
            },
            sum(admin.ends(handled).values()),
        )

    def key() -> str | None:
        own = settings.api_key
        if own is not None:
            return own.get_secret_value()
        return None if sessions is None else sessions.any_key()

    sampler = Sampler(services, look, key, utc_now)
    trail = Trail(kafka, settings.topic_audit, group, utc_now)
    preparing = Background(trail.create)
    running: list[asyncio.Task[None]] = []
    replays = Replays(
        lambda name, target: replay_of(name, settings).plan(target),
        lambda name, target: replay_held_back(name, settings, target),
    )
    ours = {reader.group: reader.service for reader in readers(settings)}

    def consumers() -> Sequence[Registered]:
        try:
            return list(own_consumers(settings).values())
        except (Unavailable, ConfigurationError):
            return ()  # Kafka's groups are there to look at while PostgreSQL is away.

    def own() -> Mapping[str, str]:
        return {found.group: found.name for found in consumers()}

    console = Console(
        services,
        sampler,
        TopicDesk(kafka, group),
        GroupDesk(kafka, group, ours, replays, own),
        trail,
        sessions,
        flow(topics),
        settings.topic_audit,
    )

    async def on_start() -> None:
        preparing.start()
        running.append(asyncio.create_task(sampler.run()))

    async def on_stop() -> None:
        preparing.stop()
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        await services.close()
        for reader in log_reader:
            reader.close()

    checks: dict[str, Check] = {"start": preparing.check, "kafka": Reach(kafka).check}
    app = web_app(
        "orderstream: console",
        checks,
        keys=sessions,
        on_start=on_start,
        on_stop=on_stop,
        docs=False,
    )
    problems(app)
    app.mount("/static", static_files())
    app.include_router(page_routes(sessions))
    app.include_router(console_routes(console))
    return app


def serve_console(settings: Settings) -> int:
    """Run the console until SIGTERM or SIGINT; return the exit code."""
    server = WebServer(console_app(settings), settings.host, settings.port_console)
    spare_garbage()
    run(server.serve)
    return 0
