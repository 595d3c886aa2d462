"""The console."""

import asyncio
from collections.abc import Mapping, Sequence

from orderstream.console.api import Console, console_routes, page_routes, problems, static_files
from orderstream.console.cluster import Cluster
from orderstream.console.groups import GroupDesk, Replays
from orderstream.console.metrics import KafkaMetrics
from orderstream.console.sampler import Sampler, Seen
from orderstream.console.services import Services
from orderstream.console.sessions import Sessions
from orderstream.console.topics import TopicDesk
from orderstream.console.trail import Trail
from orderstream.contract.errors import ConfigurationError, Unavailable
from orderstream.extension.registry import Registered
from orderstream.flow import SERVICES, flow
from orderstream.readers import DECIDES, lags, own_consumers, readers
from orderstream.runtime.admin import Admin, Reach
from orderstream.runtime.background import Background
from orderstream.runtime.clock import utc_now
from orderstream.runtime.garbage import spare_garbage
from orderstream.runtime.levels import logger_routes
from orderstream.runtime.log_reader import LogReader
from orderstream.runtime.observe import Check
from orderstream.runtime.server import WebServer, run
from orderstream.runtime.settings import Settings
from orderstream.runtime.traced import TracedApp
from orderstream.runtime.web import ASGIApp, web_app
from orderstream.wiring.replays import replay_held_back, replay_of
from orderstream.wiring.tracing import tracing

MARKERS_LEFT = 2  # Offsets of a partition that may be but the ends of its last transactions.


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
        found = dict(lags(settings, admin, log, MARKERS_LEFT, consumers()))
        return Seen(
            len(admin.brokers()),
            sum(lag.end for lag in found[DECIDES] if lag.topic == topics.order_created),
            found,
            sum(admin.ends(handled).values()),
        )

    def key() -> str | None:
        own = settings.api_key
        if own is not None:
            return own.get_secret_value()
        return None if sessions is None else sessions.any_key()

    sampler = Sampler(services, look, key, utc_now)
    trail = Trail(kafka, settings.topic_audit, group, utc_now, settings.replication)
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

    cluster = Cluster(kafka)
    groups = GroupDesk(kafka, group, ours, replays, cluster, own)
    console = Console(
        services,
        sampler,
        TopicDesk(kafka, group, cluster),
        groups,
        trail,
        sessions,
        flow(topics, settings.notify_received),
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
        for opened in (*log_reader, groups, cluster):
            opened.close()

    checks: dict[str, Check] = {"start": preparing.check, "kafka": Reach(kafka).check}
    app = web_app(
        "orderstream: console",
        checks,
        keys=sessions,
        on_start=on_start,
        on_stop=on_stop,
        docs=False,
        metrics_of=[KafkaMetrics(sampler, settings.group)],
    )
    problems(app)
    app.mount("/static", static_files())
    app.include_router(page_routes(sessions))
    app.include_router(console_routes(console))
    app.include_router(logger_routes())
    return app


def serve_console(settings: Settings) -> int:
    """Run the console until SIGTERM or SIGINT; return the exit code."""
    with tracing(settings, "console") as tracer:
        app = console_app(settings)
        served = app if tracer is None else TracedApp(app, tracer)
        server = WebServer(served, settings.host, settings.port_console)
        spare_garbage()
        run(server.serve)
    return 0
